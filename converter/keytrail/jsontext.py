"""JSON text to values, with errors that point at the place; and ways to read past a bad record in a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from keytrail.errors import RecordError

# Far more than any CloudTrail record has (about 10), and few enough for functions that recurse by level.
MAX_DEPTH = 100

# orjson has worded it differently from version to version.
_TOO_DEEP = ("depth", "recursion")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BEFORE, _AFTER = 37, 39
# A string (group 1 is empty when it has no end) or a bracket. Whatever the input, no byte is looked at twice.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|[{}\[\]]', re.DOTALL)
_OPENING = re.compile(rb"\s*([{\[])")


class Piece(NamedTuple):
    """A part of a text, the line and column where it begins, and whether it ends where another document begins."""

    text: bytes
    line: int
    column: int
    ends: bool = False


def parse(data: bytes | bytearray, *, path: str | None = None, line: int = 1, column: int = 1) -> object:
    """The value of a whole JSON document.

    Parameters: ``path``, and ``line`` and ``column`` where the text begins, go into errors.
    Errors: RecordError with line, column and an excerpt with a caret.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        why, position = error.msg, error.pos
    # Raised out here: an error that is kept must not keep the text as its context.
    fault = _fault(data, why, position)
    fault.path = path
    if fault.line == 1 and fault.column is not None:
        fault.column += column - 1
    if fault.line is not None:
        fault.line += line - 1
    raise fault


def is_whole(data: bytes | bytearray) -> bool:
    """Whether the text is one complete JSON value."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def deeper_than(value: object, levels: int) -> bool:
    """Whether lists and objects are nested more than ``levels`` deep; never a RecursionError."""
    containers: list[dict[str, Any] | list[Any]] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        containers = [
            child
            for parent in containers
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not containers:
            return False
    return bool(containers)


def lenient(data: bytes) -> dict[str, Any]:
    """Return a record that is JSON, without what is beyond the limits.

    A number beyond a double stays as it is written, and instead of what is nested too deep there is a note.
    """
    try:
        found: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = json.loads(data, parse_float=_double)
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and deeper_than(found, MAX_DEPTH):
        found = _cut(found, MAX_DEPTH)
    return found


def _double(written: str) -> float | str:
    number = float(written)
    return number if math.isfinite(number) else written


def _cut(value: Any, levels: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return f"(nested more than {MAX_DEPTH} levels deep)"
    if isinstance(value, list):
        return [_cut(one, levels - 1) for one in value]
    return {key: _cut(one, levels - 1) for key, one in value.items()}


def split_records(data: bytes | bytearray, line: int = 1, column: int = 1) -> list[Piece] | None:
    """The texts of the records in a document that does not parse, so that each can be tried alone.

    None when the trouble is not inside the records: the document that is left when they are cut out must be
    ``{"Records": [...]}`` or ``[...]`` with nothing else in it. ``line`` and ``column`` are where the document
    begins.
    """
    opening = _OPENING.match(data)
    spans = _objects_at(data, 2 if opening and opening[1] == b"{" else 1)
    if not spans:
        return None
    skeleton, end = bytearray(), 0
    for number, (start, stop) in enumerate(spans):
        skeleton += data[end:start] + str(number).encode()
        end = stop
    try:
        rest = orjson.loads(skeleton + data[end:])
    except orjson.JSONDecodeError:
        return None
    if isinstance(rest, dict):
        rest = rest["Records"] if set(rest) == {"Records"} else None
    if rest != list(range(len(spans))):
        return None
    return _pieces(data, spans, line, column)


def _pieces(data: bytes | bytearray, spans: Iterable[tuple[int, int]], line: int, column: int) -> list[Piece]:
    pieces = []
    at = 0
    for start, stop in spans:
        # Counted on from the piece before: a document of one long line must not be counted through for each.
        passed = str(data[at:start], "utf-8", "replace")
        feeds = passed.count("\n")
        line += feeds
        column = len(passed) - passed.rfind("\n") if feeds else column + len(passed)
        pieces.append(Piece(bytes(data[start:stop]), line, column))
        at = start
    return pieces


def _objects_at(data: bytes | bytearray, level: int) -> list[tuple[int, int]] | None:
    """Where the objects inside ``level`` brackets begin and end; None when the brackets do not fit."""
    spans: list[tuple[int, int]] = []
    depth = 0
    start: int | None = None
    for token in _TOKEN.finditer(data):
        at = token.start()
        code = data[at : at + 1]
        if code == b'"':
            if not token[1]:
                return None
        elif code in (b"{", b"["):
            if depth == level and code == b"{":
                start = at
            depth += 1
        else:
            depth -= 1
            if depth == level and code == b"}":
                if start is None:
                    return None
                spans.append((start, token.end()))
                start = None
    return spans


def _fault(data: bytes | bytearray, why: str, position: int) -> RecordError:
    """The error for text that does not parse; ``position`` counts characters."""
    hint = None
    try:
        text = str(data, "utf-8")
        before, after = text[:position], text[position:]
    except UnicodeDecodeError as error:
        before = str(data[: error.start], "utf-8")
        after = str(data[error.start : error.start + _AFTER], "utf-8", "backslashreplace")
        why = f"byte 0x{data[error.start]:02x} is not UTF-8"
    if data[:2] in _UTF16:
        why, hint = "UTF-16 text instead of UTF-8", "convert it with: iconv -f UTF-16 -t UTF-8"
    elif any(words in why.lower() for words in _TOO_DEEP):
        why = f"nested more than {MAX_DEPTH} levels deep"
    elif after.startswith(("NaN", "Infinity")):
        why = "NaN and Infinity are no JSON numbers"
    return RecordError(
        f"not valid JSON: {why}\n{_excerpt(before, after)}",
        line=1 + before.count("\n"),
        column=len(before) - before.rfind("\n"),
        hint=hint,
    )


def _excerpt(before: str, after: str) -> str:
    """The line around a place and a caret under it, at most 80 characters wide, printable ASCII only."""
    begin = before.rfind("\n", -_BEFORE) + 1 or max(0, len(before) - _BEFORE)
    left = "".join(reversed(_fit(map(_shown, reversed(before[begin:])), _BEFORE)))
    right = "".join(_fit(map(_shown, after[:_AFTER].partition("\n")[0]), _AFTER))
    return f"  {left}{right}\n  {' ' * len(left)}^"


def _shown(char: str) -> str:
    # Escaped, because a log file's text is an attacker's text: it must not move a terminal's cursor.
    return char if " " <= char <= "~" else char.encode("unicode_escape").decode()


def _fit(pieces: Iterable[str], room: int) -> list[str]:
    fitting = []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        fitting.append(piece)
    return fitting
