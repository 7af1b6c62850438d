"""What a correlation means, by hand and at random: the reference and the streaming engine say the same."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from itertools import chain, pairwise
from operator import attrgetter
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail import correlation_engine
from keytrail.correlation import Episode, Searched
from keytrail.correlation_engine import Mark, Sorter
from keytrail.schemas import get_schema
from keytrail.times import DAY, iso, milliseconds

from tests.sequences import LENGTH, START, USER, Sequence, by_engine, by_reference, sequences

KEYTRAIL = get_schema("keytrail")
COUNT = {"type": "event_count", "rules": ["a"], "group-by": [USER], "timespan": "10s"}
VALUES = {**COUNT, "type": "value_count"}
ORDER = {**COUNT, "type": "temporal_ordered", "rules": ["a", "b"]}
TOGETHER = {**ORDER, "type": "temporal"}


def event(name: str, second: float, **more: Any) -> dict[str, Any]:
    """An event of rule ``name``, of user x unless it says otherwise, with an id of its own."""
    event_id = f"{name}@{second}"
    record = {"eventSource": "kms.amazonaws.com", "eventName": name.upper(), "eventID": event_id}
    return {**record, "eventTime": iso(START + round(second * 1000)), "userIdentity": {"arn": "x"}, **more}


def found(
    correlation: dict[str, Any], *records: dict[str, Any], end: float = 60, known: frozenset[Any] = frozenset()
) -> list[tuple[Any, ...]]:
    """The hits, as (group, from and to in seconds, number of events); both evaluators must agree on them."""
    searched = Searched(START, START + round(end * 1000), known)
    sequence = Sequence({"title": "By hand", "correlation": correlation}, list(records), searched)
    meant = by_reference(sequence)
    assert by_engine(sequence, KEYTRAIL) == meant
    assert by_engine(Sequence(sequence.document, sequence.records[::-1], searched), KEYTRAIL) == meant
    return [(*one.group, (one.start - START) / 1000, (one.end - START) / 1000, one.events) for one in meant]


# -- windows --------------------------------------------------------------------------------------------------------


def test_both_ends_of_a_window_are_in_it() -> None:
    two = {**COUNT, "condition": {"gte": 2}}
    assert found(two, event("a", 3), event("a", 13)) == [("x", 3, 13, 2)]
    assert found(two, event("a", 3), event("a", 13.001)) == []


def test_windows_slide_over_the_edges_of_buckets() -> None:
    records = [event("a", second) for second in (8, 9, 10, 11, 12)]
    assert found({**COUNT, "condition": {"gte": 5}}, *records) == [("x", 8, 12, 5)]


def test_an_event_that_is_delivered_twice_counts_once() -> None:
    twice = [event("a", 1), event("a", 1), event("a", 2)]
    assert found({**COUNT, "condition": {"gte": 3}}, *twice) == []
    assert found({**COUNT, "condition": {"eq": 2}}, *twice, end=11) == [("x", 1, 11, 2)]


@pytest.mark.parametrize("missing", ["", "-", "none", None, ["1", "2"]])
def test_an_event_without_an_id_is_an_event_of_its_own(missing: Any) -> None:
    same = [event("a", 1, eventID=missing), event("a", 1, eventID=missing)]
    assert found({**COUNT, "condition": {"gte": 2}}, *same) == [("x", 1, 1, 2)]


def test_an_event_that_two_rules_match_counts_once_and_stands_for_both() -> None:
    both = event("a", 1)
    assert found({**COUNT, "rules": ["a", "c"], "condition": {"gte": 2}}, both) == []
    assert found({**TOGETHER, "rules": ["a", "c"]}, both) == [("x", 1, 1, 1)]


@pytest.mark.parametrize("time", [None, "", "yesterday", 1_773_136_800_000, "2026-13-01T00:00:00Z"])
def test_an_event_without_a_time_never_counts(time: Any) -> None:
    one = {**COUNT, "condition": {"gte": 1}}
    assert found(one, event("a", 1, eventTime=time)) == []
    assert found(one, event("a", 1)) == [("x", 1, 1, 1)]


def test_an_event_outside_what_was_searched_does_not_count() -> None:
    one = {**COUNT, "condition": {"gte": 1}}
    assert found(one, event("a", -0.001), event("a", 60.001)) == []
    assert found(one, event("a", 0), event("a", 60)) == [("x", 0, 0, 1), ("x", 60, 60, 1)]


# -- groups and values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [None, {}, {"arn": None}, {"arn": []}, {"userName": "x"}])
def test_an_event_without_the_field_is_in_no_group(identity: Any) -> None:
    assert found({**COUNT, "condition": {"gte": 1}}, event("a", 1, userIdentity=identity)) == []


def test_groups_are_apart_and_case_tells_them_apart() -> None:
    records = [event("a", second, userIdentity={"arn": user}) for second, user in enumerate("xXxX")]
    assert found({**COUNT, "condition": {"gte": 3}}, *records) == []
    assert found({**COUNT, "condition": {"gte": 2}}, *records) == [("X", 1, 3, 2), ("x", 0, 2, 2)]
    assert found({**COUNT, "group-by": [], "condition": {"gte": 3}}, *records) == [(0, 3, 4)]


def test_an_event_with_several_values_is_in_the_group_of_each() -> None:
    keys = [{"ARN": "k1"}, {"ARN": "k2"}]
    by_key = {**COUNT, "group-by": [USER, "resources.ARN"], "condition": {"gte": 2}}
    records = [event("a", 1, resources=keys), event("a", 2, resources=keys[1:])]
    assert found(by_key, *records) == [("x", "k2", 1, 2, 2)]


def test_aliases_name_the_field_of_each_rule() -> None:
    who = {"a": USER, "b": "resources.ARN"}
    together = {**TOGETHER, "group-by": ["who"], "aliases": {"who": who}}
    assert found(together, event("a", 1), event("b", 2, resources=[{"ARN": "x"}])) == [("x", 1, 2, 2)]
    assert found(together, event("a", 1), event("b", 2, resources=[{"ARN": "y"}])) == []


def test_different_values_are_counted_and_not_events() -> None:
    three = {**VALUES, "condition": {"gte": 3, "field": "requestParameters.key"}}
    keys: tuple[Any, ...] = ("k", "k", 7, "7", None, "K")
    records = [event("a", second, requestParameters={"key": key}) for second, key in enumerate(keys)]
    assert found(three, *records[:5]) == []
    assert found(three, *records) == [("x", 0, 5, 5)]
    assert found(three, event("a", 1, requestParameters={"key": ["p", "q", "r"]})) == [("x", 1, 1, 1)]


# -- together and in order ------------------------------------------------------------------------------------------


def test_temporal_asks_for_no_order_and_for_all_rules() -> None:
    assert found(TOGETHER, event("b", 1), event("a", 9)) == [("x", 1, 9, 2)]
    assert found(TOGETHER, event("a", 1), event("a", 2)) == []
    either = {**TOGETHER, "rules": ["a", "b", "c"], "condition": "(a or b) and c"}
    assert found(either, event("b", 1), event("c", 2)) == [("x", 1, 2, 2)]
    assert found({**either, "condition": {"gte": 2}}, event("b", 1), event("a", 2)) == [("x", 1, 2, 2)]


def test_temporal_ordered_asks_for_the_order() -> None:
    assert found(ORDER, event("a", 1), event("b", 11)) == [("x", 1, 11, 2)]
    assert found(ORDER, event("b", 1), event("a", 2)) == []
    assert found(ORDER, event("a", 1), event("b", 11.001)) == []
    around = {**ORDER, "condition": "b and a and b"}
    assert found(around, event("b", 1), event("a", 2), event("b", 3)) == [("x", 1, 3, 3)]
    assert found(around, event("a", 1), event("b", 2), event("b", 3)) == []
    either = {**ORDER, "rules": ["a", "b", "c"], "condition": "(a or b) and c"}
    assert found(either, event("b", 1), event("c", 2)) == [("x", 1, 2, 2)]
    assert found(either, event("c", 1), event("b", 2)) == []


def test_events_of_one_second_are_in_either_order() -> None:
    assert found(ORDER, event("b", 5), event("a", 5)) == [("x", 5, 5, 2)]


# -- what one hit is --------------------------------------------------------------------------------------------------


def test_matching_windows_that_share_an_event_are_one_hit() -> None:
    three = {**COUNT, "condition": {"gte": 3}}
    steady = [event("a", second) for second in range(0, 40, 5)]
    assert found(three, *steady) == [("x", 0, 35, 8)]
    apart = [event("a", second) for second in (0, 1, 2, 20, 31, 32, 33)]
    assert found(three, *apart) == [("x", 0, 2, 3), ("x", 31, 33, 3)]


def test_a_hit_lists_its_events_by_time() -> None:
    records = [event("a", 3, eventID="z"), event("a", 1, eventID="y"), event("a", 3, eventID="b"), event("a", 2)]
    records[3].pop("eventID")
    searched = Searched(START, START + 10_000)
    sequence = Sequence({"title": "", "correlation": {**COUNT, "condition": {"gte": 1}}}, records, searched)
    assert by_reference(sequence) == [Episode(("x",), START + 1000, START + 3000, ("y", "b", "z"), 4)]


# -- silence ----------------------------------------------------------------------------------------------------------

SILENT = {**COUNT, "condition": {"lt": 1}}


def test_a_gap_is_silence_when_it_is_longer_than_the_timespan() -> None:
    assert found(SILENT, event("a", 0), event("a", 10), event("a", 20), end=30) == []
    assert found(SILENT, event("a", 0), event("a", 10.002), end=20) == [("x", 0.001, 10.001, 0)]
    assert found(SILENT, event("a", 0), event("a", 25), event("a", 50), end=55) == [
        ("x", 0.001, 24.999, 0),
        ("x", 25.001, 49.999, 0),
    ]


def test_silence_is_known_up_to_where_the_logs_reach() -> None:
    assert found(SILENT, event("a", 5), end=15) == []
    assert found(SILENT, event("a", 5), end=15.001) == [("x", 5.001, 15.001, 0)]


def test_a_group_is_known_from_its_first_event_or_from_a_profile() -> None:
    assert found(SILENT, event("a", 50), end=55) == []
    assert found(SILENT, event("a", 50), end=55, known=frozenset({("x",)})) == [("x", 0, 49.999, 0)]
    assert found(SILENT, end=30, known=frozenset({("y",)})) == [("y", 0, 30, 0)]
    assert found(SILENT, end=9.999, known=frozenset({("y",)})) == []


def test_fewer_than_several_counts_each_event_once() -> None:
    few = {**COUNT, "condition": {"lt": 2}}
    steady = [event("a", second) for second in range(0, 31, 5)]
    assert found(few, *steady, *steady, end=30) == []
    assert found(few, *steady[:3], *steady[4:], end=30) == [("x", 5.001, 24.999, 2)]


def test_any_window_counts_where_something_may_be_missing() -> None:
    exactly = {**COUNT, "condition": {"eq": 3}}
    assert found(exactly, *[event("a", second) for second in range(5)], end=40) == [("x", 1.001, 12, 3)]
    lonely = {**TOGETHER, "condition": "a and not b"}
    assert found(lonely, event("a", 0), event("b", 5), end=40) == []
    assert found(lonely, event("a", 0), event("b", 11), end=40) == [("x", 0, 10, 1)]


# -- at random ------------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(sequences())
def test_the_engine_finds_what_the_correlation_means(sequence: Sequence) -> None:
    assert by_engine(sequence, KEYTRAIL) == by_reference(sequence)


@given(sequences(), st.lists(st.integers(START, START + LENGTH), min_size=2, max_size=6, unique=True))
def test_stretches_of_time_that_are_searched_together_are_each_searched_alone(
    sequence: Sequence, cuts: list[int]
) -> None:
    known = sequence.searched.known
    ends = sorted(cuts)
    stretches = [Searched(start, end - 1, known) for start, end in pairwise(ends)]
    stretches = stretches[:: len(ends) % 2 + 1]  # without a gap between them, or with one
    alone = [by_reference(Sequence(sequence.document, sequence.records, one)) for one in stretches]
    together = by_engine(sequence, KEYTRAIL, 5, *stretches)
    assert together == sorted(chain(*alone), key=attrgetter("group", "start"))


def test_marks_are_sorted_whether_they_fit_or_not() -> None:
    marks = [Mark((f"g{n % 3}", "é\ud800"), -n * 7 % 11, n % 2, f"={n}", ("v",)) for n in range(100)]
    few, many = Sorter(at_once=7), Sorter()
    for mark in marks:
        few.add([mark])
        many.add([mark])
    assert list(few.sorted()) == list(many.sorted()) == sorted(marks)


def test_marks_wait_in_few_files_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[IO[str]] = []
    make = tempfile.TemporaryFile

    def note(*arguments: Any, **words: Any) -> IO[str]:
        opened.append(make(*arguments, **words))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    sorter = Sorter(at_once=2)
    most = 0
    for number in range(3000):
        sorter.add([Mark(("g",), -number, 0, f"={number}", ())])
        most = max(most, sum(not file.closed for file in opened))
    assert len(opened) > 1500
    assert most <= 3 * 16
    assert [mark.time for mark in sorter.sorted()] == list(range(-2999, 1))
    assert all(file.closed for file in opened)


@pytest.mark.parametrize("condition", [{"gte": 30}, {"lt": 5}])
def test_a_sweep_holds_one_window_at_a_time(condition: dict[str, int]) -> None:
    """Thirty thousand events a second apart, of which a window of ten seconds has eleven."""
    correlation = Sequence({"correlation": {**COUNT, "condition": condition}}, [], Searched(0, 0)).correlation
    marks = (Mark(("x",), second * 1000, 0, f"={second}", ()) for second in range(30_000))
    tracemalloc.start()
    try:
        assert list(correlation_engine.episodes(correlation, marks, Searched(0, 29_999_000))) == []
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-10T10:00:00Z", START),
        ("2026-03-10T10:00:00.1239Z", START + 123),
        ("2026-03-10T11:00:00+01:00", START),
        ("2026-03-10", START - 10 * 3_600_000),
        ("1969-12-31T23:59:59Z", -1000),
        ("2026-02-29T00:00:00Z", None),
        ("2026-03-10T24:00:00Z", None),
        ("2026-03-10 10:00:00Z", None),
        ("２026-03-10T10:00:00Z", None),
        (None, None),
        (1.5, None),
    ],
)
def test_times_are_read_to_the_millisecond(written: Any, meant: int | None) -> None:
    assert milliseconds(written) == meant
    if meant is not None:
        assert milliseconds(iso(meant)) == meant


def test_every_day_has_its_number() -> None:
    assert [milliseconds(iso(day * DAY)) for day in range(-1000, 30_000, 7)] == [
        day * DAY for day in range(-1000, 30_000, 7)
    ]
    assert json.loads(json.dumps(iso(START + 5))) == "2026-03-10T10:00:00.005Z"
