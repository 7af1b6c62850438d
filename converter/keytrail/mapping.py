"""An index mapping as Elasticsearch reads it: which type a field has, known or made on the way by a dynamic template.

The generator asks it what a query on a field can express, the engine what a document's value becomes in the index;
both see the very JSON that Elasticsearch is given. What no query could answer surely (nested objects, runtime fields,
fields that others are copied into …) is a field with a *problem*, which is the reason of the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keytrail.errors import SchemaError

# Types that lose a part of a number (float, half_float, scaled_float) or have a range of their own are not among them.
WHOLE_NUMBERS = frozenset({"long", "integer", "short", "byte"})
NUMBERS = WHOLE_NUMBERS | {"double"}
OBJECTS = frozenset({"object", "nested", "passthrough"})
# Other names of types that queries treat alike.
SAME = {"wildcard": "keyword", "match_only_text": "text", "date_nanos": "date"}
KNOWN = NUMBERS | {"keyword", "text", "flattened", "ip", "boolean", "date"}
SCRIPTED = NUMBERS | {"keyword", "boolean", "ip"}  # whose values a script reads from the columns (doc_values)
LOGSDB_IGNORE_ABOVE = 8191  # the default of an index in logsdb mode; any other index has none
CLOSED = "index.verified_before_close"  # the setting that an index has while it is closed

Problem = tuple[str, str]


@dataclass(frozen=True)
class FieldType:
    """One field of an index.

    ``name`` is what a query says; ``source`` the path in a document that its values come from (they differ for a
    multi-field and an alias). ``root`` is the flattened field whose key this is. ``companions`` are its multi-fields,
    by type. ``ignore_above`` counts UTF-16 code units; longer values are not indexed. ``declared`` is the mapping's own
    word for the type. ``dynamic`` is a field that the index makes when the first value comes, and ``uncertain`` one
    whose type depends on that value. ``scripted`` says whether a script can read its values. ``problem`` says why no
    query can use the field, and what to do about it.
    """

    name: str
    type: str
    source: str
    ignore_above: int | None = None
    normalizer: str | None = None
    root: str | None = None
    dynamic: bool = False
    uncertain: bool = False
    scripted: bool = False
    problem: Problem | None = None
    declared: str = ""
    companions: Mapping[str, str] = field(default_factory=dict)


class IndexMapping:
    """The mapping of one index.

    Parameters: ``body`` is what ``PUT /index`` takes, ``{"settings": …, "mappings": …}``; ``unusable`` leads from
    fields that must not be used to the reason and the remedy. Raises :class:`SchemaError` where it is not a mapping.
    """

    def __init__(self, body: Mapping[str, Any], unusable: Mapping[str, Problem] | None = None) -> None:
        mappings = body.get("mappings")
        if not isinstance(mappings, Mapping):
            raise SchemaError("the index has no mappings", hint='expected {"mappings": {"properties": {…}}}')
        reader = _Reader(flat_settings(body.get("settings") or {}))
        reader.read(mappings, "", _dynamic(mappings, "true"), None)
        self._fields = reader.finished(mappings.get("runtime") or {}, unusable or {})
        self._objects = reader.objects
        self._flat = reader.flat
        self._leaf = reader.leaf
        self.ignore_above = reader.ignore_above
        self._templates = [next(iter(entry.values())) for entry in mappings.get("dynamic_templates") or ()]

    def field(self, name: str) -> FieldType | None:
        """Return the field that a query on ``name`` would use; None where the index has none and would make none."""
        known = self._fields.get(name)
        if known is not None:
            return known
        for root in _parents(name):
            parent = self._fields.get(root)
            if parent is not None and (parent.type == "flattened" or parent.problem or not self.has_beside(root)):
                return _below(parent, root, name)
        return self._made(name)

    def has_beside(self, name: str) -> bool:
        """Tell whether ``name.part`` can be a field beside a field ``name``, as in an object without objects inside."""
        return next((parent in self._flat for parent in (*_parents(name), "") if parent in self._objects), False)

    def is_object(self, name: str) -> bool:
        """Tell whether ``name`` is an object, which holds fields and no value of its own."""
        return name in self._objects and name not in self._fields

    def learns(self, name: str) -> bool:
        """Tell whether the index makes fields of new keys in the object ``name``."""
        return self._inherited(f"{name}.") == "true"

    def known(self) -> Mapping[str, FieldType]:
        """Return the fields that the mapping lists, by name."""
        return self._fields

    def size(self) -> int:
        """Return how many fields count for the limit of an index: objects and multi-fields among them."""
        return len(self._fields) + sum(name not in self._fields for name in self._objects if name)

    def takes_new(self, name: str) -> str:
        """Return what the index does with a new field at ``name``: true, false, strict or runtime."""
        return self._inherited(name)

    def _made(self, name: str) -> FieldType | None:
        """The field that a dynamic template makes for a string at ``name``."""
        if self.is_object(name) or self._inherited(name) != "true":
            return None
        parent, _, last = name.rpartition(".")
        if parent and parent not in self._objects:
            # `a.keyword` is the sub-field of a string `a` that a template maps, unless `a` is an object.
            above = self._templated(parent)
            if above is not None and last in above[0].get("mapping", {}).get("fields", {}):
                spec = above[0]["mapping"]["fields"][last]
                return replace(self._leaf(name, parent, spec), dynamic=True, uncertain=above[1])
        found = self._templated(name)
        if found is None:
            return None
        return replace(self._leaf(name, name, found[0]["mapping"]), dynamic=True, uncertain=found[1])

    def _templated(self, name: str) -> tuple[Mapping[str, Any], bool] | None:
        """The first template for a string at ``name``, and whether a value of another kind would get another type."""
        for template in self._templates:
            if template.get("match_pattern") == "regex":
                return None  # a Java expression: whether this template is the first to apply cannot be told
            if _applies(template, name):
                kind = template.get("mapping", {}).get("type")
                if not isinstance(kind, str) or "{" in kind or "runtime" in template:
                    return None
                return template, "*" not in _listed(template.get("match_mapping_type", "*"))
        return None

    def _inherited(self, name: str) -> str:
        """What happens to a new field at ``name``: the nearest object above says so."""
        return next((self._objects[parent] for parent in (*_parents(name), "") if parent in self._objects), "true")


def is_closed(settings: Mapping[str, Any]) -> bool:
    """Tell whether an index with these flat settings is closed, so that no search looks into it."""
    return str(settings.get(CLOSED)).lower() == "true"


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of an index by their dotted names, without the leading ``index.``."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.update(flat_settings(value, f"{name}."))
        else:
            found[name.removeprefix("index.")] = value
    return found


class _Reader:
    """Reads a mapping's tree; ``objects`` leads from each object to what it does with new fields.

    ``flat`` are the objects that hold no objects (``subobjects: false``): their fields have dots in their names.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.fields: dict[str, FieldType] = {}
        self.objects: dict[str, str] = {}
        self.flat: set[str] = set()
        self.aliases: dict[str, str] = {}
        self.copies: dict[str, list[str]] = {}
        self.settings = settings
        default = LOGSDB_IGNORE_ABOVE if settings.get("mode") == "logsdb" else None
        self.ignore_above = _count(settings.get("mapping.ignore_above")) or default

    def read(self, spec: Mapping[str, Any], name: str, dynamic: str, problem: Problem | None) -> None:
        """Take in ``spec``, an object, a field or the root of a mapping."""
        if not isinstance(spec, Mapping):
            raise SchemaError(f"the mapping of {name} is no object: {spec!r:.40}")
        kind = spec.get("type", "object" if "properties" in spec or "enabled" in spec or not name else None)
        if kind is None and "dynamic" not in spec and "subobjects" not in spec:
            raise SchemaError(f"the mapping of {name} has neither a type nor properties")
        if kind is not None and kind not in OBJECTS:
            self._field(spec, name, problem)
            return
        problem = problem or _object_problem(spec, name)
        dynamic = _dynamic(spec, dynamic)
        self.objects[name] = dynamic
        if str(spec.get("subobjects", True)).lower() == "false":
            self.flat.add(name)
        if problem is not None and name:
            self.fields[name] = FieldType(name, str(kind), name, problem=problem)
        for key, part in (spec.get("properties") or {}).items():
            self.read(part, f"{name}.{key}" if name else key, dynamic, problem)

    def _field(self, spec: Mapping[str, Any], name: str, problem: Problem | None) -> None:
        if spec["type"] == "alias":
            self.aliases[name] = str(spec.get("path"))
            return
        for target in _listed(spec.get("copy_to")):
            self.copies.setdefault(target, []).append(name)
        for made in (self.leaf(name, name, spec), *self._parts(name, spec)):
            self.fields[made.name] = replace(made, problem=problem or made.problem)

    def _parts(self, name: str, spec: Mapping[str, Any]) -> Iterator[FieldType]:
        for key, part in (spec.get("fields") or {}).items():
            yield self.leaf(f"{name}.{key}", name, part)

    def leaf(self, name: str, source: str, spec: Mapping[str, Any]) -> FieldType:
        """Return the field that ``spec`` describes."""
        declared = str(spec.get("type"))
        kind = SAME.get(declared, declared)
        limit = _count(spec.get("ignore_above"))
        if limit is None and kind in ("keyword", "flattened"):
            limit = self.ignore_above
        return FieldType(
            name=name,
            type=kind,
            source=source,
            ignore_above=limit,
            normalizer=self._normalizer(spec.get("normalizer")),
            problem=_leaf_problem(declared, kind, {"coerce": self.settings.get("mapping.coerce", True), **spec}),
            declared=declared,
            scripted=declared in SCRIPTED and str(spec.get("doc_values", True)).lower() != "false",
            companions=_companions(list(self._parts(name, spec))),
        )

    def _normalizer(self, name: str | None) -> str | None:
        """``lowercase`` for the built-in normalizer and any that does the same, else a name that is not known here."""
        if name is None:
            return None
        prefix = f"analysis.normalizer.{name}."
        own = {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}
        if not own:
            return name
        same = _listed(own.get("filter")) == ["lowercase"] and not own.get("char_filter")
        redefined = any(key.startswith("analysis.filter.lowercase.") for key in self.settings)
        return "lowercase" if same and not redefined else f"{name} of this index"

    def finished(self, runtime: Mapping[str, Any], unusable: Mapping[str, Problem]) -> dict[str, FieldType]:
        """Return all fields, with what can be said of them once all are read."""
        for target, sources in self.copies.items():
            what = f"the values of {', '.join(sorted(sources))} are copied into it"
            self._spoil(target, (what, "use the fields that they are copied from"))
        for name, target in self.aliases.items():
            if target in self.fields:
                self.fields[name] = self.fields[target]
        for name, spec in runtime.items():
            what = "a runtime field: what a document has there is not in the index"
            self.fields[name] = FieldType(name, str(spec.get("type")), name, problem=(what, "map it as a field"))
        for name, problem in unusable.items():
            self._spoil(name, problem)
        return self.fields

    def _spoil(self, name: str, problem: Problem) -> None:
        parts = [other for other in self.fields if other.startswith(f"{name}.")]
        self.fields.setdefault(name, FieldType(name, "unknown", name))
        for other in (name, *parts):
            self.fields[other] = replace(self.fields[other], problem=problem)


