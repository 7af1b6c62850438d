"""The report: what it says of the hits, in how much memory, and that nothing of a log becomes a part of the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail import __version__
from keytrail.cli import main
from keytrail.correlation import Episode
from keytrail.correlation_hunt import CorrelationHit
from keytrail.data import packaged
from keytrail.errors import RecordError, UsageError
from keytrail.filters import load_filters, narrow
from keytrail.hunt import AnyHit, Hit, Hunt
from keytrail.pack import Rule, load_rules
from keytrail.records import Reader
from keytrail.report import About, Findings, render, write_report
from keytrail.report.counting import DAY, HOUR, Times, Top
from keytrail.report.facts import facts
from keytrail.report.incidents import FIRST, LAST, MOST_INCIDENTS
from keytrail.report.pulse import READ_RULES, TRAIL_NAMES, TRAIL_RULES, UNDER_BUCKET_KEY, PulseTaker
from keytrail.schemas import get_schema
from keytrail.summary import Summary
from keytrail.times import milliseconds

FIXTURES = packaged("fixtures")
SAMPLE = FIXTURES / "sample"
GOLDEN = FIXTURES / "report.html"
RULES = load_rules([packaged("rules")]).rules
RULE = {rule.stem: rule for rule in RULES}
ABOUT = About("keytrail hunt AWSLogs/ --report report.html", generated=datetime(2026, 11, 25, tzinfo=timezone.utc))
EVENT: dict[str, Any] = json.loads((FIXTURES / "events" / "disable_key.json").read_text("utf-8"))
DELIVERY: dict[str, Any] = json.loads((FIXTURES / "events" / "modern_deliver_log_file.json").read_text("utf-8"))
READ: dict[str, Any] = json.loads((FIXTURES / "events" / "modern_read_log_file.json").read_text("utf-8"))
HTML = "{http://www.w3.org/1999/xhtml}"


def summary(findings: Findings, **more: Any) -> Summary:
    records = findings.counts.total()
    return Summary(findings.counts, more.pop("refused", {}), records, 1, records, **more)


def page(hits: Iterable[AnyHit], rules: list[Rule] = RULES, about: About = ABOUT, **more: Any) -> str:
    findings = Findings(rules)
    findings.take_all(hits)
    return render(findings, summary(findings, **more), about)


def hit(stem: str = "trail_key_disabled", event: Mapping[str, Any] = EVENT, number: int = 1, **changes: Any) -> Hit:
    return Hit(RULE[stem], {**event, **changes}, "logs/a.json.gz", number)


def text_of(html: str) -> str:
    return " ".join(" ".join(html5lib.parse(html).find(f".//{HTML}body").itertext()).split())


# -- what it says -------------------------------------------------------------------------------------------------


def small() -> str:
    """A page with one of everything."""
    calls = [
        hit(eventID="one", eventTime="2026-11-20T10:00:00Z"),
        hit("trail_stopped_or_deleted", eventID="two", eventTime="2026-11-20T10:20:00Z", eventName="StopLogging"),
        hit("log_file_sealed", DELIVERY, eventTime="2026-11-20T10:05:00Z"),
        hit("encrypted_log_file_read", READ, eventTime="2026-11-20T10:06:00Z"),
    ]
    start, end = (milliseconds(f"2026-11-20T10:{minute}:00Z") or 0 for minute in ("00", "20"))
    incident = CorrelationHit(RULE["key_and_trail_tampered"], Episode(("arn:x",), start, end, ("one", "two"), 2))
    bad = [RecordError("nothing but white space", path="logs/b.json", line=1, hint="is it whole?")]
    refused = {RULE["log_read_by_unlisted_reader"].id: "the rule needs a site profile"}
    blind = {RULE["log_objects_deleted"].id: "no data events of s3.amazonaws.com were read"}
    doubtful = {RULE["key_deleted"].id: "it is cut"}
    return page([*calls, incident], refused=refused, bad=bad, bad_count=1, blind=blind, doubtful=doubtful)


def markup(html: str) -> str:
    """The page without its style, and for any version."""
    html = re.sub(r"<style>.*?</style>", "<style></style>", html, flags=re.DOTALL)
    return re.sub(r"sha256-[\w+/=]+", "sha256-", html).replace(f"Keytrail {__version__}", "Keytrail VERSION")


def test_a_small_report_is_as_it_was_reviewed() -> None:
    assert markup(small()) == GOLDEN.read_text("utf-8"), "review it: python -m tests.test_report writes it anew"


def test_the_same_hits_give_the_same_page() -> None:
    assert small() == small()


def sample_page() -> str:
    hunt, reader = Hunt.prepare(RULES, get_schema("keytrail")), Reader([str(SAMPLE)])
    findings = Findings(RULES)
    findings.take_all(hunt.run(reader))
    return render(findings, Summary.of(hunt, reader), ABOUT)


def test_the_sample_shows_its_attack() -> None:
    said = text_of(sample_page())
    assert "4 incidents and 19 hits of level high or critical" in said
    assert "DisableKey CloudTrail Key Disabled" in said
    assert "GenerateDataKey × 5" in said  # the failed deliveries in a row are one line
    assert "6 failed deliveries" in said
    assert "Digests: hourly" in said
    assert "37 chargeable Decrypt calls" in said
    assert "requestParameters.encryptionContext.aws:cloudtrail:arn|exists" in said


def test_what_could_not_be_read_or_asked_is_said_with_what_to_do() -> None:
    said = text_of(small())
    assert "1 input could not be read" in said
    assert "logs/b.json:1 nothing but white space" in said
    assert "log_read_by_unlisted_reader refused the rule needs a site profile Learn a site profile" in said
    assert "key_deleted doubtful it is cut" in said
    assert "log_objects_deleted blind no data events of s3.amazonaws.com were read Log these events" in said


def test_an_empty_report_says_that_nothing_was_read() -> None:
    said = text_of(page([]))
    assert "no hit at all" in said
    assert "Not one record was read" in said


def test_the_first_hits_of_a_rule_are_kept_and_the_rest_counted() -> None:
    said = text_of(page(hit(number=number, eventID=f"id {number}") for number in range(1, 101)))
    assert "20 of 100 hits are shown" in said
    assert "id 20" in said
    assert "id 21" not in said


def test_incidents_of_the_same_events_are_one_and_long_ones_are_cut() -> None:
    ids = tuple(f"id {number:04}" for number in range(500))
    calls: list[AnyHit] = [hit(eventID=name, eventName=f"Call {name}") for name in ids]
    for stem in ("key_and_trail_tampered", "key_and_trail_tampered_by_role"):
        calls.append(CorrelationHit(RULE[stem], Episode(("a group",), 0, 1000, ids, 500)))
    html = page(calls)
    section = re.search(r'<h2 id="incidents">.*?</section>', html, re.DOTALL)
    assert section is not None
    assert section[0].count("<article") == 1
    assert section[0].count("Call id") == FIRST + LAST
    assert f"{500 - FIRST - LAST} more events" in section[0]
    assert section[0].index("Call id 0039") < section[0].index("more events") < section[0].index("Call id 0490")


def test_of_many_incidents_the_first_are_shown_and_all_are_counted() -> None:
    many = (
        CorrelationHit(RULE["trail_digests_silent"], Episode((f"trail {number}",), number, number + 1, (), 0))
        for number in range(MOST_INCIDENTS + 7)
    )
    said = text_of(page(many))
    assert f"{MOST_INCIDENTS + 7} incidents" in said
    assert "7 more are counted" in said
    assert "No event in all that time" in said


def test_a_part_of_an_event_is_not_explained_as_if_it_were_the_whole() -> None:
    class Partial(Hit):
        def as_dict(self) -> dict[str, Any]:
            return {**super().as_dict(), "record": None}

    said = text_of(page([Partial(RULE["trail_key_disabled"], EVENT, "index", 0)]))
    assert "Not explained: the index gave back a part of the event only" in said


def test_the_hits_of_a_rule_are_in_the_order_of_time() -> None:
    hours = ("11", "09", "10")
    html = page(hit(eventID=f"at {hour}", eventTime=f"2026-11-20T{hour}:00:00Z") for hour in hours)
    assert re.findall(r"at (\d\d)<", html) == ["09", "10", "11"]


def test_an_explanation_says_each_part_once_and_a_filters_parts_by_their_own_names(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    keytrail("hunt", SAMPLE, "--site", FIXTURES / "site.yml", "--report", out)
    said = text_of(out.read_text("utf-8"))
    assert "the filter Site keys only" in said
    assert "✓ own_resource" in said
    assert "not not" not in said
    assert "_filt_" not in said


def test_what_decides_of_a_long_explanation_may_go_over_pages_and_on_paper_the_first_hits_are_open() -> None:
    style = small().partition("@media print")[2].partition("</style>")[0]
    whole = re.findall(r"([^{}]*)\{break-inside:avoid\}", style)[0].split(",")
    assert ".tree li:not(:has(ul))" in whole
    assert ".tree li" not in whole
    assert "details:nth-of-type(-n+4)::details-content" in style


# -- trails and readers -------------------------------------------------------------------------------------------


def test_a_trail_of_the_site_of_which_nothing_was_seen_is_told_first(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    keytrail("hunt", SAMPLE, "--site", FIXTURES / "site.yml", "--report", out)
    section = re.search(r'<h2 id="trails">.*?</section>', out.read_text("utf-8"), re.DOTALL)
    assert section is not None
    names = re.findall(r'<h3 class="mono">([^<]*)</h3>', section[0])
    arn = "arn:aws:cloudtrail:{}:111122223333:trail/{}"
    silent = [arn.format("eu-west-1", "example-trail"), arn.format("us-west-2", "Default")]
    assert names == [*silent, arn.format("us-west-2", "example-trail")]
    assert section[0].count("Nothing was seen of this trail") == 2


def test_what_a_filter_or_a_missing_rule_leaves_uncounted_is_said(tmp_path: Path) -> None:
    reads, trails = RULE["encrypted_log_file_read"], RULE["log_file_sealed"]
    document = {
        "title": "The collector",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "filter": {"rules": [reads.id], "mine": {"awsRegion": "us-west-2"}, "condition": "not mine"},
        "keytrail": {"owner": "the team", "reason": "ticket 4711", "expires": "2099-06-30"},
    }
    (tmp_path / "mine.yml").write_text(json.dumps(document))
    narrowed_reads = narrow(reads, load_filters([tmp_path / "mine.yml"]).filters)
    assert "Not all is counted here" not in text_of(page([]))
    said = text_of(page([], [narrowed_reads, RULE["log_decrypted_outside_s3"], trails]))
    assert (
        "Not all is counted here: encrypted_log_file_read does not see what is excluded from it: The collector." in said
    )
    assert "digest_file_sealed is none of this hunt's rules" in said
    assert "log_file_sealed is none" not in said
    refused = text_of(page([], refused={trails.id: "it cannot be asked"}))
    assert "Not all is counted here: log_file_sealed was refused." in refused


def test_the_rules_that_trails_are_followed_by_are_those_of_the_pack() -> None:
    names = {rule.id: rule.stem for rule in RULES}
    sealed = ["log_file_sealed", "digest_file_sealed", "trail_encryption_validated", "delivery_cannot_use_key"]
    assert [names[rule_id] for rule_id in TRAIL_RULES] == sealed
    assert {names[rule_id] for rule_id in READ_RULES} == {
        "encrypted_log_file_read",
        "log_decrypted_outside_s3",
        "digest_read_by_person",
        "cross_account_log_read",
    }
    assert all(names[rule_id] == name for rule_id, name in {**TRAIL_NAMES, **READ_RULES}.items())
    assert names[UNDER_BUCKET_KEY] == "delivery_under_bucket_key"


def taken(*hits: Hit) -> PulseTaker:
    taker = PulseTaker()
    for one in hits:
        taker.take(one.rule.id, one.record, facts(one))
    return taker


def delivery(minute: int, name: str | None = None, stem: str = "log_file_sealed") -> Hit:
    time = f"2026-11-20T{minute // 60:02}:{minute % 60:02}:00Z"
    return hit(stem, DELIVERY, eventTime=time, eventID=name or f"{stem} {minute}")


def test_gaps_are_those_in_time_whatever_the_order_and_a_doubled_event_is_one() -> None:
    minutes = [5, 0, 10, 100, 15, 105]
    (trail,) = taken(*map(delivery, minutes), delivery(10)).pulses().trails
    assert trail.logs.count == 6
    assert trail.logs.median == 5 * 60_000
    assert trail.logs.told == [(85 * 60_000, milliseconds("2026-11-20T00:15:00Z"))]
    assert trail.logs.since(milliseconds("2026-11-20T02:00:00Z")) == 15 * 60_000


def test_every_unusual_gap_is_told_up_to_five_the_longest_first() -> None:
    gaps = [5] * 30 + [60] + [5] * 5 + [180, 11, 7, 60, 180, 60, 60]
    minutes = [sum(gaps[:count]) for count in range(len(gaps) + 1)]
    (trail,) = taken(*map(delivery, minutes)).pulses().trails
    assert [length // 60_000 for length, _ in trail.logs.told] == [180, 180, 60, 60, 60]
    began = [begin for _, begin in trail.logs.told]
    assert began[0] < began[1]
    assert began[2:] == sorted(began[2:])
    (even,) = taken(*map(delivery, range(0, 100, 5))).pulses().trails
    assert [length // 60_000 for length, _ in even.logs.told] == [5]


@pytest.mark.parametrize(
    ("minutes", "until", "said"),
    [
        ([0, 60, 120], 150, "hourly"),
        ([0, 60, 240], 250, "missing for 3 h after 2026-11-20T01:00:00Z"),
        ([0, 60], 240, "missing for 3 h after 2026-11-20T01:00:00Z"),
        ([], 240, "none"),
        ([], 30, "none, in less than the hour and a half that would tell"),
    ],
)
def test_digests_are_hourly_or_missing(minutes: list[int], until: int, said: str) -> None:
    digests = [delivery(minute, stem="digest_file_sealed") for minute in minutes]
    (trail,) = taken(delivery(0), *digests).pulses().trails
    assert trail.digests_said((milliseconds("2026-11-20T00:00:00Z") or 0) + until * 60_000) == said


def test_a_call_is_paid_once_however_many_rules_and_files_have_it_and_not_when_it_fails() -> None:
    read = hit("encrypted_log_file_read", READ, eventID="a")
    pulses = taken(
        read,
        read,
        hit("cross_account_log_read", READ, eventID="a"),
        hit("digest_read_by_person", READ, eventID="b"),
        hit("log_decrypted_outside_s3", READ, eventID="c", errorCode="AccessDenied"),
        hit("log_file_sealed", DELIVERY),
    ).pulses()
    assert pulses.calls == 2
    assert [reader.calls for reader in pulses.readers] == [2]
    assert pulses.dollars == pytest.approx(2 * 0.03 / 10_000)


# -- bounds -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30).map(str), max_size=400), st.integers(1, 12))
def test_a_count_of_the_top_is_never_too_high_and_too_low_by_what_is_said_at_most(
    values: list[str], capacity: int
) -> None:
    top, true = Top(capacity), Counter(values)
    for value in values:
        top.add(value, "low")
    found = {value: count for value, count, _ in top.most(1000)}
    assert len(found) <= 2 * capacity
    assert all(count <= true[value] for value, count in found.items())
    assert all(true[value] - found.get(value, 0) <= top.missed for value in true)
    assert top.others(3) == len(values) - sum(count for _, count, _ in top.most(3))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-(10**11), 10**13)), max_size=200), st.integers(20, 60))
def test_times_keep_every_count_in_bounds(events: list[tuple[str, int]], most: int) -> None:
    times = Times(most)
    for rule, moment in events:
        times.add(rule, moment)
    bars = times.bars(96)
    assert bars.number <= 96
    assert sum(map(sum, bars.rows.values())) + bars.outside == len(events)
    assert bars.outside <= len(events) // 100


def test_one_wrong_time_does_not_press_all_others_into_one_bar() -> None:
    times = Times()
    for hour in range(500):
        times.add("a", 20_000 * DAY + hour * HOUR // 10)
    times.add("a", 0)
    bars = times.bars(96)
    assert bars.outside == 1
    assert bars.width <= HOUR


def test_memory_does_not_grow_with_the_hits() -> None:
    findings = Findings(RULES)
    for number in range(5000):
        user = {"type": "IAMUser", "arn": f"arn:{number}", "x": "y" * 2000}
        findings.take(hit(number=number, eventID=f"{number}", userIdentity=user, sourceIPAddress=f"{number}"))
    assert sum(map(len, findings.kept.values())) == 20
    assert findings.principals.distinct() is None
    html = render(findings, summary(findings), ABOUT)
    assert len(html) < 300_000
    assert "these counts may be too low by" in html


# -- nothing of a log is a part of the page -----------------------------------------------------------------------

TAGS = (
    "html head meta title style body header main section article footer nav h1 h2 h3 h4 p a ul ol li dl dt dd div "
    "span strong code br time table caption thead tbody tr th td figure figcaption details summary svg path rect desc"
)
ATTRIBUTES = (
    "charset http-equiv content name lang class id href scope role tabindex aria-label aria-labelledby aria-hidden "
    "viewBox preserveAspectRatio d width height"
)
VALUE = re.compile(r"[\w ,.:;'#=+%/\-]*")


def elements(html: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What a browser makes of the page: each element's name and attributes."""
    for element in html5lib.parse(html).iter():
        if isinstance(element, Element) and isinstance(element.tag, str):
            yield element.tag.rpartition("}")[2], dict(element.attrib)


