"""What hunt prints for other programs: alert ids, CSV, and nothing at all."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from keytrail.cli import main
from keytrail.commands._outputs import COLUMNS, cell
from keytrail.data import packaged
from keytrail.hunt import Hunt
from keytrail.pack import load_rules
from keytrail.progress import Course, watched
from keytrail.records import Reader
from keytrail.render import WorstHits
from keytrail.schemas import get_schema
from rich.console import Console

FIXTURES = packaged("fixtures")
SAMPLE = FIXTURES / "sample"
EVENT: dict[str, Any] = json.loads((FIXTURES / "events" / "disable_key.json").read_text("utf-8"))


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules of one incident: with few rules the command is quick."""
    folder = tmp_path_factory.mktemp("rules")
    for rule in load_rules([packaged("rules")]).rules:
        if rule.stem in ("trail_key_disabled", "delivery_cannot_use_key", "log_file_sealed"):
            (folder / rule.path.name).write_text(rule.text, "utf-8")
    return folder


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_alert_has_the_same_id_in_every_run_and_file_and_no_other_has_it(rules: Path, tmp_path: Path) -> None:
    first = lines(keytrail("hunt", SAMPLE, "--rules", rules, "--format", "ndjson"))
    records = [record.record for record in Reader([str(SAMPLE)])]
    (tmp_path / "all.ndjson").write_text("".join(json.dumps(record) + "\n" for record in reversed(records)))
    second = lines(keytrail("hunt", tmp_path, "--rules", rules, "--format", "ndjson"))
    assert first[0]["path"] != second[0]["path"]
    assert {one["alert_id"] for one in first} == {one["alert_id"] for one in second}
    assert len({one["alert_id"] for one in first}) == len({(one["rule_id"], one["event_id"]) for one in first})


def test_an_alert_of_a_record_without_an_id_is_told_from_others_by_what_is_in_it(rules: Path, tmp_path: Path) -> None:
    nameless = {name: value for name, value in EVENT.items() if name != "eventID"}
    events = [nameless, {**nameless, "awsRegion": "eu-west-2"}, nameless]
    (tmp_path / "a.json").write_text(json.dumps({"Records": events}))
    ids = [one["alert_id"] for one in lines(keytrail("hunt", tmp_path, "--rules", rules, "--format", "ndjson"))]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize("width", [40, 80, 129])
def test_a_narrow_terminal_shows_a_hit_in_lines_that_break_nothing(rules: Path, width: int) -> None:
    kept = WorstHits()
    for hit in Hunt.prepare(load_rules([rules]).rules, get_schema("keytrail")).run(Reader([str(SAMPLE)])):
        kept.take(hit)
    out = io.StringIO()
    kept.show(Console(file=out, width=width))
    shown = out.getvalue().splitlines()
    assert shown[:2] == ["Hits", ""]
    place = shown.index("medium 2026-11-20T10:57:41Z trail_key_disabled")
    assert shown[place + 1] == "    DisableKey  arn:aws:iam::111122223333:role/KeyAdministrator  198.51.100.23"


def test_csv_has_a_line_for_each_hit_with_what_json_has(rules: Path) -> None:
    found = list(csv.DictReader(io.StringIO(keytrail("hunt", SAMPLE, "--rules", rules, "--format", "csv").stdout)))
    expected = lines(keytrail("hunt", SAMPLE, "--rules", rules, "--format", "ndjson"))
    assert [row["alert_id"] for row in found] == [one["alert_id"] for one in expected]
    assert [row["record"] for row in found] == [str(one["record"]) for one in expected]


def test_csv_has_every_key_of_both_kinds_of_hits() -> None:
    found = keytrail("hunt", SAMPLE, "--format", "csv")
    keys = {key for one in lines(keytrail("hunt", SAMPLE, "--format", "ndjson")) for key in one}
    assert keys == set(COLUMNS) - {"document_id"}  # which a hit in an index has
    rows = list(csv.DictReader(io.StringIO(found.stdout)))
    incident = next(row for row in rows if row["rule"] == "key_attack_stops_delivery")
    assert incident["group"] == "awsRegion=us-west-2"
    assert len(incident["event_ids"].split()) == 8


def test_a_file_name_that_is_no_utf8_is_text_in_every_output(rules: Path, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xffb.json")).write_text(json.dumps({"Records": [EVENT]}))
    (tmp_path / os.fsdecode(b"c\xfe.json")).write_text("{")
    report = tmp_path / "report.html"
    for style in ("json", "ndjson", "csv"):
        result = keytrail("hunt", tmp_path, "--rules", rules, "--format", style, "--report", report)
        assert "a\\xffb.json" in result.stdout.replace("\\\\", "\\")
        assert "c\\xfe.json:1" in result.stderr
        assert b"\\udcf" not in result.stdout_bytes + report.read_bytes()
    assert "a\\xffb.json" in report.read_text("utf-8")


def test_csv_without_a_hit_is_the_header(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"Records": [{**EVENT, "eventName": "ListKeys"}]}))
    assert keytrail("hunt", tmp_path, "--rules", rules, "--format", "csv").stdout == ",".join(COLUMNS) + "\n"


@given(st.text() | st.sampled_from("=+-@\t\r").flatmap(lambda first: st.text().map(lambda rest: first + rest)))
def test_no_cell_begins_a_formula_or_has_a_control_character(text: str) -> None:
    made = cell(text)
    assert not made.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert all(c.isprintable() for c in made)
    assert made.startswith("'") or not text.startswith(("=", "+", "-", "@"))


def test_quiet_says_nothing_but_errors(rules: Path, tmp_path: Path) -> None:
    result = keytrail("hunt", SAMPLE, "--rules", rules, "--quiet", "--fail-on", "high")
    assert (result.exit_code, result.output) == (1, "")
    assert keytrail("hunt", SAMPLE, "--quiet").output == ""
    (tmp_path / "bad.json").write_text("{")
    result = keytrail("hunt", SAMPLE, tmp_path, "--rules", rules, "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.json" in result.stderr
    assert keytrail("hunt", SAMPLE, "--rules", rules, "--quiet", "--format", "ndjson").stdout


def test_progress_is_shown_on_a_terminal_alone() -> None:
    reader = Reader([str(SAMPLE)])
    for terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=120)
        with watched(Course(reader), lambda: "1,234 hits", console):
            records = sum(1 for _ in reader)
        assert ("1,234 hits" in out.getvalue()) == terminal
    assert records == reader.records


def test_a_course_ends_at_the_size_of_all_files_and_that_of_a_pipe_is_not_known() -> None:
    reader = Reader([str(SAMPLE)])
    course = Course(reader)
    assert course.done == 0
    seen = [course.done for _ in reader]
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[-1] <= course.total == sum(path.stat().st_size for path in SAMPLE.rglob("*.gz"))
    assert Course(Reader(["-"])).total == 0


def test_a_course_goes_on_within_a_large_file(tmp_path: Path) -> None:
    line = json.dumps({"eventSource": "a", "eventName": "b", "pad": "x" * 1000}) + "\n"
    (tmp_path / "a.ndjson").write_text(line * 5000)
    reader = Reader([str(tmp_path)])
    course = Course(reader)
    seen = [course.done for _ in reader]
    assert seen == sorted(seen)
    assert seen[0] < course.total / 2 < seen[-1] <= course.total
    assert len(set(seen)) > 3
