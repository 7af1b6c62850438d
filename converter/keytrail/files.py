"""Writing files whole or not at all, and JSON as people read it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import orjson

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


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Return ``value`` as JSON with two spaces a level; ``ascii_only`` escapes all else, control characters with it."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # numbers beyond 64 bits
        return json.dumps(value, indent=2, ensure_ascii=ascii_only)
    return json.dumps(value, indent=2) if ascii_only and not text.isascii() else text
