"""A hunt reads two fields of most records, and finds what every rule finds that is asked about every whole record."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keytrail import scan, workers
from keytrail.data import packaged
from keytrail.errors import RecordError, WorkerError
from keytrail.hunt import AnyHit, Hit, Hunt, Window
from keytrail.pack import Rule, load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.search import Search

SCHEMA = get_schema("keytrail")
SOURCES = ("kms.amazonaws.com", "s3.amazonaws.com", "KMS.amazonaws.com")
NAMES = ("Decrypt", "decrypt", "DeleteKey", "PutObject", "ListKeys", "a/b")
HEAD = """title: T
id: {id}
logsource: {{product: aws, service: cloudtrail}}
detection:
"""
DAY = datetime(2026, 11, 20, tzinfo=timezone.utc)


# -- rules --------------------------------------------------------------------------------------------------------

TESTS = (
    "eventName: Decrypt",
    "eventName: [DeleteKey, PutObject]",
    "eventName|startswith: De",
    "eventName|contains|cased: e",
    "eventName|exists: true",
    "eventSource: kms.amazonaws.com",
    "eventSource|endswith: .amazonaws.com",
    "errorCode: null",
    "errorCode|exists: true",
    "requestParameters.keyId: [a, '*b*']",
    "requestParameters.eventName: Decrypt",
    "requestParameters.keyId|exists: true",
    "requestParameters.keyId: null",
    "requestParameters.keyId|endswith: b",
    "requestParameters.keyId|contains: awslogs/b",
    "requestParameters.keyId|startswith: xAWS",
    "errorCode|contains: a",
    "eventTime|contains: T03",
    "eventName: a/b",
    "eventName|fieldref: errorCode",
    "readOnly: true",
    "readOnly: false",
)
CONDITIONS = ("one", "not one", "one and two", "one or two", "one and not two", "1 of them", "not (one and two)")


@st.composite
def rules(draw: st.DrawFn) -> list[str]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        text = HEAD.format(id=f"00000000-0000-4000-8000-00000000000{number}")
        for name in ("one", "two"):
            tests = st.lists(st.sampled_from(TESTS), min_size=1, max_size=2, unique_by=lambda test: test.split(":")[0])
            lines = draw(tests)
            text += f"  {name}:\n" + "".join(f"    {line}\n" for line in lines)
        found.append(f"{text}  condition: {draw(st.sampled_from(CONDITIONS))}\n")
    return found


# -- files --------------------------------------------------------------------------------------------------------


def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string, some of whose characters are escaped."""
    ways = ("%s", "%s", "%s", "\\u%04x") if draw(st.integers(0, 5)) == 0 else ("%s",)
    drawn = [(one, draw(st.sampled_from(ways))) for one in text]
    return '"' + "".join("\\/" if one == "/" else way % (ord(one) if "x" in way else one) for one, way in drawn) + '"'


ODD_VALUES = (
    '"a"', "null", "true", "1", "18446744073709551617", "-0", "1.5e3", "[]", '["a", "xby"]', "{}", '"\\/b"', '"é"',
    '{"keyId": "a", "eventName": "Decrypt"}', '{"keyId": ["\\u0062"]}', '"},{\\"eventVersion\\":"',
    '[{"eventVersion":"1","eventName":"Decrypt","eventSource":"kms.amazonaws.com"},{"eventVersion":"2"}]',
    '{"keyId": "xAwsLogs/b"}', '{"keyId": "x\\u0041WSLogs\\/b"}', '{"keyId": ["xAWS", "AWSLOGS\\/b"]}',
    '{"Records": [{"eventName": "Decrypt"}]}', '{"\\u006beyId": "a"}', '"\\ud83d\\ude00"',
)  # fmt: skip
BAD_VALUES = ('"\\ud800"', "NaN", "01", '"\x01"', "tru", "{,}", "[1,]", '"\udcff"')


