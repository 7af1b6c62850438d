"""How far a long piece of work has come, on a terminal: bytes that are read, records a second, results, time left."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
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

from keytrail.logfiles import STDIN
from keytrail.records import Reader


class Work(Protocol):
    """What is watched: ``done`` bytes of ``total`` (0 where that is not known), and the records that were read."""

    @property
    def total(self) -> int: ...

    @property
    def done(self) -> int: ...

    @property
    def records(self) -> int: ...


class Course:
    """A reader as work: what it has read is known by the file that it is in, and how much of that it has taken."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @cached_property
    def _ends(self) -> Sequence[int]:
        """Where each file ends, if they were one; they are looked up only where somebody watches."""
        return array("Q", [0, *accumulate(map(size_of, self._reader.paths))])

    @cached_property
    def total(self) -> int:
        """How many bytes the files have; what comes through a pipe has no size, so that the rest is not known then."""
        return 0 if STDIN in self._reader.paths else self._ends[-1]

    @property
    def done(self) -> int:
        """How many bytes of the files have been read; of those that are searched as a whole, when that is done."""
        begun = min(self._reader.files + self._reader.digests, len(self._ends) - 1)
        return min(self._ends[max(begun - 1, 0)] + self._reader.inside, self._ends[begun])

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

    def __init__(self, work: Work, said: Callable[[], str], *columns: Any, console: Console) -> None:
        self._work, self._said = work, said
        super().__init__(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=True)
        self.add_task("work", total=work.total or None, rate="", said="")

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            rate = f"{self._work.records / task.elapsed:,.0f} records/s" if task.elapsed else ""
            total = self._work.total or None
            self.update(task.id, completed=self._work.done, total=total, rate=rate, said=self._said())
        yield from super().get_renderables()


def watched(work: Work, said: Callable[[], str], console: Console | None = None) -> AbstractContextManager[object]:
    """Show how far ``work`` has come, while in the context, on standard error; nothing where that is no terminal.

    Parameters: ``said`` tells in words what has come of it so far; ``console`` is drawn on instead.
    """
    out = console or Console(stderr=True)
    if not out.is_terminal:
        return nullcontext()
    sized = [BarColumn(bar_width=24), DownloadColumn(binary_units=True), TimeRemainingColumn()] if work.total else []
    text = TextColumn("{task.fields[rate]}, {task.fields[said]}")
    return _Watch(work, said, SpinnerColumn(), *sized, text, TimeElapsedColumn(), console=out)


def to_a_terminal(*, streaming: bool) -> bool:
    """Tell whether progress can be shown: not where hits go to the same terminal as they come."""
    return sys.stderr.isatty() and not (streaming and sys.stdout.isatty())
