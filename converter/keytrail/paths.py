"""Field paths in a JSON document, read the way Elasticsearch reads them.

``a.b`` is the key ``b`` in the object ``a`` and just as well the key ``a.b``; a list stands for each of its elements;
null and an empty list are no value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Union

Scalar = Union[str, int, float, bool]


def values(document: object, path: str) -> list[Scalar]:
    """Return the scalar values at ``path``, in the document's order; objects and nulls are not values."""
    found: list[Scalar] = []
    _gather(document, path, found)
    return found


def _gather(node: object, path: str, found: list[Scalar]) -> None:
    """The same as ``_nodes``, for scalars: this is what a hunt spends its time on."""
    if not path:
        _scalars(node, found)
    elif isinstance(node, dict):
        if path in node:
            _scalars(node[path], found)
        for head, rest in _cuts(path):
            if head in node:
                _gather(node[head], rest, found)
    elif isinstance(node, list):
        for element in node:
            _gather(element, path, found)
    elif isinstance(node, Mapping):
        _gather(dict(node), path, found)


def _scalars(node: object, found: list[Scalar]) -> None:
    if isinstance(node, (str, int, float)):
        found.append(node)
    elif isinstance(node, list):
        for element in node:
            _scalars(element, found)


@lru_cache(maxsize=4096)
def _cuts(path: str) -> tuple[tuple[str, str], ...]:
    """The ways to cut a path in two."""
    parts = path.split(".")
    return tuple((".".join(parts[:count]), ".".join(parts[count:])) for count in range(1, len(parts)))


def values_below(document: object, path: str) -> list[Scalar]:
    """Return the scalar values at ``path`` and below it."""
    found = (value for node in _nodes(document, path, below=True) for _, value in leaves(node))
    return [value for value in found if isinstance(value, (str, int, float, bool))]


def exists(document: object, path: str) -> bool:
    """Tell whether any value lies at ``path`` or below it."""
    return any(_has_value(found) for found in _nodes(document, path, below=True))


def stands(document: object, path: str) -> bool:
    """Tell whether anything stands at ``path`` or below it, be it null."""
    return next(iter(_nodes(document, path, below=True)), _NOTHING) is not _NOTHING


_NOTHING = object()


def _nodes(node: object, path: str, below: bool = False) -> Iterator[object]:
    if isinstance(node, list):
        for element in node:
            yield from _nodes(element, path, below)
    elif not path:
        yield node
    elif isinstance(node, Mapping):
        if path in node:
            yield from _nodes(node[path], "")
        if below:  # the key "a.b" lies below "a"
            yield from (node[key] for key in node if key.startswith(f"{path}."))
        cut = path.find(".")
        while cut >= 0:
            head = path[:cut]
            if head in node:
                yield from _nodes(node[head], path[cut + 1 :], below)
            cut = path.find(".", cut + 1)


def _has_value(node: object) -> bool:
    if isinstance(node, Mapping):
        return any(map(_has_value, node.values()))
    if isinstance(node, list):
        return any(map(_has_value, node))
    return node is not None


def leaves(document: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each scalar of ``document`` with its dotted path."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(document, Sequence) and not isinstance(document, str):
        for element in document:
            yield from leaves(element, prefix)
    else:
        yield prefix, document


def text(value: Scalar) -> str:
    """Return the text that Elasticsearch indexes for ``value`` in a keyword, and that Sigma compares."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
