"""What a Sigma correlation means: a plain evaluator over raw records, each window looked at by itself.

It takes its time, which grows with the square of the number of events, and shares nothing with the engine that it is
there to contradict but the reading of the rule's YAML, of field paths and of times. Its text is docs/correlations.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from keytrail import reference
from keytrail.correlation import NO_IDS, Correlation, Episode, Every, Formula, Group, Searched, Seen, Some
from keytrail.paths import text, values
from keytrail.times import milliseconds

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Sight:
    """A record that a rule matches, in one of its groups. ``record`` is its number among the records."""

    group: Group
    time: int
    rule: str
    event_id: str | None
    record: int
    counted: frozenset[Group]

    @property
    def identity(self) -> object:
        """An event that is delivered twice has the same; a record without an eventID is like no other."""
        return self.record if self.event_id is None else self.event_id


_Window = Collection[_Sight]


def episodes(
    correlation: Correlation, rules: Mapping[str, Mapping[str, Any]], records: Sequence[Record], searched: Searched
) -> list[Episode]:
    """Return every hit of a correlation, by group and time.

    Parameters: ``rules`` has the parsed YAML of each rule that the correlation names; ``records`` come in any order;
    ``searched`` is the time that was searched: records outside it, and those without a time, do not count.
    """
    groups: dict[Group, list[_Sight]] = {group: [] for group in searched.known}
    for sight in _sights(correlation, rules, records, searched):
        groups.setdefault(sight.group, []).append(sight)
    find = _occurring if correlation.rising else _any_window
    return [found for group in sorted(groups) for found in find(correlation, group, groups[group], searched)]


def _sights(
    correlation: Correlation, rules: Mapping[str, Mapping[str, Any]], records: Sequence[Record], searched: Searched
) -> Iterator[_Sight]:
    for name in correlation.rules:
        matches = reference.compile_rule(rules[name])
        for number, record in enumerate(records):
            time = milliseconds(record.get("eventTime"))
            if time is None or not searched.start <= time <= searched.end or not matches(record):
                continue
            counted = frozenset(_combinations(record, correlation.value_fields(name)))
            for group in _combinations(record, correlation.group_fields(name)) if counted else ():
                yield _Sight(group, time, name, _event_id(record), number, counted)


def _combinations(record: Record, fields: Sequence[str]) -> set[Group]:
    """The combinations of the fields' values: none where a field has none, the empty one where there is no field."""
    return set(product(*(map(text, values(record, name)) for name in fields)))


def _event_id(record: Record) -> str | None:
    found = values(record, "eventID")
    return text(found[0]) if len(found) == 1 and text(found[0]) not in NO_IDS else None


# -- windows ------------------------------------------------------------------------------------------------------


def _matches(correlation: Correlation, window: _Window) -> bool:
    """Tell whether the condition holds for what lies in one window."""
    if correlation.type == "event_count":
        return correlation.counts(len({sight.identity for sight in window}))
    if correlation.type == "value_count":
        return correlation.counts(len({value for sight in window for value in sight.counted}))
    if correlation.type == "temporal" or correlation.formula is None:
        return correlation.present({sight.rule for sight in window})
    return _ends(correlation.formula, window, 0) is not None


def _ends(formula: Formula, window: _Window, place: int) -> int | None:
    """Return the place in time at which ``formula`` is fulfilled in order, by sights from ``place`` on; None if never.

    Places count the different times in the window. Events of one time are in either order.
    """
    times = sorted({sight.time for sight in window})
    if isinstance(formula, Every):
        for part in formula.parts:
            found = _ends(part, window, place)
            if found is None:
                return None
            place = found
        return place
    if isinstance(formula, Some):
        ends = [_ends(part, window, place) for part in formula.parts]
        return min((end for end in ends if end is not None), default=None)
    assert isinstance(formula, Seen)  # what must not occur has no place in an order, and is an error when it is read
    found_at = [times.index(sight.time) for sight in window if sight.rule == formula.rule]
    return min((at for at in found_at if at >= place), default=None)


def _occurring(
    correlation: Correlation, group: Group, sights: Sequence[_Sight], searched: Searched
) -> Iterator[Episode]:
    """What is sought occurs: windows that begin at an event are enough; those that share an event are one hit."""
    runs: list[set[_Sight]] = []
    for start in sorted({sight.time for sight in sights}):
        window = {sight for sight in sights if start <= sight.time <= start + correlation.timespan}
        if _matches(correlation, window):
            if runs and runs[-1] & window:
                runs[-1] |= window
            else:
                runs.append(window)
    for run in runs:
        times = [sight.time for sight in run]
        yield _episode(group, min(times), max(times), run)


def _any_window(
    correlation: Correlation, group: Group, sights: Sequence[_Sight], searched: Searched
) -> Iterator[Episode]:
    """What is sought may be missing: any window counts that lies wholly in the time for which the group is known."""
    span = correlation.timespan
    first = searched.start if group in searched.known else min(sight.time for sight in sights)
    last = searched.end - span
    # What lies in a window changes where an event comes in at its end, and where one has gone out at its start.
    changes = {sight.time - span for sight in sights} | {sight.time + 1 for sight in sights}
    starts = sorted({first, last + 1} | {start for start in changes if first < start <= last})
    runs: list[tuple[int, int]] = []
    for start, following in pairwise(starts) if first <= last else ():
        if _matches(correlation, [sight for sight in sights if start <= sight.time <= start + span]):
            covered = (start, following - 1 + span)
            if runs and start <= runs[-1][1]:
                runs[-1] = (runs[-1][0], covered[1])
            else:
                runs.append(covered)
    for start, end in runs:
        yield _episode(group, start, end, [sight for sight in sights if start <= sight.time <= end])


def _episode(group: Group, start: int, end: int, sights: _Window) -> Episode:
    first: dict[str, int] = {}
    for sight in sorted(sights, key=lambda sight: sight.time):
        if sight.event_id is not None:
            first.setdefault(sight.event_id, sight.time)
    ids = tuple(sorted(first, key=lambda name: (first[name], name)))
    return Episode(group, start, end, ids, len({sight.identity for sight in sights}))
