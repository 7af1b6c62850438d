"""Reading log files: every form that CloudTrail and its users produce, and every way one can be broken."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keytrail.errors import RecordError
from keytrail.logfiles import Files, find_files
from keytrail.records import MAX_KEPT, Reader

CALL = {"eventSource": "kms.amazonaws.com", "eventName": "Decrypt"}


def call(number: int) -> dict[str, object]:
    return {**CALL, "eventID": str(number)}


def ndjson(count: int) -> bytes:
    return b"".join(json.dumps(call(number)).encode() + b"\n" for number in range(count))


def document(count: int) -> bytes:
    return json.dumps({"Records": [call(number) for number in range(count)]}).encode()


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read(*paths: Path, limit: int = 1 << 20) -> tuple[list[object], Reader]:
    """The eventIDs that were read, and the reader with its counts."""
    reader = Reader(map(str, paths), limit=limit)
    return [record.record.get("eventID") for record in reader], reader


def only_error(reader: Reader) -> RecordError:
    assert reader.bad_count == len(reader.bad) == 1, [str(error) for error in reader.bad]
    return reader.bad[0]


GOOD = {
    "CloudTrail's own form": document(2),
    "pretty-printed": json.dumps(json.loads(document(2)), indent=2).encode(),
    "one record a line in a document": b'{"Records": [\n' + ndjson(2).replace(b"}\n{", b"},\n{") + b"]}",
    "a list": json.dumps([call(0), call(1)]).encode(),
    "NDJSON": ndjson(2),
    "NDJSON without a last line feed": ndjson(2).rstrip(),
    "NDJSON with Windows line ends and blank lines": ndjson(2).replace(b"\n", b"\r\n\r\n"),
    "NDJSON of documents": document(1) + b"\n" + json.dumps({"Records": [call(1)]}).encode(),
    "a byte order mark": b"\xef\xbb\xbf" + document(2),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.ndjson", "a.jsonl.gz", "unnamed"])
def test_every_form_is_recognised_by_its_content(tmp_path: Path, content: bytes, name: str) -> None:
    packed = gzip.compress(content) if name.endswith(".gz") else content
    ids, reader = read(write(tmp_path, name, packed))
    assert ids == ["0", "1"]
    assert (reader.files, reader.records, reader.bad_count) == (1, 2, 0)


def test_a_single_record_is_a_file_too(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json", json.dumps(call(7), indent=1).encode()))
    assert (ids, reader.records) == (["7"], 1)


def test_a_record_tells_its_file_and_its_number_there(tmp_path: Path) -> None:
    paths = [write(tmp_path, "b.json", document(2)), write(tmp_path, "a.ndjson", ndjson(2))]
    places = [(Path(record.path).name, record.number) for record in Reader(map(str, paths))]
    assert places == [("b.json", 1), ("b.json", 2), ("a.ndjson", 1), ("a.ndjson", 2)]


def test_a_record_needs_no_event_id_and_no_time(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json", json.dumps([CALL]).encode()))
    assert (ids, reader.bad_count) == ([None], 0)


def test_the_last_of_duplicate_keys_counts(tmp_path: Path) -> None:
    text = b'{"eventSource": "kms.amazonaws.com", "eventName": "A", "eventName": "B"}'
    [record] = Reader([str(write(tmp_path, "a.json", text))])
    assert record.record["eventName"] == "B"


def test_no_record_is_no_error_here(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json", b'{"Records": []}'), write(tmp_path, "b.json", b"[]"))
    assert (ids, reader.files, reader.bad_count) == ([], 2, 0)


# gzip


def test_gzip_is_recognised_without_its_ending(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.json", gzip.compress(document(2))))[0] == ["0", "1"]


def test_all_members_of_a_gzip_file_are_read(tmp_path: Path) -> None:
    first, second = ndjson(1), json.dumps(call(1)).encode()
    packed = gzip.compress(first) + b"\0" * 512 + gzip.compress(second) + b"\0" * 512
    ids, reader = read(write(tmp_path, "a.json.gz", packed))
    assert (ids, reader.bad_count) == (["0", "1"], 0)


def test_what_precedes_the_cut_in_ndjson_is_used(tmp_path: Path) -> None:
    packed = gzip.compress(ndjson(1000))
    ids, reader = read(write(tmp_path, "a.ndjson.gz", packed[: len(packed) // 2]))
    assert 100 < len(ids) < 900
    assert ids == [str(number) for number in range(len(ids))]
    assert "cut off: the gzip data ends" in only_error(reader).message
    assert f"{len(ids)} records before that are used" in only_error(reader).message


def test_a_document_that_is_cut_off_is_bad_as_a_whole(tmp_path: Path) -> None:
    packed = gzip.compress(document(1000))
    ids, reader = read(write(tmp_path, "a.json.gz", packed[: len(packed) // 2]))
    assert ids == []
    assert "cut off" in only_error(reader).message
    ids, reader = read(write(tmp_path, "b.json", document(2)[:-5]))
    assert ids == []
    assert "not valid JSON" in only_error(reader).message


def test_nothing_is_lost_when_only_the_checksum_is_cut_off(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json.gz", gzip.compress(document(2))[:-4]))
    assert ids == ["0", "1"]
    assert "cut off" in only_error(reader).message


def test_damaged_gzip_data_is_named_and_what_precedes_it_is_used(tmp_path: Path) -> None:
    no_such_block = b"\xff"
    header = gzip.compress(b"")[:10]
    packed = gzip.compress(ndjson(3)) + header + no_such_block * 100
    ids, reader = read(write(tmp_path, "a.json.gz", packed))
    assert ids == ["0", "1", "2"]
    assert "damaged gzip data" in only_error(reader).message
    assert "3 records before that are used" in only_error(reader).message


def test_bytes_after_the_gzip_data_are_reported_and_the_records_used(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json.gz", gzip.compress(document(2)) + b"<html>"))
    assert ids == ["0", "1"]
    assert "no gzip follow the gzip data; 2 records before" in only_error(reader).message


def test_a_name_that_promises_gzip_is_held_to_it(tmp_path: Path) -> None:
    ids, reader = read(write(tmp_path, "a.json.gz", document(2)))
    assert ids == []
    assert "named .gz, but the content is no gzip" in str(only_error(reader))
    assert "take .gz off its name" in str(only_error(reader))


@pytest.mark.parametrize("filling", [b" ", b"\n", b"0"], ids=["spaces", "line feeds", "digits"])
def test_a_gzip_bomb_is_left_early(tmp_path: Path, filling: bytes) -> None:
    bomb = write(tmp_path, "a.json.gz", gzip.compress(filling * (64 << 20)))
    tracemalloc.start()
    ids, reader = read(bomb, limit=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ids == []
    assert "bomb" in only_error(reader).message or "more than 1,048,576 bytes" in only_error(reader).message
    assert peak < 24 << 20


def test_much_ndjson_in_a_gzip_file_is_no_bomb(tmp_path: Path) -> None:
    lines = ndjson(3000)
    ids, reader = read(write(tmp_path, "a.ndjson.gz", gzip.compress(lines)), limit=len(lines) // 10)
    assert (len(ids), reader.bad_count) == (3000, 0)


# What is bad


BAD = {
    "an empty file": (b"", "empty"),
    "white space": (b" \n\n ", "nothing but white space"),
    "a number": (b"42", "neither"),
    "null": (b"null", "neither"),
    "some object": (b'{"a": 1}', "neither"),
    "Records that are no list": (b'{"Records": {}}', "neither"),
    "a record that is no object": (b'{"Records": ["x"]}', "record 1 is no object but a string"),
    "a list of lists": (b"[[[]]]", "record 1 is no object but a list"),
    "a record without a name": (b'[{"eventSource": "kms.amazonaws.com"}]', "record 1 .* no eventName"),
    "a record that says neither": (b'[{"eventID": "1"}]', "no eventSource and no eventName"),
    "a name that is no text": (b'{"eventSource": "a", "eventName": null}', "no eventName"),
    "NaN": (b'{"Records": NaN}', "NaN and Infinity are no JSON"),
    "Infinity": (b'{"Records": -Infinity}', "NaN and Infinity are no JSON"),
    "bytes that are no UTF-8": (b'{"Records": ["\xff"]}', "byte 0xff is not UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "UTF-16 text"),
    "something after the document": (document(1) + b" x", "not valid JSON"),
    "half a word": (b'{"Records": tru', "not valid JSON"),
    "no end of the nesting": (b'{"a":' * 100_000, "nested more than 100 levels deep"),
    "output of lookup-events": (b'{"Events": []}', "neither"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_content_is_named_and_the_other_files_are_read(tmp_path: Path, content: bytes, message: str) -> None:
    bad = write(tmp_path, "bad.json", content)
    ids, reader = read(bad, write(tmp_path, "good.json", document(2)))
    assert ids == ["0", "1"]
    assert reader.files == 2
    error = only_error(reader)
    assert error.path == str(bad)
    with pytest.raises(RecordError, match=message):
        raise error


def test_an_error_points_at_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", b'{\n  "Records": [\n    {"eventName": wrong}]}')
    ids, reader = read(path)
    assert ids == []
    error = only_error(reader)
    assert (error.line, error.column) == (3, 19)
    first, excerpt, caret = str(error).splitlines()
    assert first.startswith(f"{path}:3:19: record 1: not valid JSON: ")
    assert excerpt[caret.index("^") :] == "wrong}"


def test_an_error_in_a_long_line_has_its_column_there(tmp_path: Path) -> None:
    text = document(3).replace(b'"eventID": "2"', b'"eventID": nothing').replace(b'"0"', '"中"'.encode())
    ids, reader = read(write(tmp_path, "a.json", text))
    assert ids == ["中", "1"]
    assert (only_error(reader).line, only_error(reader).column) == (1, text.decode().index("nothing") + 1)


def test_an_excerpt_is_narrow_and_moves_no_cursor(tmp_path: Path) -> None:
    text = '{"a": "' + "é\u202e\u4e2d" * 100 + '", "b": \x1b[2J\x07' + "\U0001f600" * 100
    _, reader = read(write(tmp_path, "a.json", text.encode()))
    _, excerpt, caret = only_error(reader).message.splitlines()
    assert excerpt.isascii()
    assert excerpt.isprintable()
    assert max(len(excerpt), len(caret)) <= 80
    assert excerpt[caret.index("^") :].startswith("\\x1b[2J\\x07")


def test_a_bad_line_costs_only_itself(tmp_path: Path) -> None:
    good = ndjson(3).splitlines()
    lines = [good[0], b"{broken", good[1], b'{"a": 1}', b'{"Records": [1, ' + good[2] + b"]}"]
    ids, reader = read(write(tmp_path, "a.json", b"\n".join(lines)))
    assert ids == ["0", "1", "2"]
    assert [error.line for error in reader.bad] == [2, 4, 5]


def test_ndjson_is_recognised_when_its_first_line_is_broken(tmp_path: Path) -> None:
    for name in ("a.json", "a.ndjson"):
        ids, reader = read(write(tmp_path, name, b"{broken\n" + ndjson(2)))
        assert ids == ["0", "1"]
        assert only_error(reader).line == 1


@pytest.mark.parametrize(
    "spoilt", [b'"\\ud800"', b'"\xff"', b"NaN", b"[" * 2000 + b"]" * 2000, b"[" * 200 + b"]" * 200]
)
@pytest.mark.parametrize("form", [b"%b", b'{"Records": %b}', b'{"Records":\n%b\n}\n'])
def test_a_bad_record_in_a_document_costs_only_itself(tmp_path: Path, spoilt: bytes, form: bytes) -> None:
    first, last = (json.dumps({**call(number), "text": '}{][\\"'}).encode() for number in (0, 1))
    middle = b'{"eventSource": "a", "eventName": "b", "requestParameters": %b}' % spoilt
    ids, reader = read(write(tmp_path, "a.json", form % (b"[%b, %b,\n%b]" % (first, middle, last))))
    assert ids == ["0", "1"]
    assert only_error(reader).message.startswith("record 2")


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    nested = b'{"eventSource": "a", "eventName": "b", "requestParameters": %b}' % (b"[" * 99 + b"]" * 99)
    ids, reader = read(write(tmp_path, "a.json", b'{"Records": [' + nested + b"]}"))
    assert (len(ids), reader.bad_count) == (1, 0)


def test_a_document_over_the_limit_is_named_and_not_held(tmp_path: Path) -> None:
    for content in (document(100), json.dumps(json.loads(document(100)), indent=1).encode()):
        ids, reader = read(write(tmp_path, "a.json", content), limit=5000)
        assert ids == []
        assert "more than 5,000 bytes" in only_error(reader).message


def test_errors_are_all_counted_but_not_all_kept(tmp_path: Path) -> None:
    count = MAX_KEPT + 500
    _, reader = read(write(tmp_path, "a.ndjson", ndjson(1) + b"x\n" * count))
    assert reader.bad_count == count
    assert len(reader.bad) == MAX_KEPT


def test_an_error_that_is_kept_does_not_keep_the_file(tmp_path: Path) -> None:
    big = b'{"Records": [' + b" " * (4 << 20) + b"x]}"
    path = write(tmp_path, "a.json", big)
    tracemalloc.start()
    _, reader = read(path, limit=1 << 30)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert only_error(reader).__traceback__ is None
    assert kept < 1 << 20


def test_long_ndjson_is_read_with_flat_memory(tmp_path: Path) -> None:
    line = json.dumps({**CALL, "userAgent": "aws-cli" * 500}).encode() + b"\n"
    path = write(tmp_path, "a.ndjson.gz", gzip.compress(line * 10_000))
    tracemalloc.start()
    count = sum(1 for _ in Reader([str(path)]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < len(line) * 10_000 // 4


# What is no log of calls


def test_digest_files_are_counted_apart(tmp_path: Path) -> None:
    digest = {"awsAccountId": "111122223333", "digestS3Bucket": "b", "digestS3Object": "o", "logFiles": []}
    write(tmp_path, "CloudTrail-Digest/d.json.gz", gzip.compress(json.dumps(digest).encode()))
    write(tmp_path, "CloudTrail/a.json.gz", gzip.compress(document(2)))
    ids, reader = read(tmp_path)
    assert ids == ["0", "1"]
    assert (reader.digests, reader.files, reader.bad_count) == (1, 1, 0)


def test_insights_are_counted_apart(tmp_path: Path) -> None:
    insight = {"eventType": "AwsCloudTrailInsight", "insightDetails": {"eventName": "Decrypt"}}
    ids, reader = read(write(tmp_path, "a.json", json.dumps({"Records": [insight, call(1)]}).encode()))
    assert (ids, reader.insights, reader.bad_count) == (["1"], 1, 0)


# Paths


def test_a_folder_is_searched_to_the_bottom_in_order(tmp_path: Path) -> None:
    days = "AWSLogs/111122223333/CloudTrail/us-west-2/2026/11"
    names = [f"{days}/20/a.json.gz", f"{days}/20/b.JSON", f"{days}/21/a.ndjson", "z/a.jsonl"]
    for name in reversed(names):
        write(tmp_path, name, gzip.compress(document(1)))
    others = ["a.txt", "z/._a.json", "z/a.csv.gz"]
    for name in others:
        write(tmp_path, name, b"")
    found = find_files([str(tmp_path)])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == names
    assert (found.passed_over, found.bad) == (len(others), [])
    assert Reader([str(tmp_path)]).passed_over == len(others)


def test_links_in_a_circle_end_and_a_linked_file_is_read_once(tmp_path: Path) -> None:
    real = write(tmp_path, "logs/day/a.json", document(1))
    (tmp_path / "logs/day/again").symlink_to(tmp_path / "logs")
    (tmp_path / "logs/b.json").symlink_to(real)
    assert len(read(tmp_path / "logs", real, tmp_path)[0]) == 1


def test_links_lead_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/a.json", document(1))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/here").symlink_to(tmp_path / "elsewhere")
    assert len(read(tmp_path / "logs")[0]) == 1


def test_a_link_to_nothing_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "a.json", document(1))
    (tmp_path / "b.json").symlink_to(tmp_path / "gone.json")
    ids, reader = read(tmp_path)
    assert ids == ["0"]
    assert only_error(reader).path == str(tmp_path / "b.json")


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "a.json", document(1))
    os.mkfifo(tmp_path / "b.json")
    ids, reader = read(tmp_path)
    assert (ids, reader.passed_over, reader.bad_count) == (["0"], 1, 0)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["gone.json"], "gone.json: cannot be read: No such file or directory"),
        (["empty"], "empty: no log file in this folder or below it"),
        (["other"], r"other: no log file in this folder or below it \(1 other files\)"),
        ([""], "a path is empty"),
        ([], "no path was given"),
    ],
)
def test_a_path_that_leads_nowhere_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty/below").mkdir(parents=True)
    write(tmp_path, "other/a.txt", b"")
    reader = Reader(paths)
    assert list(reader) == []
    with pytest.raises(RecordError, match=message):
        raise only_error(reader)


def test_the_other_paths_are_read(tmp_path: Path) -> None:
    ids, reader = read(tmp_path / "gone.json", write(tmp_path, "a.json", document(1)))
    assert ids == ["0"]
    assert reader.bad_count == 1


def test_reading_again_counts_from_the_start(tmp_path: Path) -> None:
    reader = Reader([str(write(tmp_path, "a.ndjson", ndjson(2) + b"x")), str(tmp_path / "gone")])
    counts = [(len(list(reader)), reader.files, reader.records, reader.bad_count) for _ in range(2)]
    assert counts == [(2, 1, 2, 2)] * 2


# Standard input


@pytest.mark.parametrize("content", [document(2), ndjson(2), gzip.compress(document(2))])
def test_standard_input_is_read_and_left_open(content: bytes) -> None:
    stdin = io.BytesIO(content)
    reader = Reader(["-", "-"], stdin=stdin)
    assert [(record.path, record.record["eventID"]) for record in reader] == [("-", "0"), ("-", "1")]
    assert not stdin.closed


def test_empty_standard_input_is_reported() -> None:
    reader = Reader(["-"], stdin=io.BytesIO())
    assert list(reader) == []
    assert str(only_error(reader)).startswith("-: empty")


def test_a_pipe_that_stays_open_is_followed() -> None:
    code = "from keytrail.records import Reader\nfor r in Reader(['-']): print(r.record['eventID'], flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(ndjson(2))
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
        process.stdin.close()
    assert process.returncode == 0


def test_a_file_called_dash_is_no_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "-", document(1))
    assert [record.path for record in Reader(["./-"], stdin=io.BytesIO())] == [str(tmp_path / "-")]


def test_reading_can_be_left_at_any_point(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ndjson", ndjson(10))
    reader = Reader([str(path)])
    assert len(list(itertools.islice(reader, 3))) == 3
    assert reader.records == 3


def test_documents_end_to_end_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "joined.json"
    path.write_text(json.dumps({"Records": [CALL]}) + json.dumps({"Records": [CALL | {"x": '}{"Records"'}, CALL]}))
    reader = Reader([str(path)])
    assert len(list(reader)) == 3
    assert reader.bad == []


PARTS = st.lists(st.sampled_from(["a", "b", "a.json", "-", " "]), min_size=1, max_size=3)


@given(st.lists(PARTS.map(lambda parts: Path(*parts)) | PARTS.map(lambda parts: Path("/", *parts)), max_size=8))
def test_files_are_the_paths_that_were_added(paths: list[Path]) -> None:
    files = Files(paths)
    assert list(files) == [files[place] for place in range(len(files))] == paths
    assert list(files[1:-1]) == paths[1:-1]
    assert [path in files for path in (*paths, Path("c"))] == [*[True] * len(paths), False]
    with pytest.raises(IndexError):
        print(files[len(paths)])
