"""Correlations over a stream: each event is marked with its group and time, the marks are sorted, and swept once.

A sweep holds the marks of one group and one timespan, and the hit it is at; sorting is done on disk where there are
many. Nothing is late, because nothing is decided before everything is sorted.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby, product, takewhile
from operator import attrgetter
from typing import IO, Any, NamedTuple

from keytrail.correlation import NO_IDS, Correlation, Episode, Every, Formula, Group, Never, Searched, Seen
from keytrail.engine import reader
from keytrail.schemas import Schema
from keytrail.times import milliseconds

AT_ONCE = 200_000  # marks in memory, about 100 MB
FILES = 16  # of one size, then they become one: a process may not have many open


class Mark(NamedTuple):
    """An event that a rule matches, in one of its groups, with one of the values that are counted.

    ``rule`` is the rule's place in the correlation, ``identity`` what tells the event from others: its eventID after
    ``=``, or for an event without one whatever the caller says.
    """

    group: Group
    time: int
    rule: int
    identity: str
    value: Group


class Event:
    """An event as its document in an index of ``schema``: what several correlations read of it is read once.

    ``anonymous`` tells it from all others, for want of an eventID.
    """

    def __init__(self, schema: Schema, document: Mapping[str, Any], anonymous: str) -> None:
        self.time = milliseconds(document.get(schema.time))
        self._document = document
        self._anonymous = anonymous
        self._held: dict[str, list[str]] = {}

    def texts(self, field: Field) -> list[str]:
        """Return what the index holds of a field's values, as text."""
        name, read = field
        found = self._held.get(name)
        if found is None:
            found = self._held[name] = read(self._document)
        return found

    def identity(self, field: Field) -> str:
        """Return what tells the event from others, its eventID being in ``field``."""
        found = self.texts(field)
        return f"={found[0]}" if len(found) == 1 and found[0] not in NO_IDS else f"#{self._anonymous}"


# The rule's name of a field, and what reads its texts of a document.
Field = tuple[str, Callable[[Mapping[str, Any]], list[str]]]


class Marker:
    """Marks the events of one of a correlation's rules, as documents that an index of ``schema`` holds."""

    def __init__(self, correlation: Correlation, rule: str, schema: Schema) -> None:
        self._rule = correlation.rules.index(rule)
        self._group = [(name, _texts(schema, name)) for name in correlation.group_fields(rule)]
        self._values = [(name, _texts(schema, name)) for name in correlation.value_fields(rule)]
        self._id = ("eventID", _texts(schema, "eventID"))

    def marks(self, event: Event) -> Iterator[Mark]:
        """Yield the marks of an event that the rule matches; none where it has no time, group or counted value."""
        if event.time is None:
            return
        identity = event.identity(self._id)
        groups = set(product(*map(event.texts, self._group)))
        counted = set(product(*map(event.texts, self._values)))
        for group in groups:
            for value in counted:
                yield Mark(group, event.time, self._rule, identity, value)


def _texts(schema: Schema, rule_field: str) -> Callable[[Mapping[str, Any]], list[str]]:
    """What the index holds of a field's values, as text."""
    found = schema.field(schema.index_name(rule_field))
    if found is not None and found.type == "text":
        found = schema.companion(found, "keyword")
    if found is None:
        return lambda document: []
    read = reader(found)
    return lambda document: [str(value) for value in read(document)]