def check_page(html: str) -> list[str]:
    """Check that a page has nothing but what the template has; return the names of its elements."""
    found = list(elements(html))
    for tag, attributes in found:
        assert tag in TAGS.split()
        assert set(attributes) <= set(ATTRIBUTES.split()), (tag, attributes)
        assert all(VALUE.fullmatch(value) for value in attributes.values()), (tag, attributes)
        assert attributes.get("href", "#").startswith("#")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    metas = [attributes for tag, attributes in found if tag == "meta"]
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in metas
    assert all(c.isprintable() or c == "\n" for c in html)
    return [tag for tag, _ in found]


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><script>",
        "javascript:alert(1)",
        "--><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% include 'x' %}",
        "' onmouseover='alert(1)",
        "\u202egnp.exe",
        "\x1b[31m",
        "\ud800",
        "</title><base href=//x>",
        "\x00",
        "</svg></desc><a href=javascript:x>",
    ]
)


def replaced(node: Any, texts: Iterator[str]) -> Any:
    """The record with another text in the place of each of its own, the time aside."""
    if isinstance(node, dict):
        return {key: value if key == "eventTime" else replaced(value, texts) for key, value in node.items()}
    if isinstance(node, list):
        return [replaced(one, texts) for one in node]
    return next(texts) if isinstance(node, str) else node


