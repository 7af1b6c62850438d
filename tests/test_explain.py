"""Explanations: the tree says what the reference says, in the whole and in each part, and points at what decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keytrail import reference
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.correlation_explain import MOST_GROUPS, explain_correlation
from keytrail.correlation_reference import episodes
from keytrail.data import packaged
from keytrail.errors import KeytrailError
from keytrail.explain import STATES, Explainer, Explanation, Node, decided, explain
from keytrail.explanation_view import excerpt
from keytrail.filters import load_filters, narrow
from keytrail.pack import Rule, load_rules
from keytrail.paths import exists, values
from keytrail.sequence_cases import SequenceCase, load_sequences
from keytrail.times import iso

from tests.worlds import World, worlds

FIXTURES = packaged("fixtures")
DISABLED = next(rule for rule in load_rules([packaged("rules") / "key"]).rules if rule.stem == "trail_key_disabled")
EVENT = json.loads((FIXTURES / "events" / "disable_key.json").read_text())


def keytrail(*words: object, **given: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], **given)


def rule_of(detection: Mapping[str, Any]) -> Rule:
    logsource = {"product": "aws", "service": "cloudtrail"}
    return Rule(Path("mine.yml"), {"title": "Mine", "logsource": logsource, "detection": dict(detection)}, "")


# -- general ------------------------------------------------------------------------------------------------------


def evaluated(node: Node, rule: Rule, record: Mapping[str, Any]) -> bool:
    """What the reference says of a part by itself."""
    if node.line is not None:
        return reference.item(node.line.asked, node.line.wanted)(record)
    selections = {key: value for key, value in rule.document["detection"].items() if key != "condition"}
    if node.kind == "alternative":
        return all(child.holds for child in node.children)
    text = node.children[0].text if node.kind == "filter" else node.text
    return reference.matches({"detection": {**selections, "condition": text}}, record)


def check_tree(found: Explanation, rule: Rule, record: Mapping[str, Any]) -> None:
    assert found.tree.holds is found.matches is reference.matches(rule.document, record)
    for node in found.tree.walk():
        assert node.holds is evaluated(node, rule, record), node
        if node.line is not None:
            assert node.line.state in STATES
            assert (node.line.state == "holds") is node.holds
            assert list(node.line.found) == values(record, node.line.field)
            assert node.line.state not in ("absent", "null") or not exists(record, node.line.field)
    json.dumps(found.as_dict())


@settings(max_examples=30)
@given(worlds(rules_most=4, events_most=4))
def test_the_tree_says_of_each_part_what_the_reference_says(world: World) -> None:
    for document in world.rules:
        rule = rule_of(document["detection"])
        try:
            reference.compile_rule(rule.document)({})
        except (KeytrailError, ValueError):
            continue
        explainer = Explainer(rule)
        for event in world.events:
            check_tree(explainer.explain(event), rule, event)


def test_the_tree_of_each_rule_of_the_pack_says_what_the_reference_says_of_each_event() -> None:
    rules = [rule for rule in load_rules([packaged("rules")]).rules if rule.kind == "rule"]
    filters = load_filters([packaged("exclusions") / "aws_config_recorder.yml"]).filters
    events = [json.loads(path.read_text()) for path in sorted((FIXTURES / "events").glob("*.json"))[::12]]
    for rule in [narrow(rule, filters) for rule in rules]:
        try:
            explainer = Explainer(rule)
        except KeytrailError:
            assert "expand" in str(rule.document["detection"])
            continue
        for event in events:
            check_tree(explainer.explain(event), rule, event)


TREES = st.recursive(
    st.booleans().map(lambda held: Node("test", "leaf", held)),
    lambda inner: st.tuples(st.sampled_from(("and", "or", "not", "1 of a*", "all of a*")), st.lists(inner, min_size=1)),
    max_leaves=12,
)


def built(shape: Any) -> Node:
    if isinstance(shape, Node):
        return shape
    kind, parts = shape
    children = tuple(map(built, parts[: 1 if kind == "not" else None]))
    held = [child.holds for child in children]
    answer = not held[0] if kind == "not" else all(held) if kind in ("and", "all of a*") else any(held)
    return Node("of" if " of " in kind else kind, kind, answer, children)


def undecided(node: Node, answers: list[bool]) -> Node:
    """The tree with each leaf that does not decide answering something else."""
    if not node.children:
        return Node(node.kind, node.text, node.holds if node.decisive else answers.pop())
    shape = (node.text, [undecided(child, answers) for child in node.children])
    return built(shape)


@given(TREES.map(built).map(decided), st.lists(st.booleans(), min_size=200, max_size=200))
def test_what_does_not_decide_could_be_otherwise(tree: Node, answers: list[bool]) -> None:
    assume(sum(1 for _ in tree.walk()) < 200)
    assert undecided(tree, answers).holds is tree.holds
    assert any(node.decisive and not node.children for node in tree.walk())


# -- states and filters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "event", "state"),
    [
        ({"a.b": "x"}, {"a": {"b": ["y", "X"]}}, "holds"),
        ({"a.b": "x"}, {"a": {"c": "x"}}, "absent"),
        ({"a.b": "x"}, {"a": None}, "absent"),
        ({"a.b": "x"}, {"a": {"b": None}}, "null"),
        ({"a": "x"}, {"a": {"b": "x"}}, "object"),
        ({"a.b|contains": "x"}, {"a": {"b": "y"}}, "different"),
        ({"a": None}, {"a": "y"}, "present"),
        ({"a|exists": False}, {"a": "y"}, "present"),
        ({"a|neq": "x"}, {"a": "X"}, "equal"),
    ],
)
def test_a_line_says_why_it_does_not_hold(lines: dict[str, Any], event: dict[str, Any], state: str) -> None:
    found = explain(rule_of({"selection": lines, "condition": "selection"}), event)
    assert [line.state for line in found.lines] == [state]


def test_the_first_line_that_fails_decides() -> None:
    found = explain(rule_of({"selection": {"a": "x", "b": "x", "c": "x"}, "condition": "selection"}), {"a": "x"})
    assert [node.text for node in found.tree.walk() if node.decisive and node.line] == ["b"]


def filter_file(folder: Path, title: str = "The administrator's own") -> Path:
    path = folder / "mine.yml"
    shape = {
        "title": title,
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "filter": {"rules": [DISABLED.id], "own": {"eventName": "DisableKey"}, "condition": "not own"},
        "keytrail": {"owner": "the team", "reason": "ticket 4711", "expires": "2099-06-30"},
    }
    path.write_text(json.dumps(shape))
    return path


def test_a_filter_that_takes_the_event_out_is_named_with_owner_and_expiry(tmp_path: Path) -> None:
    found = explain(narrow(DISABLED, load_filters([filter_file(tmp_path)]).filters), EVENT)
    node = next(node for node in found.tree.walk() if node.exclusion is not None)
    assert (node.state, node.decisive) == ("excluded", True)
    shape = node.as_dict()["exclusion"]
    assert shape == {
        "filter": "mine",
        "title": "The administrator's own",
        "owner": "the team",
        "reason": "ticket 4711",
        "expires": date(2099, 6, 30).isoformat(),
    }
    assert found.as_dict()["excluded_by"] == [shape]
    assert found.tree.children[0].holds


def test_the_command_names_filters_and_the_profile_that_exclude(tmp_path: Path) -> None:
    event = FIXTURES / "events" / "disable_key.json"
    result = keytrail("explain", "trail_key_disabled", event, "--filter", filter_file(tmp_path))
    assert result.exit_code == 1
    assert "excluded by the filter The administrator's own (the team, until 2099-06-30)" in result.stdout
    rule = "key_policy_or_grants_enumerated"
    sited = keytrail("explain", rule, event, "--site", FIXTURES / "site.yml", "--format", "json")
    tree = json.loads(sited.stdout)[0]["tree"]
    assert {"Known administrators", "Site keys only"} <= {
        child["text"] for child in tree["children"] if child["kind"] == "filter"
    }


def test_of_several_records_each_explanation_says_of_which_it_is(tmp_path: Path) -> None:
    odd = {**EVENT, "eventID": "id\u202e[bold]", "eventName": "EnableKey", "eventTime": ["now"]}
    (tmp_path / "two.json").write_text(json.dumps([{**EVENT, "eventID": "one"}, odd]))
    result = keytrail("explain", "trail_key_disabled", tmp_path / "two.json")
    assert result.exit_code == 0
    headings = [line for line in result.stdout.splitlines() if ", record " in line]
    assert headings == [
        f"{tmp_path}/two.json, record 1: DisableKey, {EVENT['eventTime']}, one",
        f"{tmp_path}/two.json, record 2: EnableKey, ['now'], id\\u202e[bold]",
    ]
    shapes = json.loads(keytrail("explain", "trail_key_disabled", tmp_path / "two.json", "--format", "json").stdout)
    assert [(shape["path"], shape["record"], shape["event_id"]) for shape in shapes] == [
        (f"{tmp_path}/two.json", 1, "one"),
        (f"{tmp_path}/two.json", 2, "id\u202e[bold]"),
    ]
    (tmp_path / "one.json").write_text(json.dumps(EVENT))
    assert ", record " not in keytrail("explain", "trail_key_disabled", tmp_path / "one.json").stdout


# -- on a terminal ------------------------------------------------------------------------------------------------


def test_what_a_log_says_reaches_the_terminal_escaped(tmp_path: Path) -> None:
    evil = "\x1b[31m[bold red]x[/]\x07\u202e"
    path = tmp_path / "event.json"
    path.write_text(json.dumps({**EVENT, "eventName": evil}))
    result = keytrail("explain", "trail_key_disabled", path)
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold red]x[/]" in result.stdout


def test_a_line_of_the_tree_is_one_line_where_it_is_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps({**EVENT, "eventName": "x" * 5_000}))
    lines = keytrail("explain", "trail_key_disabled", path).stdout.splitlines()
    assert max(map(len, lines)) < 400
    assert sum("eventName" in line and "xxx" in line for line in lines) == 1


LONG = "a" * 3_000 + "cloudtrail.amazonaws.org" + "b" * 3_000


@pytest.mark.parametrize(
    ("wanted", "modifiers", "shown"),
    [
        ("cloudtrail.amazonaws.com", ["contains"], "cloudtrail.amazonaws.o"),
        ("*CLOUDTRAIL.amazonaws.com*", [], "cloudtrail.amazonaws.o"),
        ("a" * 3_000 + "c", ["startswith"], "aaaclou"),
        ("a" * 3_000 + "x", [], "aaaclou"),
        ("xyz", ["endswith"], "bbb"),
    ],
)
def test_a_long_value_is_shortened_to_where_it_differs(wanted: str, modifiers: list[str], shown: str) -> None:
    found = excerpt(LONG, [wanted], modifiers)
    assert shown in found
    assert len(found) < 300


@given(st.text(max_size=400), st.lists(st.text(max_size=200), max_size=3))
def test_an_excerpt_is_a_part_of_the_value(value: str, wanted: list[str]) -> None:
    for modifiers in ([], ["contains"], ["startswith"], ["endswith"]):
        found = excerpt(value, wanted, modifiers)
        assert found.removeprefix("…").removesuffix("…") in value or found == value
        assert len(found) <= 300


# -- correlations -------------------------------------------------------------------------------------------------

RULES = {rule.stem: rule for rule in load_rules([packaged("rules")]).rules}
SEQUENCES = load_sequences(FIXTURES / "cases", load_events(FIXTURES / "events"))


@pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: f"{case.rule}: {case.name}")
def test_a_correlation_is_explained_as_its_cases_say(case: SequenceCase) -> None:
    found = explain_correlation(RULES[case.rule], case.records, searched=case.searched)
    assert found.matches is found.tree.holds is case.match
    groups = [node for node in found.tree.children if node.kind == "group"]
    rules = {name: base.document for name, base in RULES[case.rule].references.items()}
    wanted = episodes(RULES[case.rule].correlation, rules, case.records, case.searched)
    hits = {
        (tuple(node.window["group"].values()), hit["from"], hit["to"])
        for node in groups
        if node.window is not None
        for hit in node.window["hits"]
    }
    assert hits == {(hit.group, iso(hit.start), iso(hit.end)) for hit in wanted}
    assert all(
        node.holds is any(hit[0] == tuple((node.window or {})["group"].values()) for hit in hits) for node in groups
    )
    json.dumps(found.as_dict())


def denied(count: int, minutes: int = 1) -> list[dict[str, Any]]:
    event = json.loads((FIXTURES / "events" / "documented_read_log_file.json").read_text()) | {
        "errorCode": "AccessDenied"
    }
    times = [f"2026-03-10T{9 + minutes * n // 60:02}:{minutes * n % 60:02}:00Z" for n in range(count)]
    return [event | {"eventTime": time, "eventID": f"id-{n}"} for n, time in enumerate(times)]


def test_what_is_missing_of_a_correlation_is_counted_in_its_fullest_window(tmp_path: Path) -> None:
    path = tmp_path / "log.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in denied(7, minutes=5)))
    result = keytrail("explain", "denied_reads_burst", path)
    assert result.exit_code == 1
    assert "log_read_denied: 7 of 7 events match" in result.stdout
    assert "3 different values of eventID (wanted: at least 10) in the fullest 10m" in result.stdout
    shape = json.loads(keytrail("explain", "denied_reads_burst", path, "--format", "json").stdout)[0]
    group = next(node for node in shape["tree"]["children"] if node["kind"] == "group")
    assert (group["window"]["count"], shape["matches"], shape["selections"]) == (3, False, {"log_read_denied": True})


def test_a_correlation_without_events_shows_the_nearest_and_those_without_a_group() -> None:
    found = explain_correlation(RULES["denied_reads_burst"], [EVENT])
    nearest = [node for node in found.tree.walk() if node.kind == "nearest"]
    assert [node.line.state for node in nearest[0].walk() if node.line and node.line.field == "eventName"] == [
        "different"
    ]
    lost = [{key: value for key, value in event.items() if key != "eventTime"} for event in denied(4)]
    found = explain_correlation(RULES["denied_reads_burst"], lost)
    assert ["4 events of log_read_denied" in node.text for node in found.tree.children if node.kind == "unplaced"] == [
        True
    ]


def test_the_missing_rule_of_a_temporal_correlation_is_named() -> None:
    found = explain_correlation(RULES["key_attack_stops_delivery"], [EVENT])
    group = next(node for node in found.tree.children if node.kind == "group")
    seen = {node.text: node.holds for node in group.children}
    assert seen["trail_key_disabled occurs"]
    assert not seen["delivery_cannot_use_key does not occur"]
    assert not found.matches


def test_groups_without_number_are_shown_up_to_a_bound() -> None:
    events = [
        event | {"userIdentity": {**event["userIdentity"], "arn": f"arn:{n}"}} for n, event in enumerate(denied(50))
    ]
    found = explain_correlation(RULES["denied_reads_burst"], events)
    assert sum(node.kind == "group" for node in found.tree.children) == MOST_GROUPS
    assert found.tree.children[-1].text == f"{50 - MOST_GROUPS} more groups"
