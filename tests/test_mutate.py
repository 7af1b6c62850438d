"""Mutation testing: the mutants of a rule, what kills them, what survives, and the pack's own score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from keytrail import correlation_mutants, correlation_yaml, reference
from keytrail.cases import Equivalent, load_cases, load_equivalents, load_events
from keytrail.cli import main
from keytrail.conditions import parse, render
from keytrail.data import packaged
from keytrail.errors import CaseError
from keytrail.mutants import mutants
from keytrail.mutate import Mutation, Subject, View, mutate
from keytrail.pack import Rule, load_rules
from keytrail.proving import subjects
from keytrail.sequence_cases import load_sequences

RULE = """\
title: A key is disabled
id: 3f6c3f7e-6d0c-4d31-9b0e-222222222222
status: test
logsource:
    product: aws
    service: cloudtrail
detection:
    selection:
        eventSource: kms.amazonaws.com
        eventName: DisableKey
        errorCode: null
    filter_pass:
        eventType: AwsVpceEvent
    condition: selection and not filter_pass
level: high
"""
GOOD = """\
cases:
    - name: it is disabled
      event: disable_key
      match: true
    - name: another service
      event: disable_key
      set: {eventSource: example.amazonaws.com}
      match: false
    - name: another call
      event: disable_key
      set: {eventName: EnableKey}
      match: false
    - name: refused
      event: disable_key
      add: {errorCode: AccessDenied}
      match: false
    - name: it passed an endpoint
      event: disable_key
      set: {eventType: AwsVpceEvent}
      match: false
