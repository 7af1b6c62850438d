"""How a command ends when the system gets in its way: by name, with the right code, and with nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from keytrail.cli import main
from keytrail.data import packaged
from keytrail.errors import StateError, UsageError
from keytrail.files import write_text
from keytrail.hunt import Hunt, Window
from keytrail.index_hunt import _within
from keytrail.pack import load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.state import load_state

SAMPLE = str(packaged("fixtures") / "sample")
EVENT = json.loads((packaged("fixtures") / "events" / "disable_key.json").read_text("utf-8"))
FULL = Path("/dev/full")


def keytrail(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def started(*arguments: object, **streams: object) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "keytrail", *map(str, arguments)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("style", ["table", "ndjson"])
def test_a_full_disk_is_named_and_no_hit_of_the_level_of_fail_on(style: str) -> None:
    with FULL.open("wb") as full:
        process = started("hunt", SAMPLE, "--format", style, "--fail-on", "high", stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"Traceback" not in said
    assert b"cannot be read or written: No space left on device" in said


@pytest.mark.parametrize(
    ("closed", "words", "code", "said"),
    [
        (">&-", ["--format", "ndjson"], 2, "error: standard output is closed"),
        (">&-", ["--since", "last", "--state", "state"], 2, "error: standard output is closed"),
        ("<&-", ["-"], 2, "error: -: cannot be read: standard input is closed"),
        ("<&-", [], 0, ""),
        ("2>&-", ["--since", "last", "--state", "state"], 0, ""),
        ("2>&- >&-", ["--since", "last", "--state", "state"], 2, ""),
    ],
)
def test_a_stream_that_is_closed_is_no_traceback(
    tmp_path: Path, closed: str, words: list[str], code: int, said: str
) -> None:
    # Paths are given as words, so that the shell has no more to do than to close.
    command = [sys.executable, "-m", "keytrail", "hunt", SAMPLE, *words]
    shell = ["/bin/sh", "-c", f'"$@" {closed}', "sh", *command]
    found = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == code
    assert "Traceback" not in found.stderr
    assert said in found.stderr
    assert (tmp_path / "state").exists() == ("--state" in words and code == 0)


@pytest.mark.parametrize("style", ["table", "csv"])
def test_an_output_that_lacks_letters_has_them_written_out(tmp_path: Path, style: str) -> None:
    identity = {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/\u6f22"}
    (tmp_path / "a.json").write_text(json.dumps({"Records": [EVENT | {"userIdentity": identity}]}))
    command = [sys.executable, "-m", "keytrail", "hunt", str(tmp_path), "--format", style]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    found = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    assert found.returncode == 0, found.stderr
    assert b"user/\\u6f22" in found.stdout


def test_a_line_feed_in_a_files_name_begins_no_error(tmp_path: Path) -> None:
    (tmp_path / "a\nerror: forged.json").write_text("{}")
    said = keytrail("hunt", tmp_path).stderr.splitlines()
    assert not [line for line in said if line.startswith("error: forged")]
    assert [line for line in said if "a\\x0aerror: forged.json: neither" in line]


def test_one_that_is_asked_to_end_takes_the_processes_that_search_for_it_along(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.ndjson").write_text((json.dumps(EVENT) + "\n") * (3_000_000 // len(json.dumps(EVENT))))
    # Nobody reads all that it prints, so it cannot come to its end.
    process = started("hunt", tmp_path, "--jobs", 2, "--format", "ndjson", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    process.communicate()


def test_a_device_is_neither_replaced_nor_read_for_a_state(tmp_path: Path) -> None:
    device = Path(os.devnull)
    before = device.stat()
    with pytest.raises(UsageError, match="it is no file"):
        write_text(device, "text")
    assert device.stat().st_rdev == before.st_rdev
    with pytest.raises(StateError, match="is no file"):
        load_state(device, [SAMPLE])
    with pytest.raises(UsageError, match="it is no file"):
        write_text(tmp_path, "text")


def test_a_link_stays_a_link_and_a_file_keeps_who_may_read_it(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "report.html", tmp_path / "report.html"
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        write_text(link, "first")
        assert real.stat().st_mode & 0o777 == 0o640  # as the user's umask wants it
        real.chmod(0o600)
        write_text(link, "second")
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.read_text() == "second"
    assert real.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in real.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "2026-11-21", "--until", "2026-11-20"], "--since is not before --until"),
        (["--since", "2026-11-20", "--until", "2026-11-20"], "--since is not before --until"),
        (["--since", "2027-01-01"], "no record lies in the time searched"),
    ],
)
def test_a_time_in_which_nothing_was_searched_is_no_clean_result(words: list[str], said: str) -> None:
    done = keytrail("hunt", SAMPLE, *words)
    assert done.exit_code == 2
    assert said in done.stderr


BEGIN = datetime(2026, 11, 20, 10, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize("micros", [0, 1, 500, 999, 1000])
@pytest.mark.parametrize("time", ["2026-11-20T10:00:00Z", "2026-11-20T10:00:00.0005Z", "2026-11-20T10:00:00.001Z"])
def test_the_edges_of_a_window_are_the_same_in_files_and_in_an_index(micros: int, time: str) -> None:
    """An index keeps milliseconds and cuts off what is finer; so do files."""
    edge = BEGIN + timedelta(microseconds=micros)
    kept = int(BEGIN.timestamp() * 1000) + (1 if time.endswith(".001Z") else 0)
    since, until = (
        _within(one, get_schema("keytrail"))["bool"]["should"][0] for one in (Window(edge), Window(None, edge))
    )
    (bound,), (end,) = since["range"].values(), until["range"].values()
    assert Window(edge).holds(time) == (kept >= bound["gte"])
    assert Window(None, edge).holds(time) == (kept < end["lt"])
    assert Window(edge).holds(time) != Window(None, edge).holds(time)


def test_a_correlation_does_not_count_an_event_that_the_window_has_cut_off(tmp_path: Path) -> None:
    """What lies in the same millisecond as --since, but before it, is in no window."""
    rules = [one for one in load_rules([packaged("rules")]).rules if one.stem == "trail_key_disabled"]
    log = tmp_path / "log.json"
    times = ("10:00:00.0001", "10:00:00.001")
    log.write_text(json.dumps({"Records": [{**EVENT, "eventTime": f"2026-11-20T{time}Z"} for time in times]}))
    hunt = Hunt.prepare(rules, get_schema("keytrail"))
    window = Window(BEGIN + timedelta(microseconds=50))
    assert [hit.as_dict()["record"] for hit in hunt.run(Reader([str(log)]), window)] == [2]
