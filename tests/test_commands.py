"""The commands as a person uses them: what they print, write and refuse, and their exit codes."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.pack import load_rules

SAMPLE = packaged("fixtures") / "sample"
RULE = """\
title: Somebody asks for data keys
id: 3f6c3f7e-6d0c-4d31-9b0e-111111111111
status: test
logsource:
    product: aws
    service: cloudtrail
detection:
    selection:
        eventSource: kms.amazonaws.com
        {field}: {value}
    condition: {condition}
level: high
"""


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rule_file(
    folder: Path, field: str = "eventName", value: str = "GenerateDataKey", condition: str = "selection"
) -> Path:
    path = folder / "mine.yml"
    path.write_text(RULE.format(field=field, value=value, condition=condition))
    return path


def hits(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["hits"]
    return found


def test_the_demo_proves_the_pack_and_hunts_in_the_sample() -> None:
    result = keytrail("demo")
    assert result.exit_code == 0, result.output
    assert "0 failures" in result.stdout
    # The README shows parts of it.
    printed = [cells(line) for line in result.stdout.splitlines()]
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    shown = readme[readme.index("Verdicts\n") : readme.index("\n```", readme.index("Verdicts\n"))]
    wanted = [cells(line) for line in shown.splitlines() if line.strip(" ─…")]
    assert len(wanted) == 20
    assert [row for row in wanted if not any(found[: len(row)] == row for found in printed)] == []


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_rules_lists_every_rule_file_of_the_pack() -> None:
    listed = json.loads(keytrail("rules", "--json").stdout)
    assert sorted(rule["stem"] for rule in listed) == sorted(
        rule.stem for rule in load_rules([packaged("rules")]).rules
    )


def test_an_unknown_rule_is_named_and_nothing_is_printed() -> None:
    result = keytrail("rules", "no_such_rule")
    assert result.exit_code == 2
    assert "no_such_rule" in result.stderr
    assert not result.stdout


def test_convert_prints_the_query_and_the_verdict_apart() -> None:
    result = keytrail("convert", "trail_key_disabled", "--schema", "keytrail")
    assert result.exit_code == 0
    assert "bool" in json.loads(result.stdout)["query"]
    assert "exact" in result.stderr


def test_a_refused_rule_is_named_with_its_field_and_makes_the_exit_code_1() -> None:
    result = keytrail("convert", "management_events_off", "--schema", "ecs")
    assert result.exit_code == 1
    assert "requestParameters.eventSelectors.readWriteType" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("eventNmae", "GenerateDataKey", "eventNmae"),
        ("eventName|nosuch", "x", "nosuch"),
        ("eventName|fieldref", "requestParameters", "requestParameters is an object"),
        ("requestParameters.a|re", "'(?=x)'", "lookaround"),
    ],
)
def test_what_a_rule_cannot_say_is_a_named_error_with_file_and_line(
    tmp_path: Path, field: str, value: str, named: str
) -> None:
    path = rule_file(tmp_path, field, value)
    result = keytrail("convert", path, "--schema", "keytrail")
    assert result.exit_code in (1, 2)
    assert named in result.stderr
    assert f"{path}:" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("eventName:", "eventName|bogus:", "eventName"),
        ("eventName:", "eventName|re: 'a['\n        x:", "eventName"),
        ("level: medium", "level: medum", "level"),
        ("condition: selection", "condition: selection and (", "condition"),
        ("status: experimental", "status: exprimental", "status"),
    ],
)
def test_what_sigma_does_not_take_is_named_with_the_line_that_has_it(
    tmp_path: Path, before: str, after: str, line: str
) -> None:
    text = (packaged("rules") / "key" / "trail_key_disabled.yml").read_text("utf-8")
    assert before in text
    path = tmp_path / "mine.yml"
    path.write_text(text.replace(before, after, 1), "utf-8")
    place = next(n for n, one in enumerate(path.read_text("utf-8").splitlines(), 1) if one.strip().startswith(line))
    for words in (["convert", path], ["hunt", SAMPLE, "--rules", path]):
        result = keytrail(*words)
        assert result.exit_code == 2
        assert f"error: {path}:{place}: " in result.stderr


def test_a_selector_that_selects_nothing_is_an_error(tmp_path: Path) -> None:
    result = keytrail("convert", rule_file(tmp_path, condition="selection and 1 of filter_*"))
    assert result.exit_code == 2
    assert "selects nothing" in result.stderr


def test_convert_writes_one_file_a_rule(tmp_path: Path) -> None:
    result = keytrail("convert", "trail_key_disabled", "log_file_sealed", "--schema", "ecs", "-o", tmp_path)
    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log_file_sealed.json", "trail_key_disabled.json"]
    assert "query" in json.loads((tmp_path / "trail_key_disabled.json").read_text())


def test_an_empty_folder_of_rules_is_an_error(tmp_path: Path) -> None:
    result = keytrail("hunt", SAMPLE, "--rules", tmp_path)
    assert result.exit_code == 2
    assert "no Sigma rule" in result.stderr


def test_an_empty_folder_of_logs_is_an_error(tmp_path: Path) -> None:
    result = keytrail("hunt", tmp_path)
    assert result.exit_code == 2
    assert "no log file" in result.stderr


def test_a_cut_off_file_is_named_and_the_others_are_hunted(tmp_path: Path) -> None:
    files = sorted(SAMPLE.rglob("*.json.gz"))
    for number, file in enumerate(files):
        (tmp_path / f"{number}.json.gz").write_bytes(file.read_bytes())
    whole = keytrail("hunt", tmp_path, "--format", "json")
    (tmp_path / "cut.json.gz").write_bytes(files[0].read_bytes()[:-40])
    result = keytrail("hunt", tmp_path, "--format", "json")
    assert result.exit_code == 2
    assert "cut.json.gz" in result.stderr
    assert len(hits(result)) == len(hits(whole)) > 0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"Records": [17]}', "a number"),
        ('{"Records": [' + '{"a":' * 3000 + "1" + "}" * 3000 + "]}", "nested"),
        ('{"Records": [{"eventSource": "kms.amazonaws.com"}]}', "eventName"),
        ('{"Records": [', "Records"),
        ("", "empty"),
    ],
)
def test_a_record_that_is_none_is_reported(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)
    result = keytrail("hunt", path)
    assert result.exit_code == 2
    assert named in result.stderr or "odd.json" in result.stderr
    assert "Traceback" not in result.output


def test_a_foreign_rule_hunts_in_any_file(tmp_path: Path) -> None:
    rule_file(tmp_path)
    event = {"eventSource": "kms.amazonaws.com", "eventName": "generatedatakey", "eventID": "1"}
    log = tmp_path / "log.ndjson.gz"
    log.write_bytes(gzip.compress(json.dumps(event).encode() + b"\n" + json.dumps(event).encode() + b"\n"))
    result = keytrail("hunt", log, "--rules", tmp_path, "--format", "ndjson")
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["event_id"] for line in result.stdout.splitlines()] == ["1", "1"]


def test_a_rule_about_other_logs_is_refused_and_said(tmp_path: Path) -> None:
    path = rule_file(tmp_path)
    path.write_text(path.read_text().replace("service: cloudtrail", "service: guardduty"))
    result = keytrail("hunt", SAMPLE, "--rules", tmp_path)
    assert result.exit_code == 1
    assert "aws/guardduty" in result.stderr


def test_fail_on_makes_a_hit_of_that_level_count() -> None:
    assert keytrail("hunt", SAMPLE).exit_code == 0
    assert keytrail("hunt", SAMPLE, "--fail-on", "critical").exit_code == 1


def test_since_and_until_bound_the_event_time() -> None:
    everything = hits(keytrail("hunt", SAMPLE, "--format", "json"))
    late = hits(keytrail("hunt", SAMPLE, "--since", "2026-11-20T11:00:00Z", "--format", "json"))
    early = hits(keytrail("hunt", SAMPLE, "--until", "2026-11-20T11:00:00Z", "--format", "json"))
    assert len(early) + len(late) == len(everything)
    assert late
    assert early
    assert keytrail("hunt", SAMPLE, "--since", "yesterday").exit_code == 2


def test_hunt_json_has_its_documented_shape() -> None:
    shape = json.loads(keytrail("hunt", SAMPLE, "--format", "json").stdout)
    assert set(shape) == {"hits", "counts", "refused", "blind", "doubtful", "read"}
    assert set(shape["read"]) >= {"files", "records", "bad"}
    assert {"rule_id", "rule", "level", "event_id", "event_time"} <= set(shape["hits"][0])
    single = [rule for rule in load_rules([packaged("rules")]).rules if "detection" in rule.document]
    assert {rule.id for rule in single} <= set(shape["counts"]) | set(shape["refused"])


def test_hunt_reads_standard_input() -> None:
    data = next(SAMPLE.rglob("*_CloudTrail_*.json.gz")).read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "keytrail", "hunt", "-", "--format", "json"],
        input=data,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["read"]["records"] > 0


def test_explain_shows_what_did_not_match(tmp_path: Path) -> None:
    event = packaged("fixtures") / "events" / "documented_read_log_file.json"
    result = keytrail("explain", "trail_key_disabled", event)
    assert result.exit_code == 1
    assert "does not match" in result.stdout
    assert "Decrypt" in result.stdout
    shape = json.loads(keytrail("explain", "encrypted_log_file_read", event, "--format", "json").stdout)
    assert shape[0]["matches"] is True


def test_log_content_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    event = json.loads((packaged("fixtures") / "events" / "disable_key.json").read_text())
    event["sourceIPAddress"] = "\x1b[31m[bold]evil[/bold]\x07"
    log = tmp_path / "log.json"
    log.write_text(json.dumps(event))
    result = keytrail("hunt", log)
    assert "\x1b" not in result.stdout
    assert "[bold]evil" in "".join(result.stdout.split())


def test_new_rule_is_ready_to_be_tested_and_nothing_is_overwritten(tmp_path: Path) -> None:
    rules, cases = tmp_path / "rules", tmp_path / "cases"
    made = keytrail("new", "rule", "key/brand_new", "--rules", rules, "--cases", cases)
    assert made.exit_code == 0, made.output
    tested = keytrail("test", "--rules", rules, "--cases", cases)
    assert tested.exit_code == 0, tested.output
    again = keytrail("new", "rule", "key/brand_new", "--rules", rules, "--cases", cases)
    assert again.exit_code == 2


def test_a_case_that_claims_the_wrong_thing_fails(tmp_path: Path) -> None:
    rules, cases = tmp_path / "rules", tmp_path / "cases"
    keytrail("new", "rule", "key/brand_new", "--rules", rules, "--cases", cases)
    path = cases / "key" / "brand_new.yml"
    path.write_text(path.read_text().replace("match: false", "match: true"))
    result = keytrail("test", "--rules", rules, "--cases", cases)
    assert result.exit_code == 1
    assert "the rule says otherwise" in result.stderr
    assert str(path) in result.stderr


def test_nothing_to_test_is_a_failure(tmp_path: Path) -> None:
    rule_file(tmp_path)
    cases = tmp_path / "cases"
    cases.mkdir()
    assert keytrail("test", "--rules", tmp_path, "--cases", cases).exit_code != 0
