"""Text of a log or a rule as it may be shown: what cannot be seen is written out."""

from __future__ import annotations

import re

# Letters by their category, but nothing is seen of them.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_BYTES = re.compile("[\udc80-\udcff]")  # as Python has bytes in paths that are no UTF-8


def visible(text: str, keep: str = "") -> str:
    """Return ``text`` with each character written out that cannot be seen or turns the text around it.

    Parameters: the characters in ``keep`` stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if (c.isprintable() and c not in _BLANK) or c in keep else _written(ord(c)) for c in text)


def path_text(path: str) -> str:
    r"""Return a file's path as text, as JSON and pages take it: a byte of it that is no UTF-8 is written ``\xff``."""
    named = _BYTES.sub(lambda found: _written(ord(found[0]) - 0xDC00), path)
    return named.encode("utf-8", "backslashreplace").decode("utf-8")


def _written(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
