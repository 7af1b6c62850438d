"""The reports of ``keytrail test``: JUnit XML, SARIF and GitHub's annotations, as their readers take them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from keytrail import reports
from keytrail.cases import load_cases, load_events
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.errors import RuleError
from keytrail.mutate import Mutation
from keytrail.pack import load_rules
from keytrail.proof import Failure, Report
from keytrail.reports import CHECKS, Finding, Outcome

FIXTURES = packaged("fixtures")
RULES = [rule for rule in load_rules([packaged("rules")]).rules if rule.stem in ("key_deleted", "trail_key_disabled")]
CASES = [
    case
    for case in load_cases(FIXTURES / "cases", load_events(FIXTURES / "events"))
    if case.rule in ("key_deleted", "trail_key_disabled") and case.site is None
]
EVIL = "a\x00b\x1b[31m]]><x>&\"'\ud800 \ufffe%0A::error::x\r\n::error::y\u202e"


def keytrail(*arguments: object, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, [str(argument) for argument in arguments])


def report(*failures: Failure) -> Report:
    made = Report(cases=len(CASES), failures=list(failures))
    made.checks["keytrail", "embedded"] = 100
    made.checks["ecs", "embedded"] = 100
    return made


def outcome(*failures: Failure, **more: Any) -> Outcome:
    return Outcome(RULES, CASES, report(*failures), **more)


FAILURES = (
    Failure("key_deleted", "case and rule", "the case claims a match", str(CASES[0].path), CASES[0].line),
    Failure("trail_key_disabled", "rule and embedded", "schema ecs, event 'x': the rule says a match", "r.yml", 3),
    Failure("trail_key_disabled@example", "rule and embedded", "schema keytrail, event 'x': the rule says", "r.yml", 3),
    Failure("", "embedded and schema ecs", "no such index"),
    Failure("mine", "filter", EVIL, "my rules/mïne.yml", 0),
)


# -- JUnit --------------------------------------------------------------------------------------------------------


def check_junit(text: str) -> ElementTree.Element:
    """What the readers of JUnit XML rely on: names, counts that are true, one result a test."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    totals = {"tests": 0, "failures": 0, "errors": 0}
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.get("name")
        counted = {"tests": 0, "failures": 0, "errors": 0}
        for test in suite:
            assert test.tag == "testcase"
            assert test.get("name")
            assert test.get("classname")
            assert [child.tag for child in test] in ([], ["failure"], ["error"])
            counted["tests"] += 1
            for child in test:
                assert child.get("message")
                assert child.get("type")
                counted[f"{child.tag}s"] += 1
        assert {name: int(suite.get(name, "-1")) for name in counted} == counted
        assert len({test.get("name") for test in suite}) == len(suite)
        totals = {name: totals[name] + counted[name] for name in totals}
    assert {name: int(root.get(name, "-1")) for name in totals} == totals
    return root


def test_junit_has_a_suite_a_rule_and_a_test_for_each_case_and_engine() -> None:
    root = check_junit(reports.junit(outcome()))
    assert [suite.get("name") for suite in root] == [rule.stem for rule in RULES]
    names = {test.get("name") for test in root.iter("testcase")}
    assert {case.name for case in CASES} <= names
    assert {"ecs on embedded", "keytrail on embedded"} <= names
    assert root.get("failures") == "0"


def test_junit_puts_each_failure_where_it_belongs_and_loses_none() -> None:
    root = check_junit(reports.junit(outcome(*FAILURES)))
    failed = {(test.get("classname"), test.get("name")) for test in root.iter("testcase") if len(test)}
    assert ("key_deleted", CASES[0].name) in failed
    assert ("trail_key_disabled", "ecs on embedded") in failed
    assert ("trail_key_disabled", "keytrail on embedded") in failed
    assert root.get("failures") == str(len(FAILURES))


def test_junit_is_xml_whatever_a_rule_or_a_log_smuggles_in() -> None:
    errors = [RuleError(EVIL, path="x\x00.yml")]
    root = check_junit(reports.junit(outcome(Failure(EVIL, EVIL, EVIL, EVIL, 1), errors=errors)))
    assert root.get("errors") == "1"


# -- SARIF --------------------------------------------------------------------------------------------------------


def check_sarif(text: str) -> list[dict[str, Any]]:
    """The properties that SARIF 2.1.0 requires of what we write, and no others than it knows."""
    log = json.loads(text.encode("utf-8"))
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    assert len(log["runs"]) == 1
    run = log["runs"][0]
    assert set(run) == {"tool", "columnKind", "results"}
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    driver = run["tool"]["driver"]
    assert driver["name"] == "keytrail"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(set(ids)) == len(ids)
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    for result in run["results"]:
        assert set(result) <= {"ruleId", "ruleIndex", "level", "message", "locations"}
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert isinstance(result["message"]["text"], str)
        for location in result.get("locations", []):
            place = location["physicalLocation"]
            assert re.fullmatch(r"[!#-;=?-Z_a-z~%\[\]@]+", place["artifactLocation"]["uri"])
            assert place["region"]["startLine"] >= 1
    results: list[dict[str, Any]] = run["results"]
    return results


