"""Change one value in a record, by its path: dotted names, and numbers for the places of a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from typing import Any

from keytrail.errors import CaseError


def set_value(record: dict[str, Any], path: str, value: object) -> None:
    """Replace the value at a path, like ``resources.0.ARN``. Errors: CaseError when there is none."""
    holder, last = _holder(record, path)
    _put(holder, last, value, path)


def remove_value(record: dict[str, Any], path: str) -> None:
    """Take away what is at a path. Errors: CaseError when nothing is."""
    holder, last = _holder(record, path)
    del holder[int(last) if isinstance(holder, list) else last]


def add_value(record: dict[str, Any], path: str, value: object) -> None:
    """Put a value where there is none yet; parents that are missing or null are made.

    Errors: CaseError when there is a value, null included, or when a parent can hold none.
    """
    parts = _parts(path)
    node: Any = record
    for part, following in zip(parts, islice(parts, 1, None), strict=False):
        if not _has(node, part) or _get(node, part) is None:
            _put(node, part, [] if following == "0" else {}, path)
        node = _get(node, part)
    if _has(node, parts[-1]):
        raise CaseError(f"the event has {path} already", hint="change it with set")
    _put(node, parts[-1], value, path)


def _holder(record: dict[str, Any], path: str) -> tuple[Any, str]:
    """The object or list that holds what is at a path, and the last part of the path."""
    parts = _parts(path)
    node: Any = record
    holder: Any = None
    for part in parts:
        if not _has(node, part):
            hint = nearest(path, _paths(record)) or "new fields are given with add"
            raise CaseError(f"the event has no {path}", hint=hint)
        holder, node = node, _get(node, part)
    return holder, parts[-1]


def _parts(path: str) -> list[str]:
    parts = path.split(".")
    if not all(parts):
        raise CaseError(f"{path!r} is no path", hint="a path is names with single dots between them")
    return parts


def _has(node: object, part: str) -> bool:
    if isinstance(node, list):
        return part.isdecimal() and int(part) < len(node)
    return isinstance(node, dict) and part in node


def _get(node: Any, part: str) -> Any:
    return node[int(part) if isinstance(node, list) else part]


def _put(node: object, part: str, value: object, path: str) -> None:
    if isinstance(node, dict):
        node[part] = value
    elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        node[int(part)] = value
    elif isinstance(node, list) and part == str(len(node)):
        node.append(value)
    elif isinstance(node, list):
        raise CaseError(f"{path}: the list has {len(node)}, so {part} is no place in it")
    else:
        raise CaseError(f"{path}: {part} is below a plain value, not an object or a list")


def _paths(node: object, prefix: str = "") -> Iterator[str]:
    """All paths in a record."""
    children: Iterable[tuple[object, object]] = ()
    if isinstance(node, dict):
        children = node.items()
    elif isinstance(node, list):
        children = enumerate(node)
    for name, child in children:
        yield f"{prefix}{name}"
        yield from _paths(child, f"{prefix}{name}.")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint with the name that was probably meant, or None when none is like it."""
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else None