def hostile_hits(texts: list[str]) -> Iterator[AnyHit]:
    # Half a character is refused when a file is read; names of files can have one all the same.
    whole = [text.encode("utf-8", "replace").decode() for text in texts]
    endless = (text for _ in range(100) for text in whole)
    for stem, event in (
        ("trail_key_disabled", EVENT),
        ("log_file_sealed", DELIVERY),
        ("encrypted_log_file_read", READ),
    ):
        record = replaced({**event, "errorCode": "x"} if stem == "trail_key_disabled" else event, endless)
        yield Hit(RULE[stem], record, texts[-1], 1)
    yield CorrelationHit(RULE["key_and_trail_tampered"], Episode((next(endless),), 0, 1, (whole[0], "none"), 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_TEXT, min_size=3, max_size=40))
def test_no_text_of_a_record_becomes_an_element_or_an_attribute(texts: list[str]) -> None:
    bad = [RecordError(texts[0], path=texts[1], hint=texts[2])]
    more: dict[str, Any] = {"bad": bad, "bad_count": 1, "refused": {RULE["log_objects_deleted"].id: texts[1]}}
    about = About(texts[0], texts[1], [texts[2]], texts[0], ABOUT.generated)
    check_page(page(hostile_hits(texts), about=about, **more))


def test_a_hostile_page_has_the_elements_of_a_harmless_one() -> None:
    evil = [f'"><script>{number}</script>\u202e\x1b' for number in range(60)]
    harmless = [f"text {number}" for number in range(60)]
    assert check_page(page(hostile_hits(evil))) == check_page(page(hostile_hits(harmless)))