class Sorter:
    """Takes marks in any order and gives them back sorted; those beyond ``at_once`` wait in temporary files."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._held: list[Mark] = []
        self._levels: list[list[IO[str]]] = []  # of files, those of each level made of FILES of the one before

    def add(self, marks: Iterable[Mark]) -> None:
        """Take marks."""
        self._held.extend(marks)
        if len(self._held) >= self._at_once:
            self._write(sorted(self._held), 0)
            self._held = []

    def _write(self, marks: Iterable[Mark], level: int) -> None:
        file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed when all are read
        file.writelines(json.dumps(mark) + "\n" for mark in marks)
        if level == len(self._levels):
            self._levels.append([])
        files = self._levels[level]
        files.append(file)
        if len(files) == FILES:
            self._levels[level] = []
            self._write(_merged(files), level + 1)

    def sorted(self) -> Iterator[Mark]:
        """Yield the marks that were taken, by group and time. They can be had once."""
        self._held.sort()
        yield from heapq.merge(self._held, _merged([file for files in self._levels for file in files]))


def _merged(files: Sequence[IO[str]]) -> Iterator[Mark]:
    """The marks in sorted files, which are closed when all are read."""
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(file)
            file.seek(0)
        yield from heapq.merge(*map(_read, files))


def _read(file: IO[str]) -> Iterator[Mark]:
    for line in file:
        group, time, rule, identity, value = json.loads(line)
        yield Mark(tuple(group), time, rule, identity, tuple(value))


def episodes(correlation: Correlation, marks: Iterable[Mark], *searched: Searched) -> Iterator[Episode]:
    """Yield every hit of a correlation, by group and time.

    Parameters: ``marks`` sorted, as :class:`Sorter` gives them; ``searched`` is one stretch of time or several, one
    after the other. Marks outside them do not count, and what is in two of them is never one hit.
    """
    starts = [stretch.start for stretch in searched]
    waiting = deque(sorted((group, place) for place, stretch in enumerate(searched) for group in stretch.known))
    placed = ((bisect_right(starts, mark.time) - 1, mark) for mark in marks)
    inside = ((place, mark) for place, mark in placed if place >= 0 and mark.time <= searched[place].end)
    for known, found in groupby(inside, key=lambda one: (one[1].group, one[0])):
        while waiting and waiting[0] < known:
            group, place = waiting.popleft()
            yield from _sweep(correlation, group, iter(()), searched[place])
        if waiting and waiting[0] == known:
            waiting.popleft()
        yield from _sweep(correlation, known[0], (mark for _, mark in found), searched[known[1]])
    for group, place in waiting:
        yield from _sweep(correlation, group, iter(()), searched[place])


def _sweep(correlation: Correlation, group: Group, marks: Iterator[Mark], searched: Searched) -> Iterator[Episode]:
    return (_occurring if correlation.rising else _any_window)(correlation, group, marks, searched)


# -- what is in a window --------------------------------------------------------------------------------------------


class _Tally:
    """The marks in a window, as far as the condition asks: how many there are of each kind."""

    def __init__(self, correlation: Correlation) -> None:
        self._correlation = correlation
        kinds = {"event_count": "identity", "value_count": "value"}
        self._kind: Callable[[Mark], object] = attrgetter(kinds.get(correlation.type, "rule"))
        self._counts: Counter[object] = Counter()

    def add(self, mark: Mark) -> None:
        self._counts[self._kind(mark)] += 1

    def drop(self, mark: Mark) -> None:
        kind = self._kind(mark)
        self._counts[kind] -= 1
        if not self._counts[kind]:
            del self._counts[kind]

    def holds(self, since: int) -> bool:
        """Tell whether the window matches, which begins at ``since`` and ends at the mark added last."""
        if not self._correlation.type.startswith("temporal"):
            return self._correlation.counts(len(self._counts))
        rules = self._correlation.rules
        return self._correlation.present({rules[number] for number in self._counts if isinstance(number, int)})


class _Order(_Tally):
    """For each place in the order: the latest time at which a chain of events could begin that has come so far."""

    def __init__(self, correlation: Correlation) -> None:
        super().__init__(correlation)
        assert correlation.formula is not None
        self._places: list[tuple[int, list[int]]] = []
        self._last = self._lay(correlation.formula, [-1], correlation.rules)
        self._begun: list[int | None] = [None] * len(self._places)
        self._now: set[int] = set()
        self._time = 0

    def _lay(self, formula: Formula, after: list[int], rules: tuple[str, ...]) -> list[int]:
        """Number the places of ``formula``, each with those that it can follow (-1 is the start); return the last."""
        if isinstance(formula, Seen):
            self._places.append((rules.index(formula.rule), after))
            return [len(self._places) - 1]
        assert not isinstance(formula, Never)  # an error when it is read
        if isinstance(formula, Every):
            for part in formula.parts:
                after = self._lay(part, after, rules)
            return after
        return [place for part in formula.parts for place in self._lay(part, after, rules)]

    def add(self, mark: Mark) -> None:
        self._now.add(mark.rule)
        self._time = mark.time

    def drop(self, mark: Mark) -> None:
        """Nothing to do: what began too early is seen by its time."""

    def holds(self, since: int) -> bool:
        # From left to right: events of one time are in either order, so one may follow another right away.
        for place, (rule, after) in enumerate(self._places):
            if rule in self._now:
                begun = [self._time if one < 0 else self._begun[one] for one in after]
                latest = max((one for one in begun if one is not None), default=None)
                held = self._begun[place]
                self._begun[place] = max((one for one in (held, latest) if one is not None), default=None)
        self._now.clear()
        ends = (self._begun[place] for place in self._last)
        return any(begun is not None and begun >= since for begun in ends)


# -- sweeps ---------------------------------------------------------------------------------------------------------


class _Run:
    """The marks of the windows that make up one hit."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def take(self, window: deque[Mark]) -> None:
        """Add what is new in a window that matches."""
        newest = self.marks[-1].time if self.marks else None
        fresh = list(takewhile(lambda mark: newest is None or mark.time > newest, reversed(window)))
        self.marks.extend(reversed(fresh))

    def episode(self, group: Group, start: int, end: int) -> Episode:
        first: dict[str, int] = {}
        for mark in self.marks:
            first.setdefault(mark.identity, mark.time)
        ids = sorted((time, identity[1:]) for identity, time in first.items() if identity.startswith("="))
        return Episode(group, start, end, tuple(name for _, name in ids), len(first))


