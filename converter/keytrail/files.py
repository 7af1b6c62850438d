"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from keytrail.errors import UsageError


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path``: into a temporary file beside it, which then takes its name.

    The folder is made where it is missing. Raises :class:`UsageError` where it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise UsageError(f"cannot be written: {error.strerror}", path=path) from error


@contextmanager
def kept_aside(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Yield what takes lines for a new file at ``path``; there is none where none is given.

    They wait in a temporary file beside it, which takes its name at the end, also when the block fails: what was kept
    is not lost. Raises :class:`UsageError` where the file exists already or cannot be written.
    """
    if path.exists():
        raise UsageError("exists already, and may hold what another run has kept", path=path, hint="name another file")
    held: list[IO[bytes]] = []
    names: list[str] = []

    def keep(line: bytes) -> None:
        try:
            if not held:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
                names.append(name)
                held.append(os.fdopen(handle, "wb"))
            held[0].write(line)
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror}", path=path) from error

    try:
        yield keep
    finally:
        for file in held:
            file.close()
            os.replace(names[0], path)
