"""Writing files whole or not at all, telling them from what they were, and JSON as people read it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import orjson

from keytrail.errors import UsageError


def write_text(path: Path, content: str, *, durable: bool = False) -> None:
    """Write ``content`` to ``path``: into a temporary file beside it, which then takes its name.

    Parameters: ``durable`` waits until the disk has it, so that not even a power cut leaves half of it. The folder is
    made where it is missing. A link stays one, and a file that is there keeps who may read it. Raises
    :class:`UsageError` where it cannot be written, and for a device, a pipe or a folder: a file taking its name would
    remove it.
    """
    temporary = None
    try:
        place = Path(os.path.realpath(path))
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else None
        if mode is not None and not place.is_file():
            raise UsageError("cannot be written: it is no file", path=path, hint="name a file")
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _beside(place, 0o666)  # from which the user's umask takes
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, place)
        if durable:
            _sync_folder(place.parent)
    except BaseException as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise UsageError(f"cannot be written: {error.strerror}", path=path) from error
        raise


def _beside(path: Path, mode: int) -> tuple[int, Path]:
    """A new file in the folder of ``path``, open, and its name. (``tempfile`` takes as long to import as a command.)"""
    name = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), name


def fingerprint(path: Path) -> str | None:
    """Return what tells a file from itself once it has changed: of its path, size and time; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    import hashlib  # most commands ask for none

    name = os.fsencode(os.path.abspath(path))
    return hashlib.sha256(b"%d %d %s" % (status.st_size, status.st_mtime_ns, name)).hexdigest()[:32]


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Return ``value`` as JSON with two spaces a level; ``ascii_only`` escapes all else, control characters with it."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # numbers beyond 64 bits
        return json.dumps(value, indent=2, ensure_ascii=ascii_only)
    return json.dumps(value, indent=2) if ascii_only and not text.isascii() else text


def _sync_folder(folder: Path) -> None:
    """Have the disk keep the name that a file has taken; where folders cannot be opened, names are kept anyway."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_key(path: Path) -> str:
    """Return the key that a file holds. Raises :class:`UsageError`, which does not repeat it."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the API key cannot be read", path=path, hint="a file with the key alone") from error


@contextmanager
def kept_aside(path: Path, *, more: bool = False) -> Iterator[Callable[[bytes], None]]:
    """Yield what takes lines for a new file at ``path``; there is none where none is given.

    Each line is in the file at once, whatever becomes of the run. With ``more`` the file may be there already, and
    takes the lines that it does not have. Raises :class:`UsageError` where it exists and is not to be gone on with, or
    cannot be written.
    """
    there = path.exists()
    if there and not (more and path.is_file()):
        raise UsageError("exists already, and may hold what another run has kept", path=path, hint="name another file")
    with ExitStack() as stack:
        held: list[IO[bytes]] = []
        known: set[bytes] = set()

        def keep(line: bytes) -> None:
            try:
                if not held:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    held.append(stack.enter_context(_to_go_on_with(path, known) if there else _new(path)))
                if line not in known:
                    held[0].write(line)
            except OSError as error:
                raise UsageError(f"cannot be written: {error.strerror}", path=path) from error

        yield keep


def _new(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _to_go_on_with(path: Path, known: set[bytes]) -> IO[bytes]:
    """Open a file to write behind its end, and take what it has into ``known``."""
    file = path.open("ab+", buffering=0)
    file.seek(0)
    lines = file.readlines()
    known.update(lines)
    if lines and not lines[-1].endswith(b"\n"):  # of a run that was killed while it wrote
        file.write(b"\n")
    return file