def _occurring(correlation: Correlation, group: Group, marks: Iterator[Mark], searched: Searched) -> Iterator[Episode]:
    """Windows that end at an event are enough where what is sought occurs; those that share an event are one hit."""
    tally = _Order(correlation) if correlation.type == "temporal_ordered" else _Tally(correlation)
    window: deque[Mark] = deque()
    run = _Run()
    for time, found in groupby(marks, key=attrgetter("time")):
        since = time - correlation.timespan
        while window and window[0].time < since:
            tally.drop(window.popleft())
        for mark in found:
            window.append(mark)
            tally.add(mark)
        if tally.holds(since):
            if run.marks and window[0].time > run.marks[-1].time:
                yield run.episode(group, run.marks[0].time, run.marks[-1].time)
                run = _Run()
            run.take(window)
    if run.marks:
        yield run.episode(group, run.marks[0].time, run.marks[-1].time)


def _any_window(correlation: Correlation, group: Group, marks: Iterator[Mark], searched: Searched) -> Iterator[Episode]:
    """A window slides from one change of what is in it to the next: what is sought may be that something is missing."""
    span = correlation.timespan
    tally = _Tally(correlation)
    window: deque[Mark] = deque()
    coming = next(marks, None)
    start = coming.time if coming is not None and group not in searched.known else searched.start
    last = searched.end - span
    run, covered = _Run(), None
    while start <= last:
        while window and window[0].time < start:
            tally.drop(window.popleft())
        while coming is not None and coming.time <= start + span:
            window.append(coming)
            tally.add(coming)
            coming = next(marks, None)
        following = min(
            last + 1,
            last + 1 if coming is None else coming.time - span,
            window[0].time + 1 if window else last + 1,
        )
        if tally.holds(start):
            if covered is not None and start > covered[1]:
                yield run.episode(group, *covered)
                run, covered = _Run(), None
            run.take(window)
            covered = (start if covered is None else covered[0], following - 1 + span)
        start = following
    if covered is not None:
        yield run.episode(group, *covered)
