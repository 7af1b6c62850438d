"""A schema made of the mapping that an index really has, or several indices behind one pattern.

Which names it uses, CloudTrail's own (``eventName``) or ECS (``event.action``), is recognised from its fields. A field
that two indices keep in different ways is no field that a query could use: it is refused, and named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keytrail.errors import KeytrailError, SchemaError, UnmappedField, UsageError
from keytrail.mapping import FieldType, IndexMapping, Problem, flat_settings, is_closed
from keytrail.schemas import ecs, ecs_custom, keytrail, raw
from keytrail.schemas.base import Schema

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

# What of a mapping and of the settings decides how values are indexed; shards, lifecycles and pipelines do not.
PARTS = ("dynamic", "dynamic_templates", "date_detection", "numeric_detection", "dynamic_date_formats", "subobjects")
SETTINGS = (
    *("analysis.", "mapping.total_fields.", "mapping.depth.", "mapping.nested_", "mapping.field_name_length."),
    *("mapping.coerce", "mapping.ignore_malformed", "mapping.ignore_above"),
)
FIELDS = 1000  # that an index takes where nothing else is set
LARGEST = 50_000_000
Body = Mapping[str, Any]


@dataclass(frozen=True)
class LiveSchema(Schema):
    """A schema of an index that exists: ``naming`` is ``raw`` or ``ecs``, ``indices`` are those that were read.

    ``unusable`` leads from the fields that the indices keep in different ways to what these are, and the remedy.
    ``fullest`` is the index with the least room for new fields, with its number of fields and its limit.
    """

    naming: str = "raw"
    indices: tuple[str, ...] = ()
    unusable: Mapping[str, Problem] = field(default_factory=dict)
    fullest: tuple[str, int, int] = ("", 0, FIELDS)

    @cached_property
    def mapping(self) -> IndexMapping:
        """The merged mapping."""
        return IndexMapping(self.body, self.unusable)

    @property
    def timed(self) -> bool:
        """Whether events have a time to search by: in all indices it is a date."""
        found = self.mapping.known().get(self.time)
        return found is not None and found.type == "date" and self.time not in self.unusable

    def index_name(self, rule_field: str) -> str:
        """Return the index's name of a rule's field. With CloudTrail's own names that is the rule's."""
        return rule_field if self.naming == "raw" else super().index_name(rule_field)

    def field(self, index_name: str) -> FieldType | None:
        """Return the type of a field; None where the index has none, and would make one by the first value it gets."""
        found = super().field(index_name)
        return None if found is not None and found.uncertain else found

    def absent(self, index_name: str, rule_field: str) -> UnmappedField:
        """Return the error for a field that no event in the index has had, with what to map it as."""
        new = self.mapping.takes_new(index_name)
        why = {"false": "leaves new fields out", "strict": "refuses events with new fields"}.get(new)
        what = f"and the index {why} (dynamic: {new})" if why else "so no event in the index has had it"
        return UnmappedField(
            f"{self.name} has no field {index_name!r} (the rule's {rule_field!r}), {what}",
            hint=f"PUT {self.name}/_mapping {json.dumps(mapping_of(index_name, keytrail.KEYWORD))}"
            if self.naming == "raw"
            else "update the AWS integration, which keeps the field in newer versions",
            field=rule_field,
        )


def mapping_of(path: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a PUT _mapping request that maps one field."""
    made = dict(spec)
    for key in reversed(path.split(".")):
        made = {"properties": {key: made}}
    return made


def read_cluster(cluster: Cluster, pattern: str) -> dict[str, Body]:
    """Return the mappings and settings of the indices behind a name or pattern, by index.

    Raises :class:`UsageError` where there is none; :class:`ClusterError` and :class:`NodeError` as the cluster does.
    """
    from keytrail.cluster import named_errors

    if not pattern.strip():
        raise UsageError("the name of the index is empty", hint="give its name or pattern with --index")
    with named_errors(f"read the mapping of {pattern}"):
        mappings = cluster.client.indices.get_mapping(index=pattern)
        settings = cluster.client.indices.get_settings(index=pattern, flat_settings=True)
        if not mappings.body:
            raise UsageError(f"no index matches {pattern!r}", hint="GET _cat/indices lists what there is")
        bodies: dict[str, Body] = {
            name: {**mappings[name], "settings": settings[name]["settings"]} for name in sorted(mappings.body)
        }
    for name, body in bodies.items():
        if is_closed(body["settings"]):
            raise UsageError(f"the index {name} is closed: no query can search it", hint=f"POST {name}/_open opens it")
    return bodies