def test_sarif_has_a_result_for_each_failure() -> None:
    assert check_sarif(reports.sarif(outcome())) == []
    results = check_sarif(reports.sarif(outcome(*FAILURES, errors=[RuleError("broken", path="a.yml", line=4)])))
    assert [result["ruleId"] for result in results] == [
        "case",
        "divergence",
        "divergence",
        "divergence",
        "filter",
        "input",
    ]
    assert results[-1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 4}
    assert unquote(results[4]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]) == "my rules/mïne.yml"


def test_sarif_names_files_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inside = Failure("a", "case and rule", "x", str(tmp_path / "rules" / "a b.yml"), 2)
    outside = Failure("a", "case and rule", "x", "/elsewhere/a.yml", 2)
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in check_sarif(reports.sarif(outcome(inside, outside)))
    ]
    assert uris == ["rules/a%20b.yml", "file:///elsewhere/a.yml"]


# -- GitHub -------------------------------------------------------------------------------------------------------


def test_annotations_name_file_and_line_and_hold_one_line_each() -> None:
    finding = Finding("case", "a:b,c", "100%\nsure", "rules/a,b.yml", 7)
    assert list(reports.github([finding])) == [
        "::error file=rules/a%2Cb.yml,line=7,title=keytrail%3A a%3Ab%2Cc::100%25%0Asure"
    ]


def test_an_annotation_cannot_be_made_to_begin_another() -> None:
    for line in reports.github([Finding("case", EVIL, EVIL, EVIL, 1), Finding("case", EVIL, EVIL)]):
        assert "\n" not in line
        assert "\r" not in line
        assert "\x1b" not in line
        assert line.isprintable()
        assert line.startswith("::error ")


# -- what counts as success ---------------------------------------------------------------------------------------


def test_nothing_to_test_is_a_failure_in_every_report() -> None:
    nothing = Outcome([], [], Report())
    assert not nothing.ok
    assert check_junit(reports.junit(nothing)).get("failures") == "1"
    assert [result["ruleId"] for result in check_sarif(reports.sarif(nothing))] == ["nothing"]
    assert len(list(reports.github(nothing.findings))) == 1
    assert not Outcome(RULES, CASES, report(), mutation=Mutation()).ok


def test_every_finding_is_of_a_known_kind() -> None:
    assert {finding.check for finding in outcome(*FAILURES, errors=[RuleError("x")]).findings} <= set(CHECKS)


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_all_reports_and_an_exit_code(tmp_path: Path) -> None:
    junit, sarif = tmp_path / "out" / "junit.xml", tmp_path / "out" / "report.sarif"
    wanted = ("test", "key_deleted", "--schema", "keytrail", "--junit", junit, "--sarif", sarif)
    result = keytrail(*wanted)
    assert result.exit_code == 0, result.output
    assert check_junit(junit.read_text("utf-8")).get("failures") == "0"
    assert check_sarif(sarif.read_text("utf-8")) == []
    assert sorted(path.name for path in junit.parent.iterdir()) == ["junit.xml", "report.sarif"]


def test_a_failing_case_is_in_all_reports(tmp_path: Path) -> None:
    rules, cases = tmp_path / "rules", tmp_path / "cases"
    keytrail("new", "rule", "key/brand_new", "--rules", rules, "--cases", cases)
    path = cases / "key" / "brand_new.yml"
    path.write_text(path.read_text().replace("match: false", "match: true"))
    junit, sarif = tmp_path / "junit.xml", tmp_path / "report.sarif"
    wanted = ("test", "--rules", rules, "--cases", cases, "--schema", "keytrail", "--junit", junit, "--sarif", sarif)
    result = keytrail(*wanted, "--format", "json", GITHUB_ACTIONS="true")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    assert int(check_junit(junit.read_text("utf-8")).get("failures", "0")) >= 1
    assert any(found["ruleId"] == "case" for found in check_sarif(sarif.read_text("utf-8")))
    annotations = [line for line in result.stderr.splitlines() if line.startswith("::error ")]
    assert any("brand_new.yml" in line for line in annotations)
    quiet = keytrail(*wanted, "--no-github", GITHUB_ACTIONS="true")
    assert "::error " not in quiet.stderr
    asked = keytrail(*wanted, "--github", GITHUB_ACTIONS="")
    assert "::error " in asked.stderr


def test_a_report_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = keytrail("test", "key_deleted", "--schema", "keytrail", "--junit", tmp_path / "file" / "junit.xml")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_broken_rule_is_in_the_reports(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "broken.yml").write_text("title: x\ndetection: [\n")
    (rules / "key_deleted.yml").write_text(RULES[0].text if RULES[0].stem == "key_deleted" else RULES[1].text)
    sarif = tmp_path / "report.sarif"
    result = keytrail("test", "--rules", rules, "--schema", "keytrail", "--sarif", sarif)
    assert result.exit_code == 2
    assert [found["ruleId"] for found in check_sarif(sarif.read_text("utf-8"))] == ["input"]
