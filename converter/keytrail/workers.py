"""A search spread over processes: the files go out in parts, what they hold comes back in order."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keytrail import telemetry
from keytrail.correlation_engine import Mark
from keytrail.correlation_hunt import Span
from keytrail.errors import WorkerError
from keytrail.logfiles import STDIN, Files, Found
from keytrail.records import Reader, Tally
from keytrail.search import Ended, Matches, Search

if TYPE_CHECKING:
    from keytrail.hunt import Hunt, Window

# With less than this there is nothing to gain from processes.
LEAST_BYTES = 8 << 20
# What one process searches at a time: results wait for those before them, so they must not be many.
PART_FILES, PART_BYTES = 32, 4 << 20
# Larger files are read in the process that takes the hits: what they hold should not wait until all of it is found.
ALONE_BYTES = 64 << 20
PARTS_A_JOB = 2


@dataclass
class Part:
    """What was found in some files."""

    matches: list[Matches] = field(default_factory=list)
    marks: list[tuple[int, list[Mark]]] = field(default_factory=list)
    ended: list[tuple[str, Span]] = field(default_factory=list)
    searched: int = 0
    tally: Tally = field(default_factory=Tally)
    kinds: telemetry.Tally = field(default_factory=telemetry.Tally)


def matches(hunt: Hunt, reader: Reader, window: Window, ended: Ended, jobs: int) -> Iterator[Matches]:
    """Yield what the rules of ``hunt`` match, in the order of the records.

    The counts of ``reader`` and ``hunt`` and its collectors are brought up to date on the way, and ``ended`` is given
    each file with its times. Raises :class:`WorkerError` when a process dies.
    """
    search = Search(hunt, window, lambda place, marks: hunt.collectors[place].take(marks), ended)
    files = reader.found.files
    if jobs < 2 or len(files) < 2 or reader.found.size < LEAST_BYTES:
        yield from search.run(reader, files)
        return
    pool = ProcessPoolExecutor(jobs, _context(), _start, (hunt, window, reader.limit))
    waiting: deque[Future[Part]] = deque()

    def first() -> Iterator[Matches]:
        part = waiting.popleft().result()
        for place, marks in part.marks:
            hunt.collectors[place].take(marks)
        for path, span in part.ended:
            ended(path, span)
        hunt.searched += part.searched
        reader.add(part.tally)
        hunt.tally.add(part.kinds)
        yield from part.matches

    try:
        for alone, paths in _parts(files):
            while waiting and (alone or len(waiting) >= PARTS_A_JOB * jobs):
                yield from first()
            if alone:
                yield from search.run(reader, paths)
            else:
                waiting.append(pool.submit(_work, paths))
        while waiting:
            yield from first()
    except BrokenProcessPool as error:
        # Whichever comes first tells of it: a part that is sent, or one that is waited for.
        hint = "was it short of memory? try --jobs 1"
        raise WorkerError("a process that searched files ended before it was done", hint=hint) from error
    finally:
        # Left early, or interrupted: what was not begun is not waited for.
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _context() -> multiprocessing.context.BaseContext:
    # A fork has the rules ready at once, but must not be made of a process with threads.
    able = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    return multiprocessing.get_context("fork" if able and threading.active_count() == 1 else "spawn")


def _parts(files: Iterable[Path]) -> Iterator[tuple[bool, list[Path]]]:
    """Cut the files into parts; True comes with one that is to be searched by itself."""
    part: list[Path] = []
    size: float = 0
    for path in files:
        length = _size(path)
        if part and (length > ALONE_BYTES or size + length > PART_BYTES or len(part) == PART_FILES):
            yield False, part
            part, size = [], 0
        if length > ALONE_BYTES:
            yield True, [path]
        else:
            part.append(path)
            size += length
    if part:
        yield False, part


def _size(path: Path) -> float:
    if path == STDIN:
        return math.inf
    try:
        return path.stat().st_size
    except OSError:
        return 0  # it is named when it is read


# -- in the other processes ---------------------------------------------------------------------------------------


class _Worker:
    """Searches the parts that one process is given."""

    current: _Worker

    def __init__(self, hunt: Hunt, window: Window, limit: int) -> None:
        self._part = Part()
        self._hunt = hunt
        self._limit = limit
        self._search = Search(
            hunt,
            window,
            lambda place, marks: self._part.marks.append((place, marks)),
            lambda path, span: self._part.ended.append((path, span)),
        )

    def work(self, paths: list[Path]) -> Part:
        self._part = part = Part()
        self._hunt.tally = part.kinds
        before = self._hunt.searched
        reader = Reader(Found(Files(paths)), limit=self._limit)
        part.matches = list(self._search.run(reader, paths))
        part.searched = self._hunt.searched - before
        part.tally.add(reader)
        return part


def _start(hunt: Hunt, window: Window, limit: int) -> None:
    # An interrupt is for the process that was started: it ends the others, unless it is itself ended by force.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _Worker.current = _Worker(hunt, window, limit)


def _end_with(parent: int) -> None:
    """End this process once the one that started it has gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(paths: list[Path]) -> Part:
    return _Worker.current.work(paths)
