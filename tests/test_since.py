"""Hunting from time to time: what is new is told once, what is late is not lost, and a broken state is no empty one."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from keytrail.cli import main
from keytrail.commands._outputs import Lines
from keytrail.commands.hunt import Run, _tell
from keytrail.data import packaged
from keytrail.errors import StateError, UsageError
from keytrail.hunt import AnyHit, Hunt
from keytrail.pack import load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.since import SinceLast
from keytrail.state import KEEP_GONE, State, load_state
from keytrail.times import DAY, milliseconds

FIXTURES = packaged("fixtures")
SAMPLE = FIXTURES / "sample"
RULES = [
    rule
    for rule in load_rules([packaged("rules")]).rules
    if rule.stem in ("trail_key_disabled", "trail_stopped_or_deleted", "key_and_trail_tampered", "digest_file_sealed")
    or rule.stem in ("trail_digests_silent", "key_attack_stops_delivery", "delivery_cannot_use_key")
]
NOW = milliseconds("2026-11-25T00:00:00Z") or 0
EVENTS = {path.stem: json.loads(path.read_text("utf-8")) for path in (FIXTURES / "events").glob("*.json")}


def write(folder: Path, name: str, *events: dict[str, Any]) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"Records": list(events)}))
    return path


def event(stem: str, minute: int, **changes: Any) -> dict[str, Any]:
    time = f"2026-11-20T{minute // 60:02}:{minute % 60:02}:00Z"
    return {**EVENTS[stem], "eventTime": time, "eventID": f"{stem} {minute}", **changes}


def disabled(minute: int) -> dict[str, Any]:
    return event("disable_key", minute)


def stopped(minute: int) -> dict[str, Any]:
    return event("stop_logging", minute, userIdentity=EVENTS["disable_key"]["userIdentity"])


def digest(minute: int) -> dict[str, Any]:
    return event("modern_deliver_digest_file", minute)


def run(folder: Path, state: State, now: int = NOW) -> list[AnyHit]:
    """One run over a folder; the state is what it leaves."""
    return list(SinceLast(RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), [str(folder)], state, now).run())


def stems(hits: list[AnyHit]) -> list[str]:
    return [hit.rule.stem for hit in hits]


def fresh(folder: Path) -> State:
    return load_state(folder / "no state", [str(folder)])


def test_what_was_read_is_not_told_again(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "a", disabled(600))
    assert stems(run(tmp_path, state)) == ["trail_key_disabled"]
    assert run(tmp_path, state) == []
    write(tmp_path, "b", disabled(610))
    assert [hit.as_dict()["event_id"] for hit in run(tmp_path, state)] == ["disable_key 610"]


def test_a_late_file_with_older_events_is_told(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "b", disabled(900))
    run(tmp_path, state)
    late = write(tmp_path, "a", disabled(60))
    os.utime(late, (0, 0))  # copied with its old time, as synchronising a bucket does
    assert [hit.as_dict()["event_id"] for hit in run(tmp_path, state)] == ["disable_key 60"]


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "a", disabled(600))
    run(tmp_path, state)
    write(tmp_path, "a", disabled(600), disabled(601))
    assert len(run(tmp_path, state)) == 2


@pytest.mark.parametrize("order", ["as it happened", "the other way round"])
def test_an_incident_whose_events_come_in_two_runs_is_told_once(tmp_path: Path, order: str) -> None:
    state = fresh(tmp_path)
    first, second = (disabled(600), stopped(640)) if order == "as it happened" else (stopped(640), disabled(600))
    write(tmp_path, "a", first)
    assert "key_and_trail_tampered" not in stems(run(tmp_path, state))
    write(tmp_path, "b", second)
    assert stems(run(tmp_path, state)).count("key_and_trail_tampered") == 1
    write(tmp_path, "c", stopped(650))
    assert stems(run(tmp_path, state)) == ["trail_stopped_or_deleted"]  # it goes on: no incident of its own
    write(tmp_path, "d", disabled(1000), stopped(1001))
    assert "key_and_trail_tampered" in stems(run(tmp_path, state))  # but this is another


def test_what_lies_further_apart_than_the_timespan_is_no_incident(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "a", disabled(600))
    run(tmp_path, state)
    write(tmp_path, "b", stopped(661))
    assert stems(run(tmp_path, state)) == ["trail_stopped_or_deleted"]


def test_a_silence_is_told_when_it_has_lasted_and_once(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    told = []
    write(tmp_path, "digests", digest(0), digest(60))
    for minute in range(65, 600, 35):
        write(tmp_path, f"other {minute}", event("disable_key", minute, eventName="DescribeKey"))
        told += [(minute, stem) for stem in stems(run(tmp_path, state)) if stem != "digest_file_sealed"]
    assert told == [(275, "trail_digests_silent")]  # the first run after 60 + 180


def test_a_silence_is_seen_after_a_long_pause_between_runs(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "digests", digest(0), digest(60))
    run(tmp_path, state)
    write(tmp_path, "other", event("disable_key", 900, eventName="DescribeKey"))
    assert stems(run(tmp_path, state)) == ["trail_digests_silent"]


def test_a_silence_in_which_nothing_at_all_came_is_seen_by_the_first_run_too(tmp_path: Path) -> None:
    write(tmp_path, "before", digest(0), digest(60))
    write(tmp_path, "after", digest(900))
    assert stems(run(tmp_path, fresh(tmp_path))) == [*["digest_file_sealed"] * 3, "trail_digests_silent"]


def test_hours_that_were_read_before_are_no_silence_when_a_late_file_comes(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    for hour in range(20):
        write(tmp_path, f"digest {hour}", digest(hour * 60))
    run(tmp_path, state)
    write(tmp_path, "late", disabled(90))
    write(tmp_path, "new", disabled(1190))
    assert stems(run(tmp_path, state)) == ["trail_key_disabled", "trail_key_disabled"]


def told(hits: list[AnyHit]) -> tuple[Counter[str], set[tuple[str, str]]]:
    """The hits of rules by their ids, and the incidents by rule and group."""
    found = [hit.as_dict() for hit in hits]
    single = Counter(one["alert_id"] for one in found if "event_id" in one)
    return single, {(one["rule"], str(one["group"])) for one in found if "group" in one}


@pytest.mark.parametrize("seed", range(3))
def test_however_the_files_of_the_sample_come_all_is_told_as_in_one_hunt(tmp_path: Path, seed: int) -> None:
    files = sorted(SAMPLE.rglob("*.json.gz"))
    hunt = Hunt.prepare(RULES, get_schema("keytrail"))
    whole = told(list(hunt.run(Reader([str(SAMPLE)]))))
    Random(seed).shuffle(files)
    state, parts = fresh(tmp_path), []
    for turn in range(0, len(files), 3):
        for path in files[turn : turn + 3]:
            (tmp_path / path.name).write_bytes(path.read_bytes())
        parts += run(tmp_path, state)
    single, incidents = told(parts)
    assert single == whole[0]
    # While files are missing, hours may look silent that are not.
    assert {one for one in incidents if one[0] != "trail_digests_silent"} == whole[1]
    assert len([hit for hit in parts if hit.rule.kind == "correlation"]) == len(incidents)


def test_a_file_without_a_time_is_told_too_and_one_that_is_no_log_is_reported_once(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    timeless = {name: value for name, value in disabled(1).items() if name != "eventTime"}
    write(tmp_path, "timeless", timeless)
    (tmp_path / "bad.json").write_text('{"Records": [')
    prepare = lambda: Hunt.prepare(RULES, get_schema("keytrail"))  # noqa: E731
    first = SinceLast(RULES, prepare, [str(tmp_path)], state, NOW)
    assert stems(list(first.run())) == ["trail_key_disabled"]
    assert first.summary().bad_count == 1
    second = SinceLast(RULES, prepare, [str(tmp_path)], state, NOW)
    assert list(second.run()) == []
    assert second.summary().bad_count == 0


def test_an_event_of_the_far_future_does_not_move_what_is_newest(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "a", disabled(600), {**disabled(601), "eventTime": "9999-12-31T23:59:59Z"})
    assert len(run(tmp_path, state)) == 2
    assert state.newest is None
    write(tmp_path, "b", disabled(610))
    assert len(run(tmp_path, state)) == 1


def test_files_that_are_gone_are_forgotten_but_not_at_once(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    path = write(tmp_path, "a", disabled(600))
    write(tmp_path, "b", disabled(601))
    run(tmp_path, state)
    held = path.rename(tmp_path / "a.held")
    run(tmp_path, state, NOW + DAY)
    held.rename(path)
    assert run(tmp_path, state, NOW + 2 * DAY) == []
    path.unlink()
    run(tmp_path, state, NOW + (KEEP_GONE + 3) * DAY)
    assert len(state.files) == 1


OPENED: list[str] = []


def note_opened(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        OPENED.append(os.fspath(arguments[0]))


def test_each_new_file_is_read_once_and_of_the_others_those_that_a_correlation_needs(tmp_path: Path) -> None:
    sys.addaudithook(note_opened)
    state = fresh(tmp_path)
    far, near = write(tmp_path, "far", disabled(10)), write(tmp_path, "near", disabled(900))
    OPENED.clear()
    run(tmp_path, state)
    assert [one for one in OPENED if one.startswith(str(tmp_path))] == [str(far), str(near)]
    new = write(tmp_path, "new", stopped(930))
    OPENED.clear()
    found = SinceLast(RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), [str(tmp_path)], state, NOW)
    assert stems(list(found.run())) == ["trail_stopped_or_deleted", "key_and_trail_tampered"]
    assert [one for one in OPENED if one.startswith(str(tmp_path))] == [str(new), str(near)]
    assert found.total == new.stat().st_size + near.stat().st_size


def test_a_file_that_could_not_be_read_is_tried_again_though_it_is_back_by_then(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    path, away = write(tmp_path, "a", disabled(600)), tmp_path / "a.away"
    write(tmp_path, "b", disabled(601))

    def prepare() -> Hunt:
        path.rename(away)
        return Hunt.prepare(RULES, get_schema("keytrail"))

    found = SinceLast(RULES, prepare, [str(tmp_path)], state, NOW)
    hits = found.run()
    assert next(hits).as_dict()["event_id"] == "disable_key 601"
    away.rename(path)
    assert list(hits) == []
    assert [error.message for error in found.summary().bad] == ["cannot be read: No such file or directory"]
    assert [hit.as_dict()["event_id"] for hit in run(tmp_path, state)] == ["disable_key 600"]


def test_a_file_that_changes_before_its_hits_are_told_costs_itself_and_is_new_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    paths = [write(logs, name, *(disabled(first + one) for one in range(5))) for name, first in (("a", 0), ("b", 9))]
    since = SinceLast(
        RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), [str(logs)], State((str(logs),)), now=NOW
    )
    # All are found before the first is told, as other processes find them.
    hits = list(since.run())
    os.utime(paths[0], (0, 0))
    run = Run(iter(hits), since, since.summary, since.lose)
    assert _tell(run, Lines(), None, progress=False) == {"medium"}
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["event_id"] for one in told] == [f"disable_key {minute}" for minute in range(9, 14)]
    summary = since.summary()
    assert [str(error) for error in summary.bad] == [
        f"{paths[0]}: the file has changed since it was searched\n  hint: hunt again, when nobody writes there"
    ]
    again = SinceLast(RULES, since.prepare, [str(logs)], since.state, now=NOW)
    assert list(again.new) == [paths[0]]


def test_standard_input_has_nothing_new(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="standard input"):
        SinceLast(RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), ["-"], State(()), NOW)


def test_what_is_new_in_a_pipe_cannot_be_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe"):
        SinceLast(RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), [str(tmp_path / "pipe")], State(()), NOW)


@pytest.mark.parametrize("form", ["one document", "lines", "spaced lines"])
def test_times_are_found_in_files_of_any_form_and_what_is_bad_is_told_once(tmp_path: Path, form: str) -> None:
    first, late = disabled(600), stopped(640)
    deep: dict[str, Any] = {**disabled(630), "requestParameters": json.loads("[" * 150 + "]" * 150)}
    if form == "one document":
        write(tmp_path, "a", first, deep, late)
    else:
        space = (", ", " : ") if form == "spaced lines" else (",", ":")
        lines = [json.dumps(one, separators=space) for one in (first, deep, late)]
        (tmp_path / "a.ndjson").write_text("\n".join([*lines, "{broken", ""]))
    found = SinceLast(RULES, lambda: Hunt.prepare(RULES, get_schema("keytrail")), [str(tmp_path)], fresh(tmp_path), NOW)
    assert set(stems(list(found.run()))) == {"trail_key_disabled", "trail_stopped_or_deleted", "key_and_trail_tampered"}
    expected = Hunt.prepare(RULES, get_schema("keytrail"))
    reader = Reader([str(tmp_path)])
    list(expected.run(reader))
    summary = found.summary()
    assert (summary.bad_count, list(map(str, summary.bad))) == (reader.bad_count, list(map(str, reader.bad)))
    assert summary.bad_count == (1 if form == "one document" else 2)
    assert (summary.first, summary.last) == (expected.span.first, expected.span.last)
    assert list(SinceLast(RULES, found.prepare, [str(tmp_path)], found.state, NOW).run()) == []


# -- the state ----------------------------------------------------------------------------------------------------


def test_a_state_is_read_as_it_was_saved(tmp_path: Path) -> None:
    state = fresh(tmp_path)
    write(tmp_path, "a", disabled(600), stopped(640))
    run(tmp_path, state)
    path = tmp_path / "deep" / "state"
    state.save(path)
    assert load_state(path, [str(tmp_path)]) == state
    assert [one.name for one in path.parent.iterdir()] == ["state"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"keytrail_state": 1}',
        '{"keytrail_state": 1, "paths": ["/x"], "newest": "1", "files": [], "incidents": []}',
        '{"keytrail_state": 1, "paths": "/x", "newest": null, "files": [], "incidents": []}',
        '{"keytrail_state": 1, "paths": [], "newest": null, "files": [["a", 1, 2]], "incidents": []}',
        '{"keytrail_state": 1, "paths": [], "newest": null, "files": [], "incidents": [["a", "b", 1, 2, 3]]}',
        "[" * 100_000,
        "\x00" * 4096,
    ],
)
def test_a_broken_state_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state"
    path.write_text(text)
    with pytest.raises(StateError, match="no state of a hunt"):
        load_state(path, ["/x"])
    assert path.read_text() == text


def test_a_state_of_another_version_or_of_other_paths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text('{"keytrail_state": 2}')
    with pytest.raises(StateError, match="another version"):
        load_state(path, ["/x"])
    State(("/x",)).save(path)
    assert load_state(path, ["/x/../x"]).paths == ("/x",)
    with pytest.raises(StateError, match="other paths: /x"):
        load_state(path, ["/x", "/y"])


# -- the command --------------------------------------------------------------------------------------------------


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder of two of the pack's rules: what the command does is the same with few."""
    folder = tmp_path / "rules"
    folder.mkdir()
    for stem in ("trail_key_disabled", "trail_stopped_or_deleted"):
        found = next(packaged("rules").rglob(f"{stem}.yml"))
        (folder / found.name).write_text(found.read_text("utf-8"), "utf-8")
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder, "a", disabled(600), stopped(640))
    return folder