STRINGS = (
    "eventVersion", "eventID", "errorCode", "requestParameters", "readOnly", "readOnly", "a.b", ".",
    "requestParameters.keyId", "requestParameters.keyId.x", "requestParameters.x", "errorCode.a", "eventName.x",
)  # fmt: skip


@st.composite
def record(draw: st.DrawFn) -> str:
    """The text of a record, or of something that is not quite one."""
    strings = st.sampled_from(STRINGS)
    members = [("eventVersion", '"1.11"')] if draw(st.integers(0, 4)) else []
    members += [("eventTime", f'"2026-11-20T0{draw(st.integers(0, 9))}:00:00Z"')] if draw(st.integers(0, 4)) else []
    for key, values in (("eventSource", SOURCES), ("eventName", NAMES)):
        if draw(st.integers(0, 30)):
            members.append((key, spelled(draw, draw(st.sampled_from(values)))))
        if not draw(st.integers(0, 30)):
            members.append((key, draw(st.sampled_from(['"Decrypt"', '""', "null", '"PutObject"']))))
    members += draw(st.lists(st.tuples(strings, st.sampled_from(ODD_VALUES)), max_size=4))
    if not draw(st.integers(0, 60)):
        members.append(("x", draw(st.sampled_from(BAD_VALUES))))
    if not draw(st.integers(0, 4)):
        members = draw(st.permutations(members))
    gap = draw(st.sampled_from(["", "", "", " ", "\t"]))
    return "{" + f",{gap}".join(f"{spelled(draw, key)}:{gap}{value}" for key, value in members) + "}"


@st.composite
def content(draw: st.DrawFn) -> bytes:
    """The bytes of a file: mostly a document of records."""
    records = draw(st.lists(record(), max_size=5))
    records += records[: draw(st.sampled_from([0, 0, 1, 5]))]
    if not draw(st.integers(0, 15)):
        records.append(draw(st.sampled_from(["null", "[]", '"x"', '{"eventType": "AwsCloudTrailInsight"}', "{"])))
    between = draw(st.sampled_from([",", ",", ", ", ",\n"]))
    whole = '{"Records":[' + between.join(records) + "]}"
    forms = (
        *[whole] * 6,
        f"\ufeff{whole}",
        f" {whole}\n",
        whole + whole,
        f"[{between.join(records)}]",
        "\n".join(records),
        whole.replace("[", "\n[", 1),
        whole[:-1] + ',"digestS3Bucket":1,"digestS3Object":2}',
        whole[:-1] + ',"Records":[]}',
        whole[:-1] + ',"more":{"Records":[]}}',
        whole[:-3],
    )
    return draw(st.sampled_from(forms)).encode("utf-8", "surrogateescape")


def packed(way: int, data: bytes) -> bytes:
    half = len(data) // 2
    made = gzip.compress(data, mtime=0)
    return (
        made, made, made, made,
        gzip.compress(data[:half]) + gzip.compress(data[half:]),
        made + made,
        made + b"\0" * 20,
        made + b"junk" + made[-8:],
        made[:-4],
        made[:-8] + b"\0\0\0\0" + made[-4:],
        data,
    )[way]  # fmt: skip


files = st.lists(st.tuples(content(), st.integers(0, 10), st.sampled_from(["json.gz", "json", "ndjson"])), max_size=3)
windows = st.sampled_from(
    [Window(), Window(), Window(DAY.replace(hour=3)), Window(DAY.replace(hour=2), DAY.replace(hour=6))]
)


# -- both ways ----------------------------------------------------------------------------------------------------


def every_rule_on_every_record(hunt: Hunt, reader: Reader, window: Window) -> Iterator[tuple[str, str, int, object]]:
    """The hits, found without any short cut."""
    for found, path, number in reader:
        if window.holds(found.get("eventTime")):
            document = SCHEMA.document(found)
            for ready in hunt.ready:
                if ready.shown and ready.matches(document):
                    yield ready.rule.id, path, number, found


