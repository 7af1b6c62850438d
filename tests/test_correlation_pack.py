"""The pack's correlations: complete, proven on their cases, and hunted for; and the cases themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from keytrail.cases import load_cases, load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.correlation_hunt import CorrelationHit
from keytrail.correlation_proof import in_process, meaning, prove_correlations
from keytrail.data import packaged
from keytrail.errors import CaseError
from keytrail.hunt import AnyHit, Hunt, Window, instant
from keytrail.pack import Rule, load_rules
from keytrail.proof import ElasticsearchEngine, EmbeddedEngine
from keytrail.records import Reader
from keytrail.schemas import SCHEMAS, get_schema
from keytrail.sequence_cases import START, SequenceCase, load_sequences, moved
from keytrail.times import DAY, iso

FIXTURES = packaged("fixtures")
PACK = load_rules([packaged("rules")])
CORRELATIONS = {rule.stem: rule for rule in PACK.rules if rule.kind == "correlation"}
EVENTS = load_events(FIXTURES / "events")
CASES = load_sequences(FIXTURES / "cases", EVENTS)
KEYTRAIL = get_schema("keytrail")
DIGEST, DISABLE, FAILED = "modern_deliver_digest_file", "disable_key", "modern_delivery_key_disabled"
TRAIL = "arn:aws:cloudtrail:eu-west-1:111122223333:trail/example-trail"


@pytest.mark.parametrize("rule", CORRELATIONS.values(), ids=list(CORRELATIONS))
def test_a_correlation_says_what_an_analyst_needs(rule: Rule) -> None:
    document = rule.document
    assert document["description"]
    assert document["references"]
    assert document["falsepositives"]
    assert document["level"] in ("medium", "high", "critical")
    assert document["keytrail"]["telemetry"]
    assert len(document["keytrail"]["triage"]) >= 2
    own = [case.match for case in CASES if case.rule == rule.stem]
    assert own.count(True) >= 2
    assert own.count(False) >= 2


def test_by_principal_is_two_correlations_that_differ_in_the_group_alone() -> None:
    pairs = [stem for stem in CORRELATIONS if f"{stem}_by_role" in CORRELATIONS]
    assert len(pairs) == 4
    for stem in pairs:
        user, role = CORRELATIONS[stem].correlation, CORRELATIONS[f"{stem}_by_role"].correlation
        assert user.group_by == ("userIdentity.arn",)
        assert role.group_by == ("userIdentity.sessionContext.sessionIssuer.arn",)
        assert replace(user, group_by=()) == replace(role, group_by=())


def test_the_cases_hold_in_every_schema() -> None:
    report = prove_correlations(PACK.rules, CASES, list(SCHEMAS.values()), [EmbeddedEngine()])
    assert [failure.what for failure in report.failures] == []
    assert report.cases == len(CASES)
    assert report.checks["keytrail", "embedded"] == len(CASES)
    assert sum(report.outside.values()) == 0


def test_the_cases_hold_on_a_node(cluster: Cluster) -> None:
    light = [case for case in CASES if not case.rule.startswith("key_and_trail")]
    rules = [rule for rule in PACK.rules if not rule.stem.startswith("key_and_trail")]
    report = prove_correlations(rules, light, [KEYTRAIL, get_schema("ecs-custom")], [ElasticsearchEngine(cluster)])
    assert [failure.what for failure in report.failures] == []
    assert report.checks["keytrail", "elasticsearch"] == len(light)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda case: replace(case, match=False, hits=None), "claims no hit"),
        (lambda case: replace(case, hits=2), "claims 2 hits"),
        (lambda case: replace(case, groups=frozenset({("us-east-1",)})), "in other groups"),
        (lambda case: replace(case, records=case.records[:1]), "claims a hit"),
    ],
)
def test_a_case_that_claims_too_much_fails(change: Callable[[SequenceCase], SequenceCase], says: str) -> None:
    stem = "key_attack_stops_delivery"
    case = next(case for case in CASES if case.rule == stem and case.match)
    miss = next(case for case in CASES if case.rule == stem and not case.match)
    rules = [CORRELATIONS[stem]]
    assert prove_correlations(rules, [case, miss], [KEYTRAIL], [EmbeddedEngine()]).failures == []
    failure, *_ = prove_correlations(rules, [change(case)], [KEYTRAIL], [EmbeddedEngine()]).failures
    assert says in failure.what
    assert failure.line == case.line


def test_an_engine_that_finds_other_events_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: Any) -> Any:
        return [replace(one, end=one.end + 1) for one in in_process(*given)]

    monkeypatch.setattr("keytrail.correlation_proof.in_process", wrong)
    rule = CORRELATIONS["trail_digests_silent"]
    own = [case for case in CASES if case.rule == rule.stem]
    report = prove_correlations([rule], own, [KEYTRAIL], [EmbeddedEngine()])
    assert len(report.failures) == sum(case.match for case in own)
    assert "embedded says" in report.failures[0].what


# -- cases ------------------------------------------------------------------------------------------------------------


def case_file(folder: Path, text: str) -> Path:
    (folder / "some_rule.yml").write_text(f"cases:\n  - name: one\n    match: true\n{text}")
    return folder


def test_an_event_has_its_time_and_an_id_of_its_own(tmp_path: Path) -> None:
    text = "    until: +2h\n    known: [[a, b]]\n    events:\n"
    text += "      - {event: disable_key, at: +1h30m, repeat: 3, every: +500ms, set: {awsRegion: 'r{n}'}}\n"
    text += "      - {event: disable_key, at: +0s, delivered: 2, remove: [eventID]}\n"
    [case] = load_sequences(case_file(tmp_path, text), EVENTS)
    assert [record["eventTime"] for record in case.records[:3]] == [
        iso(START + 5_400_000 + more) for more in (0, 500, 1000)
    ]
    assert [record["awsRegion"] for record in case.records[:3]] == ["r1", "r2", "r3"]
    assert len({record["eventID"] for record in case.records[:3]}) == 3
    assert case.records[3] == case.records[4]
    assert "eventID" not in case.records[3]
    assert (case.searched.start, case.searched.end) == (START, START + 7_200_000)
    assert case.searched.known == frozenset({("a", "b")})
    assert moved(case, DAY).records[0]["eventTime"] == iso(START + DAY + 5_400_000)
    assert load_cases(tmp_path, EVENTS) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("    events: [{event: disable_key}]\n", "needs at"),
        ("    events: [{event: disable_kee, at: +0s}]\n", "disable_kee"),
        ("    events: [{event: disable_key, at: 5m ago}]\n", "no time after the beginning"),
        ("    events: [{event: disable_key, at: +0s, repeat: 2}]\n", "go together"),
        ("    events: [{event: disable_key, at: +0s, repeat: 0, every: +1s}]\n", "repeat must be"),
        ("    events: [{event: disable_key, at: +0s, set: {nosuch: 1}}]\n", "nosuch"),
        ("    events: [{event: disable_key, at: +0s, when: now}]\n", "'when'"),
        ("    hits: 0\n    events: []\n", "contradict"),
        ("    groups: []\n    events: []\n", "list of groups"),
        ("    events: disable_key\n", "must be a list"),
    ],
)
def test_a_case_that_is_malformed_is_an_error_in_its_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CaseError) as caught:
        load_sequences(case_file(tmp_path, text), EVENTS)
    assert problem in caught.value.message
    assert caught.value.line is not None


# -- hunting ----------------------------------------------------------------------------------------------------------


def record(event: str, seconds: float, **changed: Any) -> dict[str, Any]:
    made = {**EVENTS[event], "eventTime": iso(START + round(seconds * 1000)), "eventID": f"{event}@{seconds}"}
    return {**made, **changed}


def logs(folder: Path, *files: Iterable[Mapping[str, Any]]) -> Reader:
    for number, records in enumerate(files):
        (folder / f"{number}.json").write_text(json.dumps({"Records": list(records)}))
    return Reader([str(folder)])


def hunted(reader: Reader, *stems: str, window: Window | None = None, known: Any = None) -> list[AnyHit]:
    rules = [rule for rule in PACK.rules if rule.stem in stems]
    return list(Hunt.prepare(rules, KEYTRAIL, known).run(reader, window or Window()))


def test_a_hunt_finds_correlations_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    reader = logs(tmp_path, [record(FAILED, 240)], [record(DISABLE, 0), record(DISABLE, 0)])
    [hit] = hunted(reader, "key_attack_stops_delivery")
    said = hit.as_dict()
    assert re.fullmatch("[0-9a-f]{32}", said.pop("alert_id"))
    assert said == {
        "rule_id": CORRELATIONS["key_attack_stops_delivery"].id,
        "rule": "key_attack_stops_delivery",
        "title": "CloudTrail Key Attacked and Delivery Fails",
        "level": "critical",
        "event_ids": [f"{DISABLE}@0", f"{FAILED}@240"],
        "events": 2,
        "group": {"awsRegion": "eu-west-1"},
        "from": iso(START),
        "to": iso(START + 240_000),
    }


def test_the_rules_of_a_correlation_keep_their_own_hits(tmp_path: Path) -> None:
    reader = logs(tmp_path, [record(FAILED, 240), record(DISABLE, 0)])
    both = hunted(reader, "key_attack_stops_delivery", "trail_key_disabled")
    assert [hit.rule.stem for hit in both] == ["trail_key_disabled", "key_attack_stops_delivery"]


def test_without_generate_the_rules_of_a_correlation_are_silent(tmp_path: Path) -> None:
    rule = CORRELATIONS["key_attack_stops_delivery"]
    correlation = {**rule.document["correlation"], "generate": False}
    quiet = replace(rule, document={**rule.document, "correlation": correlation})
    rules = [one for one in PACK.rules if one.stem in ("trail_key_disabled", "trail_stopped_or_deleted")]
    hunt = Hunt.prepare([*rules, quiet], KEYTRAIL)
    reader = logs(tmp_path, [record(FAILED, 240), record(DISABLE, 0), record("stop_logging", 1)])
    found = [hit.rule.stem for hit in hunt.run(reader)]
    assert found == ["trail_stopped_or_deleted", "key_attack_stops_delivery"]
    assert set(hunt.counts) == {rule.id, next(one.id for one in rules if one.stem in found)}


def test_a_hunt_knows_silence_up_to_where_the_logs_reach(tmp_path: Path) -> None:
    reader = logs(tmp_path, [record(DIGEST, 0), record("stop_logging", 10_801)])
    [hit] = hunted(reader, "trail_digests_silent")
    assert isinstance(hit, CorrelationHit)
    assert (hit.episode.start - START, hit.episode.end - START) == (1, 10_801_000)
    assert hunted(reader, "trail_digests_silent", window=Window(until=instant(iso(START + 10_800_001)))) == []
    assert hunted(reader, "trail_digests_silent", window=Window(since=instant(iso(START + 1000)))) == []
    wide = Window(instant("2020-01-01"), instant("2030-01-01"))
    assert hunted(reader, "trail_digests_silent", window=wide) == [hit]
    (tmp_path / "later").mkdir()
    assert hunted(logs(tmp_path / "later", [record(DIGEST, 0)]), "trail_digests_silent") == []


def test_a_profile_knows_trails_that_never_sealed_a_digest(tmp_path: Path) -> None:
    rule = CORRELATIONS["trail_digests_silent"]
    reader = logs(tmp_path, [record("stop_logging", 0), record("stop_logging", 10_801)])
    known = {rule.id: frozenset({(TRAIL,)})}
    [hit] = hunted(reader, rule.stem, known=known, window=Window(since=instant("2020-01-01")))
    assert (hit.as_dict()["from"], hit.as_dict()["to"]) == (iso(START), iso(START + 10_801_000))
    assert hit.as_dict()["group"] == {"requestParameters.encryptionContext.aws:cloudtrail:arn": TRAIL}
    assert hunted(reader, rule.stem) == []


def test_a_hunt_and_the_reference_find_the_same_in_all_cases_at_once(tmp_path: Path) -> None:
    own = [moved(case, number * 400 * DAY) for number, case in enumerate(CASES) if not case.searched.known]
    records = [one for case in own for one in case.records]
    files = [records[number::3][::-1] for number in range(3)]
    hits = [one for one in hunted(logs(tmp_path, *files), *CORRELATIONS) if isinstance(one, CorrelationHit)]
    for case in own:
        if not CORRELATIONS[case.rule].correlation.rising:
            continue  # what is silent depends on how far the logs reach
        within = [
            one.episode
            for one in hits
            if one.rule.stem == case.rule and case.searched.start <= one.episode.start <= case.searched.end
        ]
        assert within == meaning(CORRELATIONS[case.rule], case), case.name


# -- commands ---------------------------------------------------------------------------------------------------------


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_hunts_for_correlations(tmp_path: Path) -> None:
    logs(tmp_path, [record(FAILED, 240), record(DISABLE, 0)])
    shape = json.loads(keytrail("hunt", tmp_path, "--format", "json").stdout)
    rule = CORRELATIONS["key_attack_stops_delivery"]
    assert shape["counts"][rule.id] == 1
    [hit] = [hit for hit in shape["hits"] if hit["rule"] == rule.stem]
    assert "event_id" not in hit
    assert hit["group"] == {"awsRegion": "eu-west-1"}
    table = keytrail("hunt", tmp_path, "--fail-on", "critical")
    assert table.exit_code == 1
    assert "2 events until" in table.stdout


def test_the_command_converts_a_correlation_to_its_plan() -> None:
    result = keytrail("convert", "bulk_log_decrypt", "--schema", "ecs", "--format", "json")
    assert result.exit_code == 0
    [shape] = json.loads(result.stdout)
    assert shape["verdict"] == "exact if"
    assert set(shape["query"]) == {"correlation", "rules", "steps"}
    refused = keytrail("convert", "trail_digests_silent", "--schema", "ecs")
    assert refused.exit_code == 1
    assert "trail_digests_silent.yml" in refused.stderr
    assert "hide that there is none" in refused.stderr


def test_the_command_tests_a_correlation() -> None:
    result = keytrail("test", "key_attack_stops_delivery", "--schema", "keytrail", "--format", "json")
    shape = json.loads(result.stdout)
    assert shape["ok"] is True
    assert shape["cases"] == sum(case.rule == "key_attack_stops_delivery" for case in CASES)
    assert result.exit_code == 0