@pytest.fixture
def hunt(logs: Path, rules: Path, tmp_path: Path) -> Iterator[list[object]]:
    state = tmp_path / "state"
    yield ["hunt", logs, "--rules", rules, "--since", "last", "--state", state, "--format", "ndjson"]


def test_runs_one_after_the_other(hunt: list[object], logs: Path) -> None:
    first = keytrail(*hunt, "--fail-on", "high")
    assert first.exit_code == 1
    assert "everything is read" in first.stderr
    assert len(first.stdout.splitlines()) == 2
    second = keytrail(*hunt, "--fail-on", "high")
    assert (second.exit_code, second.output) == (0, "")
    (logs / "b.json.gz").write_bytes(gzip.compress(json.dumps({"Records": [disabled(700)]}).encode()))
    assert len(keytrail(*hunt).stdout.splitlines()) == 1


def test_a_folder_whose_name_is_no_utf8_is_the_same_in_the_next_run(logs: Path, rules: Path, tmp_path: Path) -> None:
    folder = logs.rename(tmp_path / os.fsdecode(b"logs\xff"))
    state = tmp_path / "state"
    words = ["hunt", folder, "--rules", rules, "--since", "last", "--state", state, "--format", "ndjson"]
    first = keytrail(*words)
    assert {json.loads(line)["path"] for line in first.stdout.splitlines()} == {f"{tmp_path}/logs\\xff/a.json"}
    assert json.loads(state.read_bytes())["paths"] == [str(folder)]
    second = keytrail(*words)
    assert (second.exit_code, second.output) == (0, "")