def shown(hits: Iterator[AnyHit]) -> list[tuple[str, str, int, object]]:
    return [(hit.rule.id, hit.path, hit.number, hit.record) for hit in hits if isinstance(hit, Hit)]


def counts(reader: Reader) -> dict[str, object]:
    names = ("files", "records", "digests", "insights", "bad_count")
    return {**{name: getattr(reader, name) for name in names}, "bad": list(map(str, reader.bad))}


def loaded(folder: Path, texts: list[str]) -> list[Rule]:
    for number, text in enumerate(texts):
        (folder / f"{number}.yml").write_text(text, encoding="utf-8")
    pack = load_rules([folder])
    assert not pack.errors
    return pack.rules


@given(texts=rules(), written=files, window=windows)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_short_way_finds_what_the_long_way_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], written: list[tuple[bytes, int, str]], window: Window
) -> None:
    folder = tmp_path_factory.mktemp("hunt")
    (folder / "rules").mkdir()
    (folder / "logs").mkdir()
    hunt = Hunt.prepare(loaded(folder / "rules", texts), SCHEMA)
    assert not hunt.refused
    for number, (data, way, ending) in enumerate(written):
        (folder / f"logs/{number}.{ending}").write_bytes(packed(way, data) if ending.endswith("gz") else data)
    long, short = Reader([str(folder / "logs")]), Reader([str(folder / "logs")])
    expected = list(every_rule_on_every_record(hunt, long, window))
    assert shown(hunt.run(short, window)) == expected
    assert counts(short) == counts(long)


def sound(number: int, name: str = "Decrypt", **more: object) -> dict[str, object]:
    time = f"2026-11-20T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return {"eventVersion": "1.11", "eventTime": time, "eventSource": "kms.amazonaws.com", "eventName": name, **more}


def test_files_of_cloudtrails_form_go_the_short_way(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"Records": [sound(1), sound(2, "É")]}).encode()))
    assert [one.eventName for one in scan.scan(path, 1 << 20, scan.Shape(timed=True)).outlines] == ["Decrypt", "É"]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", ":")])
def test_the_text_of_a_record_is_found(tmp_path: Path, separators: tuple[str, str]) -> None:
    records = [
        sound(number, eventID=str(number), x=[{"eventVersion": "1"}, {"eventVersion": "2"}]) for number in range(50)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"Records": records}, separators=separators), encoding="utf-8")
    scanned = scan.scan(path, 1 << 20, scan.Shape(timed=False))
    for places in ([0], [7, 49], list(range(50))):
        assert list(map(scan.record, scanned.texts(places))) == [records[place] for place in places]


@pytest.mark.parametrize("value", ["[" * 150 + "]" * 150, "1e999"], ids=["nested", "no double"])
def test_what_is_beyond_the_readers_limits_is_refused_where_a_rule_asks(tmp_path: Path, value: str) -> None:
    rule = HEAD.format(id="00000000-0000-4000-8000-000000000000") + "  one:\n    eventName: Decrypt\n"
    rule += "    requestParameters.keyId: a\n  condition: one\n"
    (tmp_path / "rules").mkdir()
    hunt = Hunt.prepare(loaded(tmp_path / "rules", [rule]), SCHEMA)
    asked = {"keyId": "a"}
    for name, member, found, bad in (
        ("Decrypt", {"requestParameters": {**asked, "x": "here"}}, [3], 1),
        ("Decrypt", {"requestParameters": asked, "x": "here"}, [2, 3], 0),
        ("ListKeys", {"requestParameters": {**asked, "x": "here"}}, [3], 0),
    ):
        records = [sound(0, "ListKeys"), sound(1, name, **member), sound(2, requestParameters=asked)]
        (tmp_path / "a.json").write_text(json.dumps({"Records": records}).replace('"here"', value), encoding="utf-8")
        reader = Reader([str(tmp_path / "a.json")])
        hits = shown(hunt.run(reader))
        assert [number for _, _, number, _ in hits] == found
        assert (reader.bad_count, reader.records) == (bad, 3 - bad)
        # What is beyond the limits is not in a hit either: it could not be written.
        orjson.dumps([hit[-1] for hit in hits])


