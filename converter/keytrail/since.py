"""Hunting in what is new since the last run: late files are not lost, correlations see what was before.

What is new is a matter of files, not of event times, for CloudTrail delivers late and out of order. A hit is told where
its file is new. A correlation needs more than the new files: all events within its timespan of them. So each stretch of
time that has new events, and as much on both sides, is searched as a whole: when the new files have been read, those of
the files read before follow that have events in it; what they alone hold was told before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path

from keytrail.correlation_hunt import Span
from keytrail.errors import RecordError, UsageError
from keytrail.files import fingerprint
from keytrail.hunt import AnyHit, Hunt, Window
from keytrail.logfiles import STDIN, Files, Found, find_files
from keytrail.pack import Rule
from keytrail.progress import Course, size_of
from keytrail.records import Reader
from keytrail.state import MINUTE, Read, State, day_of
from keytrail.summary import Summary
from keytrail.times import DAY

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Stretch:
    """A stretch of time that has new events, in milliseconds, both ends included."""

    start: int
    end: int


@dataclass
class SinceLast:
    """A hunt in the files that the last run did not read.

    Parameters: ``rules`` are those of the hunt, which ``prepare`` makes ready; ``state`` is what the last run left, and
    what this run makes of it once :meth:`run` has come to its end; ``now`` is in milliseconds since 1970; ``jobs``
    processes search. Errors: UsageError where ``paths`` has standard input.
    """

    rules: Sequence[Rule]
    prepare: Callable[[], Hunt]
    paths: Sequence[str]
    state: State
    now: int
    jobs: int = 1

    def __post_init__(self) -> None:
        if str(STDIN) in self.paths:
            hint = "name the files, or leave out --since last"
            raise UsageError("what is new in standard input cannot be told", hint=hint)
        found = find_files(self.paths)
        for path in found.files:
            if not path.is_file():  # in folders they are passed over
                raise UsageError("what is new in a pipe or a device cannot be told", path=path, hint="name the files")
        self._files = found.files
        # As the files are before they are read: one that changes meanwhile is new again the next time.
        self._prints = [fingerprint(path) for path in found.files]
        self.new = Files(path for path, name in self._named() if name not in self.state.files)
        self._reader = Reader(Found(self.new, sum(map(size_of, self.new)), bad=found.bad))
        self._counts: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._span = Span()
        self._course = Course(self._reader)
        self._before = 0

    @property
    def total(self) -> int:
        """How many bytes there are to read, as far as that is known: those of the new files come first."""
        return self._before + self._course.total

    @property
    def done(self) -> int:
        """How many of them have been read."""
        return self._before + self._course.done

    @property
    def records(self) -> int:
        """How many records of the new files were read."""
        return self._reader.records

    def run(self) -> Iterator[AnyHit]:
        """Yield what is to be told. Only when all of that is surely written may the state be saved."""
        day = day_of(self.now)
        hunt = self.prepare()
        hunt.timed = True
        self._refused = hunt.refused
        self._counts.update(dict.fromkeys(hunt.counts, 0))
        reads: dict[str, Read] = {}
        spans: list[Span] = []

        def ended(path: str, span: Span) -> None:
            reads[path] = _read(span, day)
            spans.append(span)

        for hit in hunt.search(self._reader, jobs=self.jobs, ended=ended):
            self._counts[hit.rule.id] += 1
            yield hit
        self._span.add(hunt.span)
        stretches = self._stretches(list(reads.values()))
        if hunt.collectors and stretches:
            self._read_again(hunt, stretches, spans)
        for episode in hunt.correlated(*_searched(stretches, spans)):
            found = episode.episode
            if self.state.tell(episode.rule.id, found.group, found.start, found.end, day):
                self._counts[episode.rule.id] += 1
                yield episode
        for path in self._reader.unread:
            reads.pop(path, None)  # it is tried again the next time
        self._remember(reads, day)

    def lose(self, error: RecordError) -> None:
        """Take note of a file that changed while it was hunted in: it is tried again the next time."""
        self._reader.lose(error)

    def summary(self) -> Summary:
        """Return what was new, and what came of it."""
        reader = self._reader
        return Summary(
            self._counts,
            self._refused,
            reader.records,
            reader.files,
            reader.records,
            reader.bad,
            reader.bad_count,
            first=self._span.first,
            last=self._span.last,
        )

    def _named(self) -> Iterator[tuple[Path, str | None]]:
        return zip(self._files, self._prints, strict=True)

    def _stretches(self, reads: Sequence[Read]) -> list[Stretch]:
        """The stretches of time that the new files are in, one after the other."""
        reach = max((rule.correlation.timespan for rule in self.rules if rule.kind == "correlation"), default=0)
        found: list[Stretch] = []
        for first, last in sorted(
            (one.first, one.last) for one in reads if one.first is not None and one.last is not None
        ):
            start, end = first * MINUTE - reach, (last + 1) * MINUTE - 1 + reach
            if found and start <= found[-1].end + 1:
                found[-1].end = max(end, found[-1].end)
            else:
                found.append(Stretch(start, end))
        newest = self.state.newest
        if found and (newest is None or newest < found[-1].end):
            # A silence may have begun with the last event of all, and in the first run with any.
            found[-1].start = min(found[-1].start, found[0].start if newest is None else newest - reach)
            while len(found) > 1 and found[-2].end + 1 >= found[-1].start:
                latest = found.pop()
                found[-1] = Stretch(min(found[-1].start, latest.start), latest.end)
        return found

    def _read_again(self, hunt: Hunt, stretches: Sequence[Stretch], spans: list[Span]) -> None:
        """Read for the correlations what was read before and has events in the stretches; what is bad was told then."""
        known = Files(path for path, name in self._named() if _reached(self.state.files.get(name or ""), stretches))
        reader = Reader(Found(known, sum(map(size_of, known))))
        self._before, self._course = self._course.total, Course(reader)
        window = _window(stretches[0].start, stretches[-1].end)
        for _ in hunt.search(reader, window, jobs=self.jobs, ended=lambda path, span: spans.append(span)):
            pass

    def _remember(self, reads: dict[str, Read], day: int) -> None:
        state = self.state
        for path, name in self._named():
            read = reads.get(str(path)) or state.files.get(name or "")
            if name is not None and read is not None:
                state.files[name] = read._replace(day=day)
        # What claims to be of the future is no measure of how far the logs go.
        # Times are kept by the minute: rather look back too far than not far enough.
        ends = [read.last * MINUTE for read in reads.values() if read.last is not None]
        known = [] if state.newest is None else [state.newest]
        state.newest = max([*known, *(end for end in ends if end <= self.now + DAY)], default=None)
        state.prune(day)


def _read(span: Span, day: int) -> Read:
    first, last = (None if moment is None else moment // MINUTE for moment in (span.first, span.last))
    return Read(first, last, day)


def _reached(read: Read | None, stretches: Sequence[Stretch]) -> range:
    """The places of the stretches that a file can have events in."""
    if read is None or read.first is None or read.last is None:
        return range(0)
    first = bisect_left(stretches, read.first * MINUTE, key=attrgetter("end"))
    return range(first, bisect_left(stretches, (read.last + 1) * MINUTE, key=attrgetter("start")))


def _searched(stretches: Sequence[Stretch], spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """Of each stretch, from when to when something is known to be in the logs that were read."""
    known = [Span() for _ in stretches]
    for span in spans:
        for place in _reached(_read(span, 0), stretches):
            known[place].add(span)
    for stretch, span in zip(stretches, known, strict=True):
        if span.first is not None and span.last is not None:
            yield max(stretch.start, span.first), min(stretch.end, span.last)


def _window(start: int, end: int) -> Window:
    """The window between two times in milliseconds, both included; beyond the years that there are, it is open."""
    try:
        return Window(*(_EPOCH + timedelta(milliseconds=moment) for moment in (start, end + 1)))
    except OverflowError:
        return Window()
