"""Correlations on a real Elasticsearch: the same hits, at edges, out of order, and over more groups than a page has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from keytrail.cluster import Cluster
from keytrail.convert import Conversion
from keytrail.correlation import Episode, Searched
from keytrail.correlation_plan import PAGE
from keytrail.correlation_search import search
from keytrail.errors import ClusterError
from keytrail.proof import holds
from keytrail.schemas import SCHEMAS, Schema, get_schema
from keytrail.times import iso

from tests.sequences import KEY, PLACE, START, USER, Sequence, by_engine, by_reference, conversion, moved, sequences

KEYTRAIL, ECS = get_schema("keytrail"), get_schema("ecs")
WORLDS = 150


def drawn(count: int) -> list[Sequence]:
    """Random sequences, each on a day of its own."""
    found: list[Sequence] = []

    @settings(max_examples=count, database=None, phases=[Phase.generate])
    @given(sequences())
    def draw(sequence: Sequence) -> None:
        found.append(moved(sequence, len(found)))

    draw()
    return found


def found_in(cluster: Cluster, index: str, made: Conversion, sequence: Sequence) -> list[Episode]:
    assert made.query is not None, made.error
    return search(cluster, index, sequence.correlation, made.query.body, made.schema, sequence.searched)


@pytest.fixture(scope="module")
def worlds() -> list[Sequence]:
    return drawn(WORLDS)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_a_node_finds_what_random_correlations_mean(cluster: Cluster, schema: Schema, worlds: list[Sequence]) -> None:
    seen: Counter[str] = Counter()
    documents = (
        (f"{number}-{place}", schema.document(record))
        for number, sequence in enumerate(worlds)
        for place, record in enumerate(sequence.records)
    )
    with cluster.temporary_index(schema.body) as index:
        refused = cluster.load(index, documents)
        assert schema.taken is not None or not refused
        for sequence in worlds:
            made = conversion(sequence, schema)
            if made.query is None:
                seen["refused"] += 1
                continue
            found = found_in(cluster, index, made, sequence)
            meant = by_reference(sequence)
            broken = any(not holds(part, schema, record) for part in made.conditions for record in sequence.records)
            if found != meant:
                assert broken, sequence
                seen["outside a condition"] += 1
            else:
                seen["hits" if meant else "no hit"] += 1
            if schema.taken is None:
                assert found == by_engine(sequence, schema), sequence
    assert seen["hits"] > WORLDS / 20
    assert seen["no hit"] > WORLDS / 20
    assert seen["outside a condition"] < WORLDS / 3
    assert seen["refused"] < WORLDS / 3


# -- by hand ----------------------------------------------------------------------------------------------------------


def event(number: int, moment: int, user: str, place: str = "p", name: str = "A") -> dict[str, Any]:
    return {
        "eventSource": "kms.amazonaws.com",
        "eventName": name,
        "eventID": f"{number:08d}",
        "eventTime": iso(START + moment),
        "userIdentity": {"arn": user},
        "requestParameters": {"other": "x", "encryptionContext": {"aws:s3:arn": place}},
    }


def given_by(correlation: Mapping[str, Any], records: list[dict[str, Any]], end: int = 10**8) -> Sequence:
    return Sequence({"correlation": dict(correlation)}, records, Searched(START, START + end))


COUNT = {"type": "event_count", "rules": ["a"], "group-by": [USER], "timespan": "1h", "condition": {"gte": 3}}


@pytest.fixture(scope="module")
def many(cluster: Cluster) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """More groups than a page of buckets or of events has; each has its three events over the edge of a bucket."""
    records = [
        event(3 * user + place, moment, f"user/{user:05d}", f"place/{user}/{place}")
        for user in range(PAGE + 500)
        for place, moment in enumerate((3_599_000, 3_600_000, 3_600_500) if user % 500 == 7 else (0, 5_000_000))
    ]
    with cluster.temporary_index(ECS.body) as index:
        assert cluster.load(index, ((str(n), ECS.document(record)) for n, record in enumerate(records))) == {}
        yield index, records


def test_more_groups_than_a_page_has(cluster: Cluster, many: tuple[str, list[dict[str, Any]]]) -> None:
    index, records = many
    sequence = given_by(COUNT, records)
    found = found_in(cluster, index, conversion(sequence, ECS), sequence)
    assert [one.group for one in found] == [(f"user/{user:05d}",) for user in range(7, PAGE + 500, 500)]
    assert {one.events for one in found} == {3}
    assert {one.end - one.start for one in found} == {1500}


def test_more_hits_than_a_page_has(cluster: Cluster, many: tuple[str, list[dict[str, Any]]]) -> None:
    index, records = many
    every = given_by({**COUNT, "condition": {"gte": 1}}, records)
    assert len({one.group for one in found_in(cluster, index, conversion(every, ECS), every)}) == PAGE + 500
    values = {"gte": len(records), "field": PLACE}
    whole = given_by({**COUNT, "type": "value_count", "group-by": [], "timespan": "2h", "condition": values}, records)
    [one] = found_in(cluster, index, conversion(whole, ECS), whole)
    assert (one.group, one.events, len(one.event_ids)) == ((), len(records), len(records))
    silent = given_by({**COUNT, "condition": {"lt": 1}}, records, end=3_600_000 + 3_700_000)
    assert len(found_in(cluster, index, conversion(silent, ECS), silent)) == PAGE + 500


@pytest.mark.parametrize("schema", [KEYTRAIL, ECS], ids=lambda schema: schema.name)
def test_windows_over_the_edges_of_buckets(cluster: Cluster, schema: Schema) -> None:
    """START is an edge of every bucket: hits that begin just before one, on it, and an hour apart over two of them."""
    hour = 3_600_000
    records = [
        *(event(n, hour - 2 + n, "before") for n in range(3)),
        *(event(10 + n, moment, "both ends") for n, moment in enumerate((hour, hour + 5, 2 * hour))),
        *(event(20 + n, moment, "too far") for n, moment in enumerate((hour, hour + 5, 2 * hour + 1))),
        *(event(30, hour + n, "delivered twice") for n in (0, 0, 0)),
        *(event(40 + n, 2 * hour - n, "backwards") for n in range(3)),
    ]
    sequence = given_by(COUNT, records)
    with cluster.temporary_index(schema.body) as index:
        assert cluster.load(index, ((str(n), schema.document(record)) for n, record in enumerate(records))) == {}
        found = found_in(cluster, index, conversion(sequence, schema), sequence)
    assert [one.group for one in found] == [("backwards",), ("before",), ("both ends",)]
    assert found == by_reference(sequence)


def test_without_a_range_the_whole_index_is_searched(cluster: Cluster) -> None:
    records = [event(n, n * 1000, "x") for n in range(3)]
    sequence = given_by({**COUNT, "timespan": "1s", "condition": {"lt": 2}}, records)
    made = conversion(sequence, KEYTRAIL)
    assert made.query is not None
    with cluster.temporary_index(KEYTRAIL.body) as index:
        assert search(cluster, index, sequence.correlation, made.query.body, KEYTRAIL) == []
        cluster.load(index, ((str(n), KEYTRAIL.document(record)) for n, record in enumerate(records)))
        [one] = search(cluster, index, sequence.correlation, made.query.body, KEYTRAIL)
    assert (one.start, one.end) == (START + 1, START + 1999)


def test_an_index_without_source_is_a_named_error_and_not_silence(cluster: Cluster) -> None:
    records = [event(n, n * 1000, "x") for n in range(3)]
    sequence = given_by(COUNT, records)
    body = {**KEYTRAIL.body, "mappings": {**KEYTRAIL.body["mappings"], "_source": {"enabled": False}}}
    with cluster.temporary_index(body) as index:
        cluster.load(index, ((str(n), KEYTRAIL.document(record)) for n, record in enumerate(records)))
        with pytest.raises(ClusterError, match="_source"):
            found_in(cluster, index, conversion(sequence, KEYTRAIL), sequence)


def test_a_search_that_the_server_refuses_is_a_named_error(cluster: Cluster) -> None:
    sequence = given_by({**COUNT, "group-by": [KEY]}, [])
    made = conversion(sequence, KEYTRAIL)
    body = {"mappings": {"properties": {"@timestamp": {"type": "date"}, "resources.ARN": {"type": "text"}}}}
    with cluster.temporary_index(body) as index:
        cluster.load(index, [("1", {"@timestamp": iso(START), "eventName": "A", "resources": {"ARN": "x"}})])
        with pytest.raises(ClusterError):
            found_in(cluster, index, made, sequence)
