"""An index mapping as Elasticsearch reads it: which type a field has, known or made on the way by a dynamic template.

The generator asks it what a query on a field can express, the engine what a document's value becomes in the index;
both see the very JSON that Elasticsearch is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from keytrail.errors import SchemaError

# Types that lose a part of a number (float, half_float, scaled_float) or have a range of their own are not among them.
WHOLE_NUMBERS = frozenset({"long", "integer", "short", "byte"})
NUMBERS = WHOLE_NUMBERS | {"double"}
OBJECTS = frozenset({"object", "nested"})


@dataclass(frozen=True)
class FieldType:
    """One field of an index.

    ``name`` is what a query says; ``source`` the path in a document that its values come from (they differ for a
    multi-field and an alias). ``root`` is the flattened field whose key this is. ``companions`` are its multi-fields,
    by type. ``ignore_above`` counts UTF-16 code units; longer values are not indexed.
    """

    name: str
    type: str
    source: str
    ignore_above: int | None = None
    normalizer: str | None = None
    root: str | None = None
    dynamic: bool = False
    searchable: bool = True
    has_null_value: bool = False
    companions: Mapping[str, str] = field(default_factory=dict)


class IndexMapping:
    """The mapping of one index.

    ``body`` is what ``PUT /index`` takes, ``{"settings": …, "mappings": …}``. Raises :class:`SchemaError` where it is
    not a mapping.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        mappings = body.get("mappings")
        if not isinstance(mappings, Mapping):
            raise SchemaError("the index has no mappings", hint='expected {"mappings": {"properties": {…}}}')
        self._fields = {found.name: found for found in _read(mappings, "", "")}
        self._objects = set(_objects(mappings, ""))
        self._templates = [next(iter(entry.values())) for entry in mappings.get("dynamic_templates", [])]
        self._dynamic = str(mappings.get("dynamic", "true")).lower()

    def field(self, name: str) -> FieldType | None:
        """Return the field that a query on ``name`` would use; None where the index has none and would make none."""
        known = self._fields.get(name)
        if known is not None:
            return known
        for root in _parents(name):
            parent = self._fields.get(root)
            if parent is not None:
                if parent.type != "flattened":
                    return None
                return replace(parent, name=name, source=parent.source + name[len(root) :], root=root, companions={})
        return self._made(name)

    def is_object(self, name: str) -> bool:
        """Tell whether ``name`` is an object, which holds fields and no value of its own."""
        return name in self._objects

    def _made(self, name: str) -> FieldType | None:
        """The field that a dynamic template makes for a string at ``name``."""
        if self._dynamic not in ("true", "runtime") or self.is_object(name):
            return None
        for template in self._templates:
            if _applies(template, name):
                return replace(_leaf(name, name, template["mapping"]), dynamic=True)
        return None


def _parents(name: str) -> Iterator[str]:
    cut = name.rfind(".")
    while cut > 0:
        yield name[:cut]
        cut = name.rfind(".", 0, cut)


def _applies(template: Mapping[str, Any], name: str) -> bool:
    kinds = template.get("match_mapping_type", "*")
    if not {"string", "*"} & set([kinds] if isinstance(kinds, str) else kinds):
        return False
    patterns = (("path_match", name), ("match", name.rsplit(".", 1)[-1]))
    for key, text in patterns:
        wanted = template.get(key)
        if wanted is not None and not any(
            fnmatchcase(text, pattern) for pattern in ([wanted] if isinstance(wanted, str) else wanted)
        ):
            return False
    return not any(
        fnmatchcase(text, pattern)
        for key, text in (("path_unmatch", name), ("unmatch", name.rsplit(".", 1)[-1]))
        for pattern in _listed(template.get(key))
    )


def _listed(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


def _leaf(name: str, source: str, spec: Mapping[str, Any]) -> FieldType:
    companions = {part["type"]: f"{name}.{key}" for key, part in spec.get("fields", {}).items()}
    return FieldType(
        name=name,
        type=spec["type"],
        source=source,
        ignore_above=spec.get("ignore_above"),
        normalizer=spec.get("normalizer"),
        searchable=spec.get("index") is not False,
        has_null_value=spec.get("null_value") is not None,
        companions=companions,
    )


def _read(spec: Mapping[str, Any], name: str, source: str) -> Iterator[FieldType]:
    """Yield the fields below ``spec``, an object, a field or the root of a mapping."""
    kind = spec.get("type", "object" if "properties" in spec or not name else None)
    if kind is None:
        raise SchemaError(f"the mapping of {name} has neither a type nor properties")
    if kind not in OBJECTS:
        yield _leaf(name, source, spec)
        for key, part in spec.get("fields", {}).items():
            yield _leaf(f"{name}.{key}", source, part)
        return
    for key, part in spec.get("properties", {}).items():
        path = f"{name}.{key}" if name else key
        yield from _read(part, path, path)


def _objects(spec: Mapping[str, Any], name: str) -> Iterator[str]:
    if name:
        yield name
    for key, part in spec.get("properties", {}).items():
        if "properties" in part or part.get("type") in OBJECTS:
            yield from _objects(part, f"{name}.{key}" if name else key)
