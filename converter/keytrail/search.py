"""The search of one process: files in, matches and marks out; no record is read that no rule asks about."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from keytrail import scan, telemetry
from keytrail.correlation_engine import Event, Mark
from keytrail.correlation_hunt import Span
from keytrail.engine import Predicate
from keytrail.logfiles import STDIN
from keytrail.pack import Rule
from keytrail.parts import Known
from keytrail.quick import Matched, Quick
from keytrail.records import Reader
from keytrail.specialise import Specialised, Tree
from keytrail.times import milliseconds, plain_ends

if TYPE_CHECKING:
    from keytrail.hunt import Hunt, Window

# So many kinds of calls are remembered as seen; AWS has some ten thousand, and a file may claim any.
MOST_KINDS = 100_000

Source = Union[Mapping[str, Any], bytes, scan.Stored]
Found = tuple[int, int, Source]
Marks = list[tuple[int, list[Mark]]]
Ended = Callable[[str, Span], None]


@dataclass
class Ready:
    """A rule with its query, whether its matches are shown, and the correlations that take them, by number and name."""

    rule: Rule
    tree: Tree
    matches: Predicate
    shown: bool = True
    takers: list[tuple[int, str]] = field(default_factory=list)


class Matches(NamedTuple):
    """What was matched in a file: of each match the rule's place, the record's number, and the record or its JSON.

    Where matches are many, a source is the file for all of them, for it to be read again when a record is asked for.
    """

    path: str
    rules: Sequence[int]
    numbers: Sequence[int]
    sources: Sequence[Source] | scan.Stored

    @property
    def found(self) -> Iterator[Found]:
        """The matches, one by one."""
        if isinstance(self.sources, scan.Stored):
            return zip(self.rules, self.numbers, repeat(self.sources, len(self.rules)), strict=True)
        return zip(self.rules, self.numbers, self.sources, strict=True)


class Search:
    """Searches files for what the rules of a hunt match, and counts what it has searched in ``hunt.searched``.

    Parameters: ``take`` is given the marks for a correlation, by its number, ``ended`` each file when it was searched,
    with the times in it where the hunt is ``timed``.
    """

    def __init__(self, hunt: Hunt, window: Window, take: Callable[[int, list[Mark]], None], ended: Ended) -> None:
        self._span = Span()
        self._ended = ended
        self._hunt = hunt
        self._window = window
        self._take = take
        self._as_is = hunt.schema.as_is
        self._seen: set[scan.Kind] = set()
        self._special = Specialised(((place, one.tree) for place, one in enumerate(hunt.ready)), settles=self._as_is)
        self._known = Known(hunt.schema.document)
        self._members = frozenset().union(*(collector.members for collector in hunt.collectors))
        taken = frozenset(place for place, one in enumerate(hunt.ready) if one.takers)
        timed = hunt.timed or window.bounded
        self.quick = Quick(self._special, self._known, taken, timed=timed)

    def run(self, reader: Reader, paths: Sequence[Path]) -> Iterator[Matches]:
        """Yield the matches in some of a reader's files, in the order of the records."""
        for path in paths:
            self._span = Span()
            found = self._quickly(reader, path) if self._as_is and path != STDIN else None
            if found is None:
                yield from self._carefully(reader, path)
            elif found.rules:
                yield found
            self._ended(str(path), self._span)

    # -- record by record ---------------------------------------------------------------------------------------------

    def _carefully(self, reader: Reader, path: Path) -> Iterator[Matches]:
        for record, name, number in reader.read(path, self._skip if self._as_is else None):
            time = record.get("eventTime")
            self._note(time)
            if not self._window.holds(time):
                continue
            self._hunt.searched += 1
            kind = record["eventSource"], record["eventName"]
            self._first(kind, record)
            matched = self._special.of(*kind).matching(self._known.whole(record))
            if matched:
                if any(self._hunt.ready[place].takers for place in matched):
                    self._give(self._marks(matched, record, name, number))
                shown = [place for place in matched if self._hunt.ready[place].shown]
                yield Matches(name, shown, [number] * len(shown), [record] * len(shown))

    def _skip(self, text: bytes) -> bool:
        """Tell whether a line is a record that no rule asks about; then it has been searched."""
        one = scan.line(text)
        if one is None or (one.eventSource, one.eventName) not in self._seen:
            return False
        if self._special.of(one.eventSource, one.eventName).asks:
            return False
        time = one.eventTime
        self._note(time)
        self._hunt.searched += self._window.holds(time)
        return True

    def _first(self, kind: scan.Kind, record: Mapping[str, Any]) -> None:
        """Count the first record of a kind of call: the others need what it needs, and are as much of a change."""
        if kind not in self._seen:
            if len(self._seen) >= MOST_KINDS:
                self._seen.clear()
            self._seen.add(kind)
            self._hunt.tally.take(record)

    def _marks(self, matched: Sequence[int], record: Mapping[str, Any], path: str, number: int) -> Marks:
        """What the correlations take of a record that some rules match."""
        schema = self._hunt.schema
        event = Event(schema, schema.document(record), f"{path}:{number}")
        return [
            (collector, self._hunt.collectors[collector].marks(name, event))
            for place in matched
            for collector, name in self._hunt.ready[place].takers
        ]

    def _note(self, time: object) -> None:
        if self._hunt.timed:
            self._span.take(milliseconds(time))

    def _give(self, marks: Marks) -> None:
        for collector, found in marks:
            self._take(collector, found)

    # -- file by file -------------------------------------------------------------------------------------------------

    def _quickly(self, reader: Reader, path: Path) -> Matches | None:
        """The matches in a file; None, and nothing counted, for one that has to be read with care."""
        try:
            scanned = scan.scan(path, reader.limit, self.quick.shape)
        except (scan.NotPlain, OSError):
            return None
        try:
            times, inside = self._timed(scanned.outlines)
            outcome = self.quick.search(scanned, inside, self._seen)
            firsts = list(_kinds(scanned, outcome.firsts))
            marks = list(self._taken(outcome.matched, str(path)))
        except scan.NotPlain:
            self.quick.forget()
            return None
        for time in times:
            self._note(time)
        for kind, record in firsts:
            self._first(kind, record)
        self._give(marks)
        self._hunt.searched += len(scanned.outlines) if inside is None else sum(inside)
        reader.files += 1
        reader.records += len(scanned.outlines)
        return self._found(scanned, outcome.matched)

    def _timed(self, outlines: Sequence[Any]) -> tuple[list[Any], list[bool] | None]:
        """The times that the span needs, and which records lie in the window; None is all of them."""
        if not self.quick.shape.timed:
            return [], None
        ends = plain_ends(map(scan.time_of, outlines))
        if all(milliseconds(end) is not None and self._window.holds(end) for end in ends):
            return list(ends), None
        times = list(map(scan.time_of, outlines))
        return times, [self._window.holds(time) for time in times] if self._window.bounded else None

    def _taken(self, matched: Sequence[Matched], path: str) -> Iterator[tuple[int, list[Mark]]]:
        """What the correlations take of the matches in a file."""
        ready = self._hunt.ready
        for place, rules, text in matched if self._members else ():
            if text is not None and any(ready[rule].takers for rule in rules):
                record = scan.record(text)
                needed = {name: value for name, value in record.items() if name.partition(".")[0] in self._members}
                yield from self._marks(rules, needed, path, place + 1)

    def _found(self, scanned: scan.Scanned, matched: Sequence[Matched]) -> Matches:
        """The matches that are shown, each with its JSON where they are few; else it can be read again."""
        ready, stored = self._hunt.ready, scanned.stored
        shown = [one.shown for one in ready]
        if len(matched) * scan.MANY > len(scanned.outlines):
            # Arrays, because of so many each match that another process sends counts.
            places = array("L", [rule for _, rules, _ in matched for rule in rules if shown[rule]])
            numbers = array("L", [place + 1 for place, rules, _ in matched for rule in rules if shown[rule]])
            return Matches(stored.path, places, numbers, stored)
        unread = scanned.texts([place for place, _, text in matched if text is None])
        known = [(place, rules, next(unread) if text is None else text) for place, rules, text in matched]
        found = [(rule, place, text) for place, rules, text in known for rule in rules if shown[rule]]
        texts = [text for _, _, text in found]
        return Matches(stored.path, [rule for rule, _, _ in found], [place + 1 for _, place, _ in found], texts)


def _kinds(scanned: scan.Scanned, firsts: Mapping[scan.Kind, int]) -> Iterator[tuple[scan.Kind, Mapping[str, Any]]]:
    """The first records of some kinds, as far as a kind needs it."""
    places = sorted((place, kind) for kind, place in firsts.items())
    texts = scanned.texts([place for place, _ in places])
    for (_, kind), text in zip(places, texts, strict=True):
        raws = scan.picker(telemetry.ASKED)(text)
        yield kind, {name: scan.value(raw) for name, raw in raws.items()}