def read_file(path: Path) -> dict[str, Body]:
    """Return the mappings in a file: what ``GET /INDEX`` or ``GET /INDEX/_mapping`` answers, or one index's body.

    Raises :class:`UsageError` where the file cannot be read, :class:`SchemaError` where it holds no mapping.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise SchemaError(f"larger than {LARGEST:,} bytes: no mapping", path=path)
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", path=path) from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"not JSON: {error}", path=path, hint="save what GET /INDEX answers") from error
    if isinstance(found, dict) and "properties" in found:
        found = {"mappings": found}
    if isinstance(found, dict) and "mappings" in found:
        return {path.stem: found}
    if (
        isinstance(found, dict)
        and found
        and all(isinstance(body, dict) and "mappings" in body for body in found.values())
    ):
        return found
    raise SchemaError("no mapping of an index", path=path, hint="save what GET /INDEX answers")


def load_schema(source: str, index: str | None) -> LiveSchema:
    """Return the schema of a live index, where ``source`` is the URL of its cluster, or of a file with its mapping.

    ``index`` is a name or pattern; a file with one index names it itself. Errors: those of :func:`read_cluster`,
    :func:`read_file` and :func:`live_schema`; :class:`UsageError` where ``index`` is needed and None.
    """
    if not source.startswith(("http://", "https://")):
        bodies = read_file(Path(source))
        if index is None and len(bodies) > 1:
            raise UsageError(f"{source} has {len(bodies)} indices", hint="name them as queries do, with --index")
        try:
            return live_schema(bodies, index or next(iter(bodies)))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            if isinstance(error, KeytrailError):
                raise
            raise SchemaError(f"no mapping as Elasticsearch gives it: {error}", path=source) from error
    if index is None:
        raise UsageError("which index is not said", hint="give its name or pattern with --index")
    from keytrail.cluster import real_elasticsearch

    with real_elasticsearch(source) as cluster:
        return live_schema(read_cluster(cluster, index), index)


def live_schema(bodies: Mapping[str, Body], name: str) -> LiveSchema:
    """Return the schema of the indices in ``bodies``, which queries will search as ``name``.

    Raises :class:`SchemaError` where their fields are not those of CloudTrail, under names known here.
    """
    indices = {index: IndexMapping(body) for index, body in bodies.items()}
    body = _merged(list(bodies.values()))
    mapping = IndexMapping(body)
    known = mapping.known()
    unusable = _conflicts(indices) if len(indices) > 1 else {}
    common: dict[str, Any] = {
        "name": name,
        "index": name,
        "body": body,
        "indices": tuple(indices),
        "unusable": unusable,
        "fullest": max(
            (_room(indices[index], index, bodies[index]) for index in indices), key=lambda room: room[1] / room[2]
        ),
        "time": _time(mapping, unusable),
    }
    by_naming: dict[str, list[str]] = {}
    for index, one in indices.items():
        by_naming.setdefault(_naming(one), []).append(index)
    by_naming.pop("", None)
    if len(by_naming) > 1:
        shown = " and ".join(f"{naming} in {_listed(where)}" for naming, where in by_naming.items())
        raise SchemaError(f"{name} mixes two ways to name fields: {shown}", hint="take them one by one")
    if not known:
        raise SchemaError(f"{name} has no fields yet", hint="load events first, or make it with a mapping")
    if not by_naming:
        raise SchemaError(
            f"{name} has neither eventName and eventSource nor event.action and aws.cloudtrail",
            hint="known are CloudTrail's own names, at the top of the document, and those of Elastic's AWS integration",
        )
    return _ecs(mapping, common) if "ECS" in by_naming else _raw(body, common)


def _time(mapping: IndexMapping, unusable: Mapping[str, Problem]) -> str:
    """The field with the event's time: ``@timestamp`` may be when the event came, where eventTime is a date itself."""
    known = mapping.known()
    own = known.get("eventTime")
    dated = own is not None and own.type == "date" and "eventTime" not in unusable
    return "@timestamp" if "@timestamp" in known and not dated else "eventTime"


def _naming(mapping: IndexMapping) -> str:
    known = mapping.known()
    if mapping.is_object("aws.cloudtrail") and "event.action" in known:
        return "ECS"
    return "CloudTrail's own names" if {"eventName", "eventSource"} <= set(known) else ""


def _ecs(mapping: IndexMapping, common: dict[str, Any]) -> LiveSchema:
    own = {rule_field: target for rule_field, target in ecs_custom.TARGETS.items() if target in mapping.known()}
    like = ecs_custom.SCHEMA if own else ecs.SCHEMA
    return LiveSchema(
        **common,
        title=f"the names of schema {like.name}",
        names={**ecs.SCHEMA.names, **own},
        prefixes=like.prefixes,
        document=like.document,
        dropped=like.dropped,
        shared=like.shared,
        java_maps=like.java_maps,
        size_limits=like.size_limits,
        companions=like.companions,
        copies=ecs_custom.copies(own),
        integration=like.integration,
        naming="ecs",
    )