def _object_problem(spec: Mapping[str, Any], name: str) -> Problem | None:
    if spec.get("type") == "nested":
        return f"{name} is nested: each of its objects is a document of its own", f"map {name} as object"
    if str(spec.get("enabled", True)).lower() == "false":
        return f"{name} is kept and not indexed (enabled: false)", f"map {name} with its fields"
    return None


def _leaf_problem(declared: str, kind: str, spec: Mapping[str, Any]) -> Problem | None:
    if str(spec.get("index", True)).lower() == "false":
        return "the index keeps it without making it searchable (index: false)", "map it with index: true"
    if spec.get("null_value") is not None:
        return "null_value makes an absent value look present", "map it without null_value"
    if kind in NUMBERS and str(spec["coerce"]).lower() == "false":
        return "the index does not take a number that is written as a text (coerce: false)", "map it without coerce"
    if declared == "constant_keyword":
        return "it is one constant for all documents of the index", "use the field that holds the event's value"
    if kind not in KNOWN:
        return f"what the type {declared} answers is not known here", "map it as keyword"
    return None


def _companions(parts: list[FieldType]) -> dict[str, str]:
    """The multi-fields by type; of several keywords the one that keeps most of a value."""
    best = sorted(parts, key=lambda part: (part.normalizer is None, part.ignore_above is None, part.ignore_above or 0))
    return {part.type: part.name for part in best if part.problem is None}


