"""Documents end to end, as joining CloudTrail's files makes them: each is read by itself, whatever stands in it."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keytrail.records import Reader

CALL = {"eventSource": "kms.amazonaws.com", "eventName": "Decrypt"}
# What could be taken for a seam, or hide one.
BITS = ["}{", '{"Records":', '"', "\\", "{", "}", "[", "]", ":", ",", " ", "a", "\n", "é", "}\\"]
TEXTS = st.lists(st.sampled_from(BITS), max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.just("Records"), inner, max_size=3),
    max_leaves=8,
)
RECORDS = VALUES.map(lambda value: {**CALL, "requestParameters": value})
DOCUMENTS = st.lists(RECORDS, max_size=3).map(lambda records: {"Records": records})


class Trickle(io.BytesIO):
    """Standard input that gives some bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self._size = size

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(self._size)


def read(content: bytes, size: int = 1 << 20) -> tuple[list[object], list[str]]:
    reader = Reader(["-"], stdin=Trickle(content, size))
    return [record.record for record in reader], [str(error) for error in reader.bad]


def call(number: int) -> dict[str, str]:
    return {**CALL, "eventID": str(number)}


def document(*records: object) -> str:
    return json.dumps({"Records": records})


@given(
    st.lists(DOCUMENTS | RECORDS, min_size=1, max_size=5),
    st.sampled_from(["", " ", "\n", " \n\n", "\t"]),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.integers(1, 40),
)
def test_documents_end_to_end_are_read_one_by_one(
    documents: list[dict[str, object]], between: str, indent: int | None, ascii_only: bool, size: int
) -> None:
    text = between.join(json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in documents)
    expected: list[object] = []
    for one in documents:
        inside = one.get("Records", [one])
        assert isinstance(inside, list)
        expected += inside
    assert read(text.encode(), size) == (expected, [])


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("cut", range(1, len(document(call(1))) - 1))
def test_a_document_that_is_cut_off_costs_itself_and_at_most_the_next(cut: int, size: int) -> None:
    good = [document(call(number)) for number in (0, 1, 2, 3)]
    found, bad = read((good[0] + good[1][:cut] + good[2] + good[3]).encode(), size)
    # Where a value could have followed, the next document could be that value.
    kept = [0, 3] if good[1][:cut].rstrip().endswith((":", ",", "[")) else [0, 2, 3]
    assert found == [call(number) for number in kept]
    assert len(bad) == 1
    assert bad[0].startswith("-:1:")


def test_an_error_in_a_later_document_has_its_place_in_the_line() -> None:
    text = document(CALL).replace("kms", "é") + '{"Records": [{"eventName": nul}]}' + document(CALL)
    found, bad = read(text.encode())
    assert len(found) == 2
    assert bad[0].startswith(f"-:1:{text.index('nul') + 1}: record 2: not valid JSON")


def test_one_comma_that_is_missing_is_one_error() -> None:
    text = document(CALL, CALL, CALL).replace("}, {", "} {")
    found, bad = read(text.encode())
    assert found == []
    assert len(bad) == 1
    assert bad[0].startswith(f"-:1:{text.index('} {') + 3}: not valid JSON")


def test_braces_in_a_text_are_no_work_for_each_of_them() -> None:
    braces = document({**CALL, "userAgent": "}{" * 500_000})
    assert read(braces[:-1].encode())[0] == []
    assert len(read((braces + braces).encode())[0]) == 2
    assert len(read(("{}{" * 50_000 + braces).encode())[0]) == 1


@pytest.mark.parametrize("packed", [True, False], ids=["gzip members", "plain"])
def test_files_that_were_joined_are_read_with_flat_memory(tmp_path: Path, packed: bool) -> None:
    one = document(*({**CALL, "userAgent": bytes(range(50)).hex() + str(place) * 40} for place in range(1000))).encode()
    path = tmp_path / ("all.json.gz" if packed else "all.json")
    path.write_bytes((gzip.compress(one) if packed else one) * 200)
    tracemalloc.start()
    # All of it is far more than one document may have.
    reader = Reader([str(path)], limit=2 * len(one))
    count = sum(1 for _ in reader)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, reader.bad) == (200_000, [])
    assert peak < 200 * len(one) // 5