# -- what a text has to have in it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        '{"keyId": "x/AWSLogs/b"}',
        '{"keyId": "x/awslogs\\/b"}',
        '{"keyId": "x/\\u0041WSLogs/b"}',
        '{"\\u006beyId": "x/AWSLogs/b"}',
        '{"keyId": ["a", "x/AwsLogs/b"]}',
        '[{"keyId": "x/AWSLogs/b"}]',
    ],
)
def test_however_json_spells_it_what_a_rule_looks_for_is_found(tmp_path: Path, parameters: str) -> None:
    tests = "{eventName: Decrypt, requestParameters.keyId|contains: /awslogs/}"
    text = HEAD.format(id="00000000-0000-4000-8000-000000000000") + f"  one: {tests}\n  condition: one\n"
    (tmp_path / "rules").mkdir()
    hunt = Hunt.prepare(loaded(tmp_path / "rules", [text]), SCHEMA)
    others = ['{"keyId": "x/AWSLog/b"}', "null", '{"keyId": {"awslogs": "x"}}', '{"other": "x/AWSLogs/b"}', parameters]
    records = [json.dumps(sound(one))[:-1] + f', "requestParameters": {text}}}' for one, text in enumerate(others)]
    (tmp_path / "a.json").write_text('{"Records": [' + ", ".join(records) + "]}", encoding="utf-8")
    assert [number for _, _, number, _ in shown(hunt.run(Reader([str(tmp_path / "a.json")])))] == [len(others)]


# -- files that rules ask much about ------------------------------------------------------------------------------


def written(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps({"Records": records}), encoding="utf-8")
    return path


@pytest.fixture
def reading(tmp_path: Path) -> Hunt:
    """A hunt for what only reads."""
    (tmp_path / "rules").mkdir()
    rule = HEAD.format(id="00000000-0000-4000-8000-000000000000") + "  one: {readOnly: true}\n  condition: one\n"
    return Hunt.prepare(loaded(tmp_path / "rules", [rule]), SCHEMA)


def test_what_most_records_are_asked_for_is_taken_out_of_all(tmp_path: Path, reading: Hunt) -> None:
    def take(place: int, marks: object) -> None:
        raise AssertionError("there is no correlation")

    search = Search(reading, Window(), take, lambda path, span: None)
    for number in range(3):
        records = [sound(one, readOnly=one % 4 > 0) for one in range(40)]
        path = written(tmp_path / f"{number}.json", records)
        (found,) = search.run(Reader([str(path)]), [path])
        assert list(found.numbers) == [one + 1 for one in range(40) if one % 4]
        # They are so many that they are not kept: only the file is.
        assert isinstance(found.sources, scan.Stored)
    assert search.quick.shape.members == ("readOnly",)


def test_a_hit_is_read_when_it_is_asked_for_and_a_file_that_changed_is_a_named_error(
    tmp_path: Path, reading: Hunt
) -> None:
    records = [sound(one, readOnly=True, eventID=str(one)) for one in range(40)]
    path = written(tmp_path / "a.json", records)
    hits = [hit for hit in reading.run(Reader([str(path)])) if isinstance(hit, Hit)]
    assert hits[7].record == records[7]
    written(path, [*records, sound(41)])
    assert hits[7].record == records[7]
    other = next(iter(reading.run(Reader([str(written(tmp_path / "b.json", records))]))))
    assert isinstance(other, Hit)
    assert other.record == records[0]
    with pytest.raises(RecordError, match="changed since it was searched"):
        print(hits[8].record)
    path.unlink()
    with pytest.raises(RecordError, match="cannot be read again"):
        print(hits[8].record)