def test_a_rule_cannot_write_into_the_page_either() -> None:
    evil = "<script>alert(1)</script>\u202e"
    document = {**RULE["trail_key_disabled"].document, "title": evil, "description": evil, "falsepositives": [evil]}
    document["keytrail"] = {"triage": [evil]}
    rule = Rule(Path(f"{evil}.yml"), document, "")
    html = page([Hit(rule, EVENT, "a.json", 1)], [rule])
    check_page(html)
    assert html.count("&lt;script&gt;") > 4


def test_what_cannot_be_seen_is_written_out() -> None:
    said = text_of(page([hit(sourceIPAddress="a\u202eb\x1bc\u200bd\u3164e\x85")]))
    assert r"a\u202eb\x1bc\u200bd\u3164e\x85" in said


# -- the look -----------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_can_be_read_on_every_ground_in_the_light_and_in_the_dark() -> None:
    style = re.findall(r"<style>(.*?)</style>", small(), re.DOTALL)[0]
    themes = [dict(re.findall(r"--([a-z]+):(#[0-9a-f]{6})", block)) for block in re.findall(r":root\{[^}]*\}", style)]
    assert len(themes) == 2
    for theme in themes:
        grounds = [theme.pop(name) for name in ("paper", "card", "wash")]
        theme.pop("line")
        assert len(theme) == 10
        for name, colour in theme.items():
            for ground in grounds:
                low, high = sorted((luminance(colour), luminance(ground)))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, colour, ground)


