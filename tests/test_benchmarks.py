"""The benchmarks run, on inputs so small that their figures mean nothing."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from benchmarks import hunting, logs


def test_the_logs_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        logs.write_file(tmp_path / name, 3, 50)
    one, two = (sorted((tmp_path / name).rglob("*.json.gz")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    records = json.loads(gzip.decompress(one[0].read_bytes()))["Records"]
    assert len(records) == 50
    assert 25 < sum(record.get("readOnly") is True for record in records) < 48


def test_hunting_is_measured_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        logs.write_file(tmp_path, number, 60)
    options = ["--logs", str(tmp_path), "--runs", "1", "--check", "2", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["hunting", *options])
    hunting.main()
    said = capsys.readouterr().out
    assert "120 events in 2 files" in said
    for name in ("our pack", "three events in four"):
        assert f"{name} " in said
    assert said.count("MB at most") == 3
    assert "hits in 2 files as the reference has them" in said