# -- several processes --------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that several processes share although they are small, a bad one among them."""
    monkeypatch.setattr(workers, "LEAST_BYTES", 0)
    monkeypatch.setattr(workers, "PART_FILES", 2)
    read = json.loads((packaged("fixtures") / "events/modern_read_log_file.json").read_text(encoding="utf-8"))
    for number in range(12):
        records = []
        for one in range(20):
            name = f"{number}-{one}"
            context = read["requestParameters"]["encryptionContext"] | {"aws:s3:arn": f"arn:aws:s3:::b/AWSLogs/{name}"}
            request = read["requestParameters"] | {"encryptionContext": context}
            time = sound(60 * (11 - number) + one)["eventTime"]
            records.append({**read, "eventID": name, "eventTime": time, "requestParameters": request})
        (tmp_path / f"{number:02}.json.gz").write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    (tmp_path / "05b.json").write_text("{broken", encoding="utf-8")
    return tmp_path


def test_several_processes_find_the_same_in_the_same_order(many: Path) -> None:
    pack = load_rules([packaged("rules")]).rules
    outcomes: list[Any] = []
    for jobs in (1, 2):
        hunt, reader = Hunt.prepare(pack, SCHEMA), Reader([str(many)])
        hits = [hit.as_dict() for hit in hunt.run(reader, jobs=jobs)]
        outcomes.append((hits, counts(reader), hunt.searched, hunt.counts))
    assert outcomes[0] == outcomes[1]
    rules = [hit["rule"] for hit in outcomes[0][0]]
    assert rules.count("encrypted_log_file_read") == 240
    assert "bulk_log_decrypt" in rules
    assert outcomes[0][1]["bad_count"] == 1


def test_a_process_that_dies_is_a_named_error(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Search, "run", die)
    hunt = Hunt.prepare(load_rules([packaged("rules") / "use"]).rules, SCHEMA)
    with pytest.raises(WorkerError, match="ended before it was done"):
        list(hunt.run(Reader([str(many)]), jobs=2))


def test_a_hunt_can_be_left_early(many: Path) -> None:
    hunt = Hunt.prepare(load_rules([packaged("rules") / "normal"]).rules, SCHEMA)
    hits = hunt.run(Reader([str(many)]), jobs=2)
    assert isinstance(next(hits), Hit)
    hits.close()  # type: ignore[attr-defined]


def test_no_record_of_a_pipe_is_lost(tmp_path: Path) -> None:
    """What one reader takes of a pipe is gone for the next."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    event = {"eventSource": "kms.amazonaws.com", "eventName": "DisableKey", "eventTime": "2026-11-20T01:00:00Z"}
    text = b"".join(orjson.dumps({**event, "eventID": str(number)}) + b"\n" for number in range(5_000))
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))
    writer.start()
    reader = Reader([str(pipe)])
    hunt = Hunt.prepare(load_rules([packaged("rules") / "key" / "trail_key_disabled.yml"]).rules, SCHEMA)
    hits = sum(1 for _ in hunt.run(reader))
    writer.join()
    assert (reader.records, reader.bad_count, hits) == (5_000, 0, 5_000)


WAITING = """
import os, sys, time
from pathlib import Path
from keytrail.data import packaged
from keytrail.hunt import Hunt
from keytrail.pack import load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.search import Search

def wait(self, reader, paths):
    Path(sys.argv[2], str(os.getpid())).touch()
    time.sleep(60)
    return iter(())

Search.run = wait
rules = load_rules([packaged("rules") / "key" / "trail_key_disabled.yml"]).rules
list(Hunt.prepare(rules, get_schema("keytrail")).run(Reader([sys.argv[1]]), jobs=2))
"""


def test_processes_end_with_the_one_that_started_them_however_it_ends(many: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    with subprocess.Popen([sys.executable, "-c", WAITING, str(many), str(pids)]) as hunting:
        assert becomes(lambda: any(pids.iterdir()))
        hunting.kill()
    started = [int(path.name) for path in pids.iterdir()]
    assert becomes(lambda: not any(map(runs, started)))


def becomes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
    return true()


def runs(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
