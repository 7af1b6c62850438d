"""What a scheduled hunt remembers from one run to the next, in a file that is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from keytrail.correlation import Group
from keytrail.errors import StateError
from keytrail.files import write_text
from keytrail.logfiles import named_log
from keytrail.times import DAY

VERSION = 1
MINUTE = 60_000
# A file that is gone may come back, say when a disk is mounted again: so many days it is remembered.
KEEP_GONE = 30
KEEP_INCIDENTS, MOST_INCIDENTS = 90, 100_000
_HINT = "restore it, or remove it to have everything read and told again"


class Read(NamedTuple):
    """A file that was read: the first and last minute of its events (None without any), the day it was last seen."""

    first: int | None
    last: int | None
    day: int


@dataclass
class Told:
    """An incident that was told: it is not told again while it goes on. ``day`` is when it was last seen."""

    rule_id: str
    group: Group
    start: int
    end: int
    day: int

    def is_part_of(self, start: int, end: int) -> bool:
        """Tell whether it and what lies between two times are one incident."""
        return self.start <= end and start <= self.end


@dataclass
class State:
    """What was read and told. ``paths`` are those that were hunted in, absolute; ``newest`` is the latest event time.

    ``files`` are by their fingerprints: see :func:`keytrail.files.fingerprint`.
    """

    paths: tuple[str, ...]
    newest: int | None = None
    files: dict[str, Read] = field(default_factory=dict)
    incidents: list[Told] = field(default_factory=list)
    _by_group: dict[tuple[str, Group], list[Told]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for told in self.incidents:
            self._by_group.setdefault((told.rule_id, told.group), []).append(told)

    def tell(self, rule_id: str, group: Group, start: int, end: int, day: int) -> bool:
        """Note an incident; return whether it is a new one."""
        known = self._by_group.setdefault((rule_id, group), [])
        for told in known:
            if told.is_part_of(start, end):
                told.start, told.end, told.day = min(start, told.start), max(end, told.end), day
                return False
        known.append(Told(rule_id, group, start, end, day))
        self.incidents.append(known[-1])
        return True

    def prune(self, day: int) -> None:
        """Forget the files that are long gone and the incidents that are long over, as seen on ``day``."""
        self.files = {name: read for name, read in self.files.items() if read.day > day - KEEP_GONE}
        kept = [told for told in self.incidents if told.day > day - KEEP_INCIDENTS]
        self.incidents = sorted(kept, key=lambda told: (told.day, told.end))[-MOST_INCIDENTS:]

    def save(self, path: Path) -> None:
        """Write the state. Raises :class:`UsageError` where that fails; the old one then stays as it was."""
        shape = {
            "keytrail_state": VERSION,
            "paths": list(self.paths),
            "newest": self.newest,
            "incidents": [[one.rule_id, list(one.group), one.start, one.end, one.day] for one in self.incidents],
            "files": [[name, *read] for name, read in sorted(self.files.items())],
        }
        write_text(path, json.dumps(shape, separators=(",", ":")) + "\n", durable=True)


def load_state(path: Path, paths: Sequence[str]) -> State:
    """Read a state; where there is no such file, return an empty one for ``paths``.

    Raises :class:`StateError` for a file that is no state, of another version, or of a hunt in other paths: it is
    never taken for an empty one, for then everything would be told again.
    """
    wanted = tuple(sorted({os.path.abspath(one) for one in paths}))
    if path.exists() and not path.is_file():
        raise StateError("the state is no file", path=path, hint="name a file")
    if named_log(path.name) and any(path.absolute().is_relative_to(one) for one in wanted):
        hint = "name it without .json, or keep it elsewhere"
        raise StateError("the state lies among the logs and would be read as one", path=path, hint=hint)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return State(wanted)
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"the state cannot be read: {error}", path=path, hint=_HINT) from error
    try:
        found = _state(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StateError("this is no state of a hunt, or it is broken", path=path, hint=_HINT) from error
    if found is None:
        raise StateError("the state is of another version of Keytrail", path=path, hint=_HINT)
    if found.paths != wanted:
        message = f"the state is of a hunt in other paths: {', '.join(found.paths)}"
        raise StateError(message, path=path, hint="give each set of paths a state file of its own")
    return found


def _state(value: Any) -> State | None:
    """The state in a file. Raises ValueError, TypeError or KeyError for what is none."""
    if value["keytrail_state"] != VERSION:
        return None
    files = {
        _checked(name, str): Read(_maybe(first), _maybe(last), _checked(day, int))
        for name, first, last, day in value["files"]
    }
    incidents = [
        Told(_checked(rule, str), _texts(group), *(_checked(one, int) for one in (start, end, day)))
        for rule, group, start, end, day in value["incidents"]
    ]
    return State(_texts(value["paths"]), _maybe(value["newest"]), files, incidents)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_checked(one, str) for one in _checked(value, list))


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(value)
    return value


def _maybe(value: Any) -> int | None:
    return None if value is None else int(_checked(value, int))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs from the state at ``path``, until done; the lock goes with the process, however that ends.

    Raises :class:`StateError` where another run has it.
    """
    # Of a state that has several names through links, there is one lock.
    lock = FileLock(f"{os.path.realpath(path)}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        hint = "wait for it, or give this one a state file of its own"
        raise StateError("another hunt with this state is running", path=path, hint=hint) from error
    except OSError as error:
        raise StateError(f"the state cannot be locked: {error.strerror}", path=path) from error
    try:
        yield
    finally:
        lock.release()


def day_of(moment: int) -> int:
    """Return the day, counted from 1970, of a time in milliseconds."""
    return moment // DAY