def test_a_run_beside_another_is_refused(hunt: list[object], tmp_path: Path) -> None:
    with FileLock(f"{tmp_path / 'state'}.lock"):
        result = keytrail(*hunt)
    assert result.exit_code == 2
    assert "another hunt with this state is running" in result.stderr
    assert keytrail(*hunt).exit_code == 0


def test_a_state_among_the_logs_is_not_named_like_one(hunt: list[object], logs: Path, tmp_path: Path) -> None:
    place = hunt.index(tmp_path / "state")
    hunt[place] = logs / "state.json"
    result = keytrail(*hunt)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "would be read as one" in result.stderr
    hunt[place] = logs / "state"
    assert [keytrail(*hunt).exit_code for _ in range(3)] == [0, 0, 0]


def test_a_state_that_has_two_names_has_one_lock(hunt: list[object], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    hunt[hunt.index(tmp_path / "state")] = tmp_path / "link"
    with FileLock(f"{tmp_path / 'state'}.lock"):
        assert "another hunt with this state is running" in keytrail(*hunt).stderr
    assert keytrail(*hunt).exit_code == 0
    assert (tmp_path / "state").is_file()


def test_a_broken_state_ends_the_command_before_anything_is_read(hunt: list[object], tmp_path: Path) -> None:
    (tmp_path / "state").write_text("{")
    result = keytrail(*hunt)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no state of a hunt" in result.stderr


def test_what_could_not_be_written_is_told_again(hunt: list[object], tmp_path: Path) -> None:
    blocked = tmp_path / "report.html"
    blocked.mkdir()
    assert keytrail(*hunt, "--report", blocked).exit_code == 2
    assert not (tmp_path / "state").exists()
    assert len(keytrail(*hunt).stdout.splitlines()) == 2


@pytest.mark.parametrize("with_state", [True, False])
def test_who_closes_the_output_is_no_traceback_and_with_a_state_an_error(
    hunt: list[object], logs: Path, tmp_path: Path, with_state: bool
) -> None:
    write(logs, "many", *map(disabled, range(1000)))
    words = [str(word) for word in hunt if with_state or word not in ("--since", "last", "--state", tmp_path / "state")]
    with subprocess.Popen(
        [sys.executable, "-m", "keytrail", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert process.returncode == (2 if with_state else 0)
    assert ("the state stays as it was" in said) == with_state
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "last"],
        ["--state", "state"],
        ["--since", "2026-11-20", "--state", "state"],
        ["--since", "last", "--state", "state", "--until", "2026-11-20"],
    ],
)
def test_options_that_do_not_go_together_are_named(logs: Path, rules: Path, words: list[str]) -> None:
    result = keytrail("hunt", logs, "--rules", rules, *words)
    assert result.exit_code == 2
    assert "hint:" in result.stderr


def test_a_folder_that_is_empty_is_an_error_but_one_without_news_is_not(hunt: list[object], logs: Path) -> None:
    assert keytrail(*hunt).exit_code == 0
    assert keytrail(*hunt).exit_code == 0
    (logs / "a.json").unlink()
    result = keytrail(*hunt)
    assert result.exit_code == 2
    assert "no log file" in result.stderr
