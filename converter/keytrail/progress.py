"""How far a hunt has come, on a terminal: bytes of the files that are read, records a second, hits, time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from keytrail.records import STDIN, Reader


class Work(Protocol):
    """What is watched: ``done`` bytes of ``total`` (0 where that is not known), and the records that were read."""

    @property
    def total(self) -> int: ...

    @property
    def done(self) -> int: ...

    @property
    def records(self) -> int: ...


class Course:
    """A reader as work: what it has read is known by the file that it is in."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ends = [0, *accumulate(map(size_of, reader.paths))]
        # What comes through a pipe has no size, so that there is no telling how much of all is left.
        self.total = 0 if STDIN in reader.paths else self._ends[-1]

    @property
    def done(self) -> int:
        """How many bytes the files have that were read to their end."""
        begun = self._reader.files + self._reader.digests
        return self._ends[min(max(begun - 1, 0), len(self._ends) - 1)]

    @property
    def records(self) -> int:
        """How many records were read."""
        return self._reader.records


def size_of(path: Path) -> int:
    """Return a file's size in bytes, 0 for standard input and for a file that is gone."""
    try:
        return 0 if path == STDIN else path.stat().st_size
    except OSError:
        return 0


class _Watch(Progress):
    """Looks at the work whenever it is drawn."""

    def __init__(self, work: Work, hits: Callable[[], int], *columns: Any, console: Console) -> None:
        self._work, self._hits = work, hits
        super().__init__(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=True)
        self._task = self.add_task("hunt", total=work.total or None, rate="", hits=0)

    def get_renderables(self) -> Iterable[RenderableType]:
        elapsed = self.tasks[0].elapsed if self.tasks else None
        rate = f"{self._work.records / elapsed:,.0f} records/s" if elapsed else ""
        self.update(
            self._task,
            completed=self._work.done,
            total=self._work.total or None,
            rate=rate,
            records=self._work.records,
            hits=self._hits(),
        )
        yield from super().get_renderables()


def watched(work: Work, hits: Callable[[], int], console: Console | None = None) -> AbstractContextManager[object]:
    """Show how far ``work`` has come, while in the context, on standard error; nothing where that is no terminal.

    Parameters: ``hits`` tells how many hits there were; ``console`` is drawn on instead.
    """
    out = console or Console(stderr=True)
    if not out.is_terminal:
        return nullcontext()
    sized = [BarColumn(bar_width=24), DownloadColumn(binary_units=True), TimeRemainingColumn()] if work.total else []
    text = TextColumn("{task.fields[rate]}, {task.fields[hits]:,} hits")
    return _Watch(work, hits, SpinnerColumn(), *sized, text, TimeElapsedColumn(), console=out)


def to_a_terminal(*, streaming: bool) -> bool:
    """Tell whether progress can be shown: not where hits go to the same terminal as they come."""
    return sys.stderr.isatty() and not (streaming and sys.stdout.isatty())