"""


def rule(detection: Mapping[str, Any]) -> Rule:
    return Rule(Path("mine.yml"), {"title": "mine", "detection": detection}, "")


def survey(detection: Mapping[str, Any], *events: Mapping[str, Any], same: tuple[str, ...] = ()) -> Mutation:
    declared = [Equivalent(name, "because", Path("cases.yml"), 7) for name in same]
    return mutate([Subject(rule(detection), [View(events)], declared)], {})


def left(found: Mutation) -> set[str]:
    return {survivor.mutant.name for survivor in found.survivors}


def names(detection: Mapping[str, Any]) -> set[str]:
    return {mutant.name for mutant in mutants({"detection": detection})}


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def site(folder: Path, cases: str = GOOD, text: str = RULE) -> tuple[str, ...]:
    (folder / "rules").mkdir()
    (folder / "cases").mkdir()
    (folder / "rules" / "mine.yml").write_text(text)
    (folder / "cases" / "mine.yml").write_text(cases)
    return ("--rules", str(folder / "rules"), "--cases", str(folder / "cases"), "--schema", "keytrail")


@pytest.mark.parametrize(
    "condition",
    ["a and not b", "a or b and c", "(a or b) and c", "not (a and b)", "1 of a* and not all of them", "not not a"],
)
def test_a_condition_is_written_down_as_it_was_read(condition: str) -> None:
    assert render(parse(condition)) == condition


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        ({"a": {"x": "1"}, "b": {"y": "2"}, "condition": "a and not b"}, "condition: drop 'not b' from 'a and not b'"),
        ({"a": {"x": "1"}, "b": {"y": "2"}, "condition": "a and not b"}, "condition: no negation in 'not b'"),
        ({"a": {"x": "1"}, "b": {"y": "2"}, "condition": "a and b"}, "condition: or instead in 'a and b'"),
        ({"a": {"x": "1"}, "b": {"y": "2"}, "condition": "a or b"}, "condition: and instead in 'a or b'"),
        ({"a": {"x": "1"}, "b": {"y": "2"}, "condition": "a and b"}, "condition: not a"),
        ({"a1": {"x": "1"}, "a2": {"y": "2"}, "condition": "1 of a*"}, "condition: all of a* instead"),
        ({"a1": {"x": "1"}, "a2": {"y": "2"}, "condition": "1 of a*"}, "condition: drop a2 from '1 of a*'"),
        ({"a": {"x": "1"}, "condition": ["a", "not a"]}, "condition: drop 'not a'"),
        ({"a": {"x": "1", "y": "2"}, "condition": "a"}, "a: drop y: 2"),
        ({"a": {"x": ["1", "2"]}, "condition": "a"}, "a: x: drop '2'"),
        ({"a": [{"x": "1"}, {"y": "2"}], "condition": "a"}, "a: drop alternative 2 (y)"),
        ({"a": [{"x": "1"}, {"y": "2"}], "condition": "a"}, "a: alternative 2 (y): y: change '2'"),
        ({"a": {"x|contains": "1"}, "condition": "a"}, "a: x|contains: startswith instead"),
        ({"a": {"x|startswith": "1/"}, "condition": "a"}, "a: x|startswith: '1/' without / at its end"),
        ({"a": {"x|contains|all": ["1", "2"]}, "condition": "a"}, "a: x|contains|all: without all"),
        ({"a": {"x|cased": "1"}, "condition": "a"}, "a: x|cased: without cased"),
        ({"a": {"x|gte": 7}, "condition": "a"}, "a: x|gte: gt instead"),
        ({"a": {"x|gte": 7}, "condition": "a"}, "a: x|gte: 7 becomes 8"),
        ({"a": {"x": 7}, "condition": "a"}, "a: x: 7 becomes 6"),
        ({"a": {"x": True}, "condition": "a"}, "a: x: change true"),
        ({"a": {"x|exists": True}, "condition": "a"}, "a: x|exists: change true"),
        ({"a": {"x": None}, "condition": "a"}, "a: x: change null to a value"),
        ({"a": {"x|re": "^a"}, "condition": "a"}, "a: x|re: '^a' without ^"),
        ({"a": {"x|re": "^a"}, "condition": "a"}, "a: x|re: '^a' matches anything"),
        ({"a": {"x|cidr": "192.0.2.0/24"}, "condition": "a"}, "a: x|cidr: change '192.0.2.0/24'"),
    ],
)
def test_each_kind_of_change_is_made(detection: Mapping[str, Any], expected: str) -> None:
    assert expected in names(detection)


def test_every_mutant_is_a_rule_of_its_own_and_the_rule_stays_as_it_is() -> None:
    for one in load_rules([packaged("rules")]).rules:
        if "detection" not in one.document:
            continue
        before = json.dumps(one.document, default=str)
        made = list(mutants(one.document))
        assert len({mutant.name for mutant in made}) == len(made)
        for mutant in made:
            assert mutant.document["detection"] != one.document["detection"], mutant.name
            assert mutant.kill
        assert json.dumps(one.document, default=str) == before


def test_what_no_case_holds_in_place_survives_and_says_which_case_would_tell() -> None:
    detection = {"a": {"x": "1", "y": None}, "b": {"z": "3"}, "condition": "a and not b"}
    found = survey(detection, {"x": "1"}, {"x": "2"}, {"x": "1", "z": "3"})
    assert left(found) == {"a: drop y: null"}
    assert found.survivors[0].mutant.kill == "a near miss in which only 'y: null' does not hold"
    assert survey(detection, {"x": "1"}, {"x": "2"}, {"x": "1", "z": "3"}, {"x": "1", "y": "2"}).ok


def test_under_a_negation_a_wider_selection_asks_for_a_match() -> None:
    detection = {"a": {"x": "1"}, "b": {"y": "2", "z": "3"}, "condition": "a and not b"}
    found = survey(detection, {"x": "1"}, {"x": "1", "y": "2", "z": "3"}, {"x": "2"})
    kills = {survivor.mutant.name: survivor.mutant.kill for survivor in found.survivors}
    assert kills["b: drop y: 2"].startswith("a match")
    assert "b: y: change '2'" not in kills


def test_an_equivalent_mutant_is_declared_and_a_stale_declaration_fails() -> None:
    detection = {"a": {"x": "1", "y": None}, "condition": "a"}
    events = ({"x": "1"}, {"x": "2"})
    assert not survey(detection, *events).ok
    good = survey(detection, *events, same=("a: drop y: null",))
    assert good.ok
    assert good.score == 1.0
    killed = survey(detection, *events, {"x": "1", "y": "2"}, same=("a: drop y: null",))
    assert [stale.why for stale in killed.stale] == ["a case tells it from the rule"]
    gone = survey(detection, *events, same=("a: drop y: null", "a: drop w: 7"))
    assert [stale.why for stale in gone.stale] == ["the rule has no such mutant"]
    assert not gone.ok


def test_nothing_to_change_is_no_success() -> None:
    assert not Mutation().ok
    assert Mutation().score == 0


def test_no_mutant_of_the_pack_survives_its_cases() -> None:
    rules = [one for one in load_rules([packaged("rules")]).rules if "detection" in one.document]
    fixtures = packaged("fixtures")
    events = load_events(fixtures / "events")
    cases = load_cases(fixtures / "cases", events)
    found = mutate(subjects(rules, cases, load_equivalents(fixtures / "cases")), events)
    assert [f"{one.rule.stem}: {one.mutant.name}" for one in found.survivors] == []
    assert found.stale == []
    assert set(found.counts) == {one.stem for one in rules}
    assert sum(made for made, _, _ in found.counts.values()) > 900


def test_a_changed_rule_of_the_pack_is_noticed_by_its_cases() -> None:
    """The other way round: the cases fail for the mutants, as they would for a mistake."""
    one = next(one for one in load_rules([packaged("rules")]).rules if one.stem == "trail_key_disabled")
    fixtures = packaged("fixtures")
    cases = [case for case in load_cases(fixtures / "cases", load_events(fixtures / "events")) if case.rule == one.stem]
    for mutant in mutants(one.document):
        meaning = reference.compile_rule(mutant.document)
        assert any(meaning(case.record) is not case.match for case in cases if case.site is None), mutant.name


CORRELATION = {
    "type": "value_count",
    "rules": ["a"],
    "group-by": ["x"],
    "timespan": "10m",
    "condition": {"field": "y", "gte": 3},
}
ORDERED = {
    "type": "temporal_ordered",
    "rules": ["a", "b", "c"],
    "group-by": ["who"],
    "aliases": {"who": {"a": "x", "b": "y", "c": "z"}},
    "timespan": "1h",
}
FORMULA = {"type": "temporal", "rules": ["a", "b", "c"], "timespan": "3s", "condition": "(a or b) and not c"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (CORRELATION, "condition: gte: 3 becomes 4"),
        (CORRELATION, "condition: gt for gte"),
        (CORRELATION, "type: event_count instead"),
        (CORRELATION, "group-by: drop x"),
        (CORRELATION, "timespan: 5m instead of 10m"),
        (CORRELATION, "timespan: 20m instead of 10m"),
        (ORDERED, "type: temporal instead"),
        (ORDERED, "rules: drop b"),
        (ORDERED, "timespan: 30m instead of 1h"),
        (FORMULA, "condition: and instead in 'a or b'"),
        (FORMULA, "condition: drop 'b' from 'a or b'"),
        (FORMULA, "condition: no negation in 'not c'"),
    ],
)
def test_each_part_of_a_correlation_is_changed(given: Mapping[str, Any], expected: str) -> None:
    made = {mutant.name: mutant for mutant in correlation_mutants.mutants({"correlation": given})}
    assert expected in made
    for mutant in made.values():
        assert correlation_yaml.read(mutant.document)
        assert mutant.document["correlation"] != given


def test_no_mutant_of_a_correlation_of_the_pack_survives_its_cases() -> None:
    rules = [one for one in load_rules([packaged("rules")]).rules if one.kind == "correlation"]
    fixtures = packaged("fixtures")
    cases = load_sequences(fixtures / "cases", load_events(fixtures / "events"))
    found = Mutation()
    correlation_mutants.mutate_correlations(rules, cases, load_equivalents(fixtures / "cases"), found)
    assert [f"{one.rule.stem}: {one.mutant.name}" for one in found.survivors] == []
    assert found.stale == []
    assert set(found.counts) == {one.stem for one in rules}


def test_a_correlation_whose_cases_are_taken_away_has_survivors() -> None:
    rule_ = next(one for one in load_rules([packaged("rules")]).rules if one.stem == "reads_across_trails")
    fixtures = packaged("fixtures")
    cases = load_sequences(fixtures / "cases", load_events(fixtures / "events"))
    few = [case for case in cases if case.rule == rule_.stem and case.match][:1]
    found = Mutation()
    correlation_mutants.mutate_correlations([rule_], few, {}, found)
    assert left(found)


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_works_on_anybodys_rules(tmp_path: Path) -> None:
    result = keytrail("test", *site(tmp_path), "--mutate")
    assert result.exit_code == 0, result.output
    assert "score 100.0%" in result.stdout


def test_a_survivor_fails_and_is_printed_with_file_line_and_the_missing_case(tmp_path: Path) -> None:
    few = GOOD.split("    - name: refused", maxsplit=1)[0]
    result = keytrail("test", *site(tmp_path, few), "--mutate")
    assert result.exit_code == 1
    assert f"{tmp_path / 'rules' / 'mine.yml'}:8:" in result.stderr
    assert "a near miss in which only 'errorCode: null' does not hold" in result.stderr
    shape = json.loads(keytrail("test", *site_again(tmp_path), "--mutate", "--format", "json").stdout)
    assert shape["ok"] is False
    assert shape["mutation"]["survivors"][0]["rule"] == "mine"
    assert keytrail("test", *site_again(tmp_path)).exit_code == 0


def site_again(folder: Path) -> tuple[str, ...]:
    return ("--rules", str(folder / "rules"), "--cases", str(folder / "cases"), "--schema", "keytrail")


def test_equivalent_mutants_are_declared_in_the_case_file(tmp_path: Path) -> None:
    text = RULE.replace("        errorCode: null", "        errorCode: null\n        readOnly|exists: true")
    more = GOOD + "equivalent:\n    - mutant: 'selection: drop readOnly|exists: true'\n      why: it is always there\n"
    result = keytrail("test", *site(tmp_path, more, text), "--mutate")
    assert result.exit_code == 0, result.output
    assert "1 declared equivalent" in result.stdout
    (tmp_path / "rules" / "mine.yml").write_text(RULE)
    stale = keytrail("test", *site_again(tmp_path), "--mutate")
    assert stale.exit_code == 1
    assert "no such mutant" in stale.stderr
    assert f"{tmp_path / 'cases' / 'mine.yml'}:" in stale.stderr


@pytest.mark.parametrize(
    "text", ["equivalent: 7\n", "equivalent:\n  - mutant: x\n", "equivalent:\n  - {mutant: x, why: ' '}\n"]
)
def test_a_declaration_without_a_reason_is_an_error(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "mine.yml").write_text(GOOD + text)
    with pytest.raises(CaseError):
        load_equivalents(folder)


def test_cases_about_a_site_kill_the_mutants_of_a_rule_that_needs_one() -> None:
    listed = yaml.safe_load((packaged("fixtures") / "cases" / "use" / "log_read_by_unlisted_reader.yml").read_text())
    assert listed["site"] == "../../site.yml"
    result = keytrail("test", "log_read_by_unlisted_reader", "--schema", "keytrail", "--mutate")
    assert result.exit_code == 0, result.output
    assert "log_read_by_unlisted_reader@example" in result.stdout


def test_a_profile_that_a_case_names_must_be_there(tmp_path: Path) -> None:
    result = keytrail("test", *site(tmp_path, f"site: ../none.yml\n{GOOD}"))
    assert result.exit_code == 2
    assert "none.yml" in result.stderr
