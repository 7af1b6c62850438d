"""The search of one process: files in, matches and marks out; no record is read that no rule asks about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from keytrail import scan
from keytrail.correlation_engine import Mark
from keytrail.correlation_hunt import Span
from keytrail.engine import Predicate
from keytrail.pack import Rule
from keytrail.records import STDIN, Reader
from keytrail.specialise import Left, Specialised, Tree
from keytrail.times import milliseconds

if TYPE_CHECKING:
    from keytrail.hunt import Hunt, Window

# As CloudTrail writes them; the order of such times is that of their letters.
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?:\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)*", re.ASCII)

# So many kinds of calls are remembered as seen; AWS has some ten thousand, and a file may claim any.
MOST_KINDS = 100_000

Source = Union[Mapping[str, Any], bytes]


@dataclass
class Ready:
    """A rule with its query, whether its matches are shown, and the correlations that take them, by number and name."""

    rule: Rule
    tree: Tree
    matches: Predicate
    shown: bool = True
    takers: list[tuple[int, str]] = field(default_factory=list)


class Match(NamedTuple):
    """A rule, by its number, that matched a record; ``source`` is the record or its JSON."""

    ready: int
    source: Source
    path: str
    number: int


class Search:
    """Searches files for what the rules of a hunt match, and counts what it has searched in ``hunt.searched``.

    Parameters: ``span`` is given all times there are, ``take`` the marks for a correlation, by its number.
    """

    def __init__(self, hunt: Hunt, window: Window, span: Span, take: Callable[[int, list[Mark]], None]) -> None:
        self.span = span
        self._hunt = hunt
        self._window = window
        self._take = take
        self._as_is = hunt.schema.as_is
        self._seen: set[scan.Kind] = set()
        self._special = Specialised(((place, one.tree) for place, one in enumerate(hunt.ready)), settles=self._as_is)

    def run(self, reader: Reader, paths: Sequence[Path]) -> Iterator[Match]:
        """Yield the matches in some of a reader's files, in the order of the records."""
        for path in paths:
            found = self._quickly(reader, path) if self._as_is and path != STDIN else None
            yield from self._carefully(reader, path) if found is None else found

    # -- record by record ---------------------------------------------------------------------------------------------

    def _carefully(self, reader: Reader, path: Path) -> Iterator[Match]:
        for record, name, number in reader.read(path, self._skip if self._as_is else None):
            time = record.get("eventTime")
            self._span(time)
            if not self._window.holds(time):
                continue
            self._hunt.searched += 1
            self._first(((record["eventSource"], record["eventName"]), record))
            left = self._special.of(record["eventSource"], record["eventName"])
            if left.asks:
                marks: list[tuple[int, list[Mark]]] = []
                yield from self._matches(left, record, record, name, number, marks)
                self._give(marks)

    def _skip(self, text: bytes) -> bool:
        """Tell whether a line is a record that no rule asks about; then it has been searched."""
        one = scan.outline(text)
        if one is None or scan.kind_of(one) not in self._seen:
            return False
        if self._special.of(one.eventSource, one.eventName).asks:
            return False
        time = one.eventTime
        self._span(time)
        self._hunt.searched += self._window.holds(time)
        return True

    def _first(self, *found: tuple[scan.Kind, Mapping[str, Any]]) -> None:
        """Count the first record of a kind of call: the others need what it needs, and are as much of a change."""
        for kind, record in found:
            if kind not in self._seen:
                if len(self._seen) >= MOST_KINDS:
                    self._seen.clear()
                self._seen.add(kind)
                self._hunt.tally.take(record)

    def _matches(
        self,
        left: Left[int],
        record: Mapping[str, Any],
        source: Source,
        path: str,
        number: int,
        marks: list[tuple[int, list[Mark]]],
    ) -> Iterator[Match]:
        whole = self._hunt.schema.document
        part = record if left.members is None else {key: record[key] for key in left.members if key in record}
        document = whole(part)
        for place, asks in left.asks:
            if asks(document):
                ready = self._hunt.ready[place]
                if ready.takers:
                    document = whole(record)
                for collector, name in ready.takers:
                    found = self._hunt.collectors[collector].marks(name, document, f"{path}:{number}")
                    marks.append((collector, found))
                if ready.shown:
                    yield Match(place, source, path, number)

    def _span(self, time: object) -> None:
        if self._hunt.collectors:
            self.span.take(milliseconds(time))

    def _give(self, marks: list[tuple[int, list[Mark]]]) -> None:
        for collector, found in marks:
            self._take(collector, found)

    # -- file by file -------------------------------------------------------------------------------------------------

    def _quickly(self, reader: Reader, path: Path) -> list[Match] | None:
        """The matches in a file; None, and nothing counted, for one that has to be read with care."""
        marks: list[tuple[int, list[Mark]]] = []
        try:
            scanned = scan.scan(path, reader.limit)
            times, inside = self._timed(scanned.outlines)
            found = list(self._scanned(scanned, inside, str(path), marks))
            first = list(self._new(scanned, inside))
        except (scan.NotPlain, OSError):
            return None
        for time in times:
            self._span(time)
        self._first(*first)
        self._give(marks)
        self._hunt.searched += len(scanned.outlines) if inside is None else sum(inside)
        reader.files += 1
        reader.records += len(scanned.outlines)
        return found

    def _new(self, scanned: scan.Scanned, inside: list[bool] | None) -> Iterator[tuple[scan.Kind, Mapping[str, Any]]]:
        """The records of the kinds that have not been seen."""
        new = set(map(scan.kind_of, scanned.outlines)) - self._seen
        if new:
            kinds = list(map(scan.kind_of, scanned.outlines))
            places = [n for n, kind in enumerate(kinds) if kind in new and (inside is None or inside[n])]
            firsts = {kinds[place]: place for place in reversed(places)}
            for place, text in scanned.texts(sorted(firsts.values())):
                yield kinds[place], scan.record(text)

    def _timed(self, outlines: Sequence[scan.Outline]) -> tuple[list[Any], list[bool] | None]:
        """The times that the span needs, and which records lie in the window; None is all of them."""
        if not (self._hunt.collectors or self._window.bounded):
            return [], None
        times = list(map(scan.time_of, outlines))
        try:
            plain = _TIMES.fullmatch("\n".join(times)) is not None
        except TypeError:  # some have no time
            plain = False
        if plain:
            ends = [min(times), max(times)]
            if all(milliseconds(end) is not None and self._window.holds(end) for end in ends):
                return ends, None
        return times, [self._window.holds(time) for time in times] if self._window.bounded else None

    def _scanned(
        self, scanned: scan.Scanned, inside: list[bool] | None, path: str, marks: list[tuple[int, list[Mark]]]
    ) -> Iterator[Match]:
        names = list(map(scan.name_of, scanned.outlines))
        busy = {name for name in set(names) - self._special.idle if not self._special.is_idle(name)}
        lefts: dict[int, Left[int]] = {}
        for place in [place for place, name in enumerate(names) if name in busy] if busy else ():
            left = self._special.of(scanned.outlines[place].eventSource, names[place])
            if left.asks and (inside is None or inside[place]):
                lefts[place] = left
        for place, text in scanned.texts(list(lefts)):
            yield from self._matches(lefts[place], scan.record(text), text, path, place + 1, marks)