def _raw(body: Body, common: dict[str, Any]) -> LiveSchema:
    root = body["mappings"]["properties"].get("requestParameters", {})
    ours = root.get("subobjects") is False or str(root.get("subobjects")).lower() == "false"
    document: Callable[[Mapping[str, Any]], dict[str, Any]] = keytrail.document if ours else raw.document
    limit = "from its limit of fields on one with a new field"
    text = f"each event is in the index (it refuses an event with another type in a field, and {limit})"
    return LiveSchema(
        **common,
        title="CloudTrail's own names",
        names={},
        prefixes={},
        document=document,
        taken=None if ours else (text, lambda record: True),
        naming="raw",
    )


def _room(mapping: IndexMapping, index: str, body: Body) -> tuple[str, int, int]:
    limit = int(flat_settings(body.get("settings") or {}).get("mapping.total_fields.limit", FIELDS))
    return index, mapping.size(), max(limit, 1)


# Several indices as one.


def _merged(bodies: list[Body]) -> dict[str, Any]:
    """One body for all: of what differs, the first index's, which :func:`_conflicts` then makes unusable."""
    mappings = [body.get("mappings") or {} for body in bodies]
    made: dict[str, Any] = {"properties": _properties([part.get("properties") or {} for part in mappings])}
    for part in PARTS:
        values = [mapping.get(part) for mapping in mappings]
        if values[0] is not None and all(value == values[0] for value in values):
            made[part] = values[0]
    runtime = {name: spec for mapping in reversed(mappings) for name, spec in (mapping.get("runtime") or {}).items()}
    if runtime:
        made["runtime"] = runtime
    if any(str(mapping.get("dynamic", "true")) != str(mappings[0].get("dynamic", "true")) for mapping in mappings):
        made["dynamic"] = "false"
    return {"settings": _settings(bodies), "mappings": made}


def _settings(bodies: list[Body]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    limits = []
    for body in reversed(bodies):
        flat = flat_settings(body.get("settings") or {})
        found.update({f"index.{key}": value for key, value in flat.items() if key.startswith(SETTINGS)})
        limits.append(IndexMapping({"mappings": {}, "settings": flat}).ignore_above)
    known = [limit for limit in limits if limit is not None]
    if known:
        found["index.mapping.ignore_above"] = min(known)
    return found


def _properties(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: _spec([part[key] for part in parts if key in part]) for key in keys}


def _spec(specs: list[Mapping[str, Any]]) -> dict[str, Any]:
    made = dict(specs[0])
    if "properties" in made:
        made["properties"] = _properties([spec["properties"] for spec in specs if "properties" in spec])
    limits = [int(spec["ignore_above"]) for spec in specs if "ignore_above" in spec]
    if limits:
        made["ignore_above"] = min(limits)
    if "fields" in made:
        made["fields"] = {
            key: _spec([spec["fields"][key] for spec in specs if key in spec.get("fields", {})])
            for key in made["fields"]
        }
    return made


def _conflicts(indices: Mapping[str, IndexMapping]) -> dict[str, Problem]:
    """The fields that the indices keep in different ways, as problems that name the indices."""
    fields = dict.fromkeys(name for mapping in indices.values() for name in mapping.known())
    found = {}
    for name in fields:
        kinds: dict[str, list[str]] = {}
        for index, mapping in indices.items():
            kinds.setdefault(_kept_as(mapping, name), []).append(index)
        kinds.pop("", None)
        if len(kinds) > 1:
            what = "; ".join(f"{kind} in {_listed(where)}" for kind, where in kinds.items())
            found[name] = (f"the indices keep it in different ways: {what}", "give it one type in all of them: reindex")
    # What is said of an object goes for the fields in it.
    return {name: problem for name, problem in found.items() if not any(other in found for other in _above(name))}


def _above(name: str) -> Iterator[str]:
    return (name[:cut] for cut in range(len(name)) if name[cut] == ".")


def _kept_as(mapping: IndexMapping, name: str) -> str:
    """How an index keeps a field; nothing is said of one that has none yet and would make it."""
    if mapping.is_object(name):
        return "an object"
    found = mapping.known().get(name)
    if found is not None:
        lowered = f", normalizer {found.normalizer}" if found.normalizer else ""
        lowered += f", alias of {found.name}" if found.name != name else ""
        return f"{found.type}{lowered}" + (f" ({found.problem[0]})" if found.problem else "")
    parent = mapping.known().get(name.rpartition(".")[0])
    if parent is not None:
        return "no such sub-field"
    return "not indexed (dynamic: false)" if mapping.takes_new(name) == "false" else ""


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
