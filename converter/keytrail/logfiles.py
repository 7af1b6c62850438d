"""Which log files there are to read: in folders, by name, or standard input."""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from keytrail.errors import RecordError

STDIN = Path("-")
_LINES_SUFFIXES = (".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")
_SUFFIXES = (".json", ".json.gz", *_LINES_SUFFIXES)


class Files(Sequence[Path]):
    """The paths of files, of which there may be millions: in memory there are their names, and each folder once."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._names: list[str] = []
        self._folders: list[str] = []
        self._begins = array("Q")  # of each folder, the place of its first file
        for path in paths:
            self.append(path)

    def append(self, path: Path) -> None:
        """Add a path behind the others."""
        folder, name = os.path.split(path)
        if not self._folders or folder != self._folders[-1]:
            self._folders.append(folder)
            self._begins.append(len(self._names))
        self._names.append(name)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Path]:
        folder = ""
        begins = dict(zip(self._begins, self._folders, strict=True))
        for place, name in enumerate(self._names):
            folder = begins.get(place, folder)
            yield Path(folder, name)

    @overload
    def __getitem__(self, place: int) -> Path: ...

    @overload
    def __getitem__(self, place: slice) -> Files: ...

    def __getitem__(self, place: int | slice) -> Path | Files:
        if isinstance(place, slice):
            return Files(self[one] for one in range(len(self))[place])
        known = range(len(self))[place]
        return Path(self._folders[bisect_right(self._begins, known) - 1], self._names[known])


@dataclass
class Found:
    """What ``find_files`` found: files to read, how many bytes they are, how many were passed over, and dead ends."""

    files: Files = field(default_factory=Files)
    size: int = 0
    passed_over: int = 0
    bad: list[RecordError] = field(default_factory=list)


def find_files(paths: Iterable[str]) -> Found:
    """The log files that the given paths name; a file that is named twice, or linked, is given once.

    Parameters: each path is a file (read whatever its name is), a folder (searched to the bottom, symbolic
    links followed, for .json, .ndjson and .jsonl files and .gz files of them) or ``-``, standard input.
    Errors: none are raised. A path that does not exist and a folder without any such file are in ``bad``.
    """
    found = Found()
    seen: set[int] = set()
    given = list(paths)
    if not given:
        found.bad.append(RecordError("no path was given", hint="name a log file, a folder of them, or -"))
    for name in given:
        path = Path(name)
        if not name.strip():
            found.bad.append(RecordError("a path is empty", hint="is a shell variable unset?"))
        elif name == str(STDIN):
            _add(STDIN, -1, found, seen)
        elif path.is_dir():
            _search(path, found, seen)
        else:
            # A file called "-" was given as "./-": the full name keeps it apart from standard input.
            _add_file(path.absolute() if path == STDIN else path, found, seen)
    return found


def _search(folder: Path, found: Found, seen: set[int]) -> None:
    """Add the log files in a folder and below it, in the order of their names."""
    wanted = others = 0
    entered: set[str] = set()

    def refuse(error: OSError) -> None:
        found.bad.append(RecordError(f"cannot be searched: {error.strerror}", path=error.filename))

    for top, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(top)
        folders[:] = [] if real in entered else sorted(folders)
        for name in sorted(names) if real not in entered else ():
            if named_log(name):
                _add_file(Path(top, name), found, seen, only_regular=True)
                wanted += 1
            else:
                others += 1
        entered.add(real)
    found.passed_over += others
    if not wanted:
        found.bad.append(
            RecordError(
                f"no log file in this folder or below it ({others} other files)",
                path=folder,
                hint="log files end in .json, .ndjson or .jsonl, or one of these with .gz",
            )
        )


def _add_file(path: Path, found: Found, seen: set[int], *, only_regular: bool = False) -> None:
    """Add a file. In a folder a pipe or a device is passed over: nobody asked to wait for it."""
    try:
        status = path.stat()
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        found.bad.append(RecordError(why, path=path, hint="is the path right?"))
        return
    if only_regular and not stat.S_ISREG(status.st_mode):
        found.passed_over += 1
        return
    if _add(path, status.st_dev << 64 | status.st_ino, found, seen):
        found.size += status.st_size


def _add(path: Path, identity: int, found: Found, seen: set[int]) -> bool:
    if identity in seen:
        return False
    seen.add(identity)
    found.files.append(path)
    return True


def named_log(name: str) -> bool:
    """Tell whether a file is a log file by its name."""
    # "._name" files are what macOS leaves on foreign disks beside the real ones.
    return name.lower().endswith(_SUFFIXES) and not name.startswith("._")


def named_ndjson(path: str) -> bool:
    """Tell whether a file's name says that it has a JSON value in each line."""
    return path.lower().endswith(_LINES_SUFFIXES)