def _below(parent: FieldType, root: str, name: str) -> FieldType | None:
    """The field ``name`` below the field ``root``: a key of a flattened field, or part of what cannot be used."""
    source = parent.source + name[len(root) :]
    if parent.problem is not None:
        return replace(parent, name=name, source=source, companions={})
    if parent.type != "flattened":
        return None
    return replace(parent, name=parent.name + name[len(root) :], source=source, root=parent.name, companions={})


def _dynamic(spec: Mapping[str, Any], inherited: str) -> str:
    found = spec.get("dynamic")
    return inherited if found is None else str(found).lower()


def _count(value: object) -> int | None:
    return None if value is None else int(str(value))


def _parents(name: str) -> Iterator[str]:
    cut = name.rfind(".")
    while cut > 0:
        yield name[:cut]
        cut = name.rfind(".", 0, cut)


def _applies(template: Mapping[str, Any], name: str) -> bool:
    if not {"string", "*"} & set(_listed(template.get("match_mapping_type", "*"))):
        return False
    if "string" in _listed(template.get("unmatch_mapping_type")):
        return False
    last = name.rsplit(".", 1)[-1]
    for key, text in (("path_match", name), ("match", last)):
        wanted = _listed(template.get(key))
        if wanted and not any(fits(pattern, text) for pattern in wanted):
            return False
    return not any(
        fits(pattern, text)
        for key, text in (("path_unmatch", name), ("unmatch", last))
        for pattern in _listed(template.get(key))
    )


def fits(pattern: str, text: str) -> bool:
    """Tell whether ``text`` is of Elasticsearch's simple pattern: that knows ``*`` and nothing else."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _listed(value: object) -> list[str]:
    return [] if value is None else list(map(str, value)) if isinstance(value, (list, tuple)) else [str(value)]
