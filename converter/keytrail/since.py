"""Hunting in what is new since the last run: late files are not lost, correlations see what was before.

What is new is a matter of files, not of event times, for CloudTrail delivers late and out of order. A hit is told where
its file is new. A correlation needs more than the new files: all events within its timespan of them. So each stretch of
time that has new events, and as much on both sides, is hunted as a whole, with those of the files read before that have
events in it; what they alone hold was told before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from keytrail import scan
from keytrail.correlation_hunt import CorrelationHit, Span
from keytrail.errors import UsageError
from keytrail.files import fingerprint
from keytrail.hunt import AnyHit, Hunt, Window
from keytrail.logfiles import STDIN, find_files
from keytrail.pack import Rule
from keytrail.progress import Course, size_of
from keytrail.records import MAX_KEPT, Reader
from keytrail.state import MINUTE, Read, State, day_of
from keytrail.summary import Summary
from keytrail.times import DAY, milliseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass
class Stretch:
    """A stretch of time that has new events, in milliseconds, both ends included; and the new files of it."""

    start: int
    end: int
    new: list[Path] = field(default_factory=list)

    def window(self) -> Window:
        """Return it as a window. Raises OverflowError beyond the years that there are."""
        ends = (_EPOCH + timedelta(milliseconds=moment) for moment in (self.start, self.end + 1))
        return Window(*ends)


@dataclass
class SinceLast:
    """A hunt in the files that the last run did not read.

    Parameters: ``rules`` are those of the hunt, which ``prepare`` makes ready, each time anew; ``state`` is what the
    last run left, and what this run makes of it once :meth:`run` has come to its end; ``now`` is in milliseconds
    since 1970; ``jobs`` processes search. Errors: UsageError where ``paths`` has standard input.
    """

    rules: Sequence[Rule]
    prepare: Callable[[], Hunt]
    paths: Sequence[str]
    state: State
    now: int
    jobs: int = 1
    total: int = 0
    records: int = 0
    searched: int = 0

    def __post_init__(self) -> None:
        if str(STDIN) in self.paths:
            hint = "name the files, or leave out --since last"
            raise UsageError("what is new in standard input cannot be told", hint=hint)
        self._found = find_files(self.paths)
        for path in self._found.files:
            if not path.is_file():  # in folders they are passed over
                raise UsageError("what is new in a pipe or a device cannot be told", path=path, hint="name the files")
        self._prints = {path: fingerprint(path) for path in self._found.files}
        self.new = [path for path in self._found.files if self._prints[path] not in self.state.files]
        self._bad = list(self._found.bad)
        self._bad_count = len(self._bad)
        self._counts: Counter[str] = Counter()
        self._refused: dict[str, str] = {}
        self._span = Span()
        self._files = 0
        self._course = Course(Reader(()))
        self._done = 0
        self.total = 2 * sum(map(size_of, self.new))

    @property
    def done(self) -> int:
        """How many bytes of the files have been read; of ``total``, in which each new file counts twice."""
        return self._done + self._course.done

    def run(self) -> Iterator[AnyHit]:
        """Yield what is to be told. Only when all of that is surely written may the state be saved."""
        day = day_of(self.now)
        reads = {path: self._scan(path, day) for path in self.new}
        for stretch in self._stretches(reads):
            yield from self._hunt(stretch, reads, day)
        if not self.new:
            self._ready(self.prepare())
        self._remember(reads, day)

    def summary(self) -> Summary:
        """Return what was new, and what came of it."""
        return Summary(
            self._counts,
            self._refused,
            self.searched,
            self._files,
            self.searched,
            self._bad,
            self._bad_count,
            first=self._span.first,
            last=self._span.last,
        )

    def _scan(self, path: Path, day: int) -> Read | None:
        """Look into a new file for its event times; None where it could not be opened, and is to be tried again."""
        reader, span = Reader([str(path)]), Span()
        self._course = Course(reader)
        for time in _times(reader, path):
            span.take(milliseconds(time))
        self._done, self._course = self._done + size_of(path), Course(Reader(()))
        self._span.take(span.first)
        self._span.take(span.last)
        self.records += reader.records
        self.searched += reader.records
        self._files += reader.files
        if not _opens(path):
            return None
        first, last = (None if moment is None else moment // MINUTE for moment in (span.first, span.last))
        return Read(first, last, day)

    def _stretches(self, reads: dict[Path, Read | None]) -> list[Stretch]:
        """The stretches that the new files are in; those without any time are in the last one."""
        reach = max((rule.correlation.timespan for rule in self.rules if rule.kind == "correlation"), default=0)
        found: list[Stretch] = []
        timed = ((read.first, read.last, path) for path, read in reads.items() if read is not None)
        for first, last, path in sorted((f, e, path) for f, e, path in timed if f is not None and e is not None):
            start, end = first * MINUTE - reach, (last + 1) * MINUTE - 1 + reach
            if found and start <= found[-1].end + 1:
                found[-1].end = max(end, found[-1].end)
                found[-1].new.append(path)
            else:
                found.append(Stretch(start, end, [path]))
        newest = self.state.newest
        if found and newest is not None and newest < found[-1].end:
            # A silence may have begun with the last event of all.
            found[-1].start = min(found[-1].start, newest - reach)
            while len(found) > 1 and found[-2].end + 1 >= found[-1].start:
                latest = found.pop()
                found[-1] = Stretch(min(found[-1].start, latest.start), latest.end, found[-1].new + latest.new)
        placed = {path for stretch in found for path in stretch.new}
        timeless = [path for path in reads if path not in placed]
        if timeless and not found:
            found.append(Stretch(0, -1))
        if found:
            found[-1].new += timeless
        return found

    def _hunt(self, stretch: Stretch, reads: dict[Path, Read | None], day: int) -> Iterator[AnyHit]:
        fresh = set(map(str, stretch.new))
        known = [path for path in self._found.files if path not in reads and self._reaches(path, stretch)]
        self.total += sum(map(size_of, known))
        hunt = self.prepare()
        order = {path: place for place, path in enumerate(self._found.files)}
        reader = Reader([str(path) for path in sorted([*known, *stretch.new], key=order.__getitem__)])
        self._course = Course(reader)
        for hit in hunt.run(reader, self._window(stretch), jobs=self.jobs):
            if isinstance(hit, CorrelationHit):
                episode = hit.episode
                told = not self.state.tell(hit.rule.id, episode.group, episode.start, episode.end, day)
            else:
                told = hit.path not in fresh
            if not told:
                self._counts[hit.rule.id] += 1
                yield hit
        self._done, self._course = self._done + self._course.total, Course(Reader(()))
        # What is bad in files that were read before was told then.
        news = [error for error in reader.bad if error.path in fresh]
        self._bad_count += reader.bad_count - (len(reader.bad) - len(news))
        self._bad += news[: max(0, MAX_KEPT - len(self._bad))]
        self._ready(hunt)

    def _window(self, stretch: Stretch) -> Window:
        try:
            return stretch.window() if stretch.start <= stretch.end else Window()
        except OverflowError:
            return Window()

    def _reaches(self, path: Path, stretch: Stretch) -> bool:
        read = self.state.files.get(self._prints[path] or "")
        return read is not None and read.overlaps(stretch.start, stretch.end)

    def _ready(self, hunt: Hunt) -> None:
        """Note which rules were evaluated, those without a hit too."""
        self._refused = hunt.refused
        self._counts.update(dict.fromkeys(hunt.counts, 0))

    def _remember(self, reads: dict[Path, Read | None], day: int) -> None:
        state = self.state
        for path, name in self._prints.items():
            read = reads.get(path) or state.files.get(name or "")
            if name is not None and read is not None:
                state.files[name] = read._replace(day=day)
        # What claims to be of the future is no measure of how far the logs go.
        # Times are kept by the minute: rather look back too far than not far enough.
        ends = [read.last * MINUTE for read in reads.values() if read is not None and read.last is not None]
        known = [] if state.newest is None else [state.newest]
        state.newest = max([*known, *(end for end in ends if end <= self.now + DAY)], default=None)
        state.prune(day)


_TIMES = scan.Shape(timed=True)


def _times(reader: Reader, path: Path) -> Iterator[object]:
    """The event times of a file, each at least once; its records are counted, but read no further than need be."""
    try:
        outlines = scan.scan(path, reader.limit, _TIMES).outlines
    except (scan.NotPlain, OSError):
        found: set[object] = set()

        def seen(text: bytes) -> bool:
            one = scan.line(text)
            if one is not None:
                found.add(one.eventTime)
            return one is not None

        for record in reader.read(path, seen):
            yield record.record.get("eventTime")
    else:
        reader.files += 1
        reader.records += len(outlines)
        found = set(map(scan.time_of, outlines))
    yield from found


def _opens(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False