def test_the_chart_has_a_title_a_description_and_a_table() -> None:
    root = html5lib.parse(small())
    svg = root.find(".//{http://www.w3.org/2000/svg}svg")
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    assert svg.get("role") == "img"
    assert set(svg.get("aria-labelledby").split()) <= ids
    links = {element.get("href").removeprefix("#") for element in root.iter(f"{HTML}a")}
    assert links <= ids
    assert "The chart as a table" in text_of(small())


# -- the file -----------------------------------------------------------------------------------------------------


def keytrail(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


def test_hunt_writes_a_report_of_what_it_read(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"Records": [{"eventName": ')
    out = tmp_path / "deep" / "report.html"
    result = keytrail("hunt", SAMPLE, tmp_path / "cut.json", "--report", out, SOURCE_DATE_EPOCH="1800000000")
    assert result.exit_code == 2  # for the broken file; the report is written all the same
    html = out.read_text("utf-8")
    check_page(html)
    said = text_of(html)
    assert "generated2027-01-15T08:00:00Z" in said.replace(" ", "")
    assert "cut.json" in said
    assert "1 input could not be read" in said
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    folder.mkdir()
    findings = Findings(RULES)
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(folder, findings, summary(findings), ABOUT)
    assert list(tmp_path.iterdir()) == [folder]
    assert keytrail("hunt", SAMPLE, "--report", folder).exit_code == 2


def test_a_time_of_making_that_is_none_is_named() -> None:
    result = keytrail("hunt", SAMPLE, "--report", "never.html", SOURCE_DATE_EPOCH="yesterday")
    assert result.exit_code == 2
    assert "SOURCE_DATE_EPOCH" in result.stderr
    assert not Path("never.html").exists()


if __name__ == "__main__":
    GOLDEN.write_text(markup(small()), "utf-8")
