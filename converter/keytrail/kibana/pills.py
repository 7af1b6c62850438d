"""A query in named parts: Kibana shows each as a pill above the rule, and all of them must hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keytrail import script
from keytrail.schemas import Schema

MOST_WORDS = 120  # characters of a pill's name
MOST_VALUES = 3


def pills(query: Mapping[str, Any], schema: Schema) -> list[dict[str, Any]]:
    """Return Kibana's ``filters`` for a Query DSL query: together they match just what it matches.

    Each has an ``alias`` that says what it asks, in the words of the rule.
    """
    return [_pill(clause, schema) for clause in _clauses(query)]


def _clauses(query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a query that must all hold."""
    inner = query.get("bool")
    if not isinstance(inner, Mapping):
        yield query
        return
    for part in _listed(inner.get("filter")) + _listed(inner.get("must")):
        yield from _clauses(part)
    for part in _listed(inner.get("must_not")):
        yield {"bool": {"must_not": [part]}}
    if inner.get("should"):
        least = inner.get("minimum_should_match", 0 if inner.get("filter") or inner.get("must") else 1)
        if least:
            yield {"bool": {"should": _listed(inner["should"]), "minimum_should_match": least}}


def _listed(part: object) -> list[Any]:
    return [] if part is None else part if isinstance(part, list) else [part]


def _pill(clause: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    words = said(clause, schema)
    alias = words if len(words) <= MOST_WORDS else words[: MOST_WORDS - 1] + "…"
    # A custom filter is wrapped, so that Kibana takes it for a query whatever it is.
    body = clause if "bool" in clause else {"bool": {"filter": [clause]}}
    return {
        "$state": {"store": "appState"},
        "meta": {"alias": alias, "disabled": False, "negate": False, "type": "custom", "key": "query"},
        "query": body,
    }


def said(query: Mapping[str, Any], schema: Schema) -> str:
    """Return what a query asks, in words: ``eventName is DisableKey``."""
    ((kind, inner),) = query.items()
    if kind == "bool":
        return _bool(inner, schema)
    if kind == "exists":
        return f"{schema.rule_name(inner['field'])} is there"
    if kind == "script" and (related := script.parameters(inner)) is not None:
        field, other, how = related
        return f"{schema.rule_name(field)} {_RELATED[how]} {schema.rule_name(other)}"
    if kind in _WORDS:
        ((name, spec),) = inner.items()
        value = spec.get("value", spec) if isinstance(spec, Mapping) else spec
        field = "a value too long to search" if name == "_ignored" else schema.rule_name(name)
        return f"{field} {_WORDS[kind]} {_value(kind, value)}"
    return kind.replace("_", " ")


_WORDS = {
    "term": "is",
    "terms": "is one of",
    "prefix": "begins with",
    "wildcard": "is like",
    "regexp": "matches",
    "range": "is",
}
_RELATED = {
    script.EQUALS: "is the same as",
    script.STARTS: "begins with",
    script.ENDS: "ends with",
    script.CONTAINS: "contains",
}
_BOUNDS = {"gt": "over", "gte": "at least", "lt": "under", "lte": "at most"}


def _value(kind: str, value: Any) -> str:
    if kind == "range" and isinstance(value, Mapping):
        return " and ".join(f"{_BOUNDS[name]} {bound}" for name, bound in value.items() if name in _BOUNDS)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value[:MOST_VALUES])) + (" …" if len(value) > MOST_VALUES else "")
    return str(value)


def _bool(inner: Mapping[str, Any], schema: Schema) -> str:
    whole = [said(part, schema) for part in _listed(inner.get("filter")) + _listed(inner.get("must"))]
    whole += [_negated(part, schema) for part in _listed(inner.get("must_not"))]
    should = _alternatives([said(part, schema) for part in _listed(inner.get("should"))])
    if should:
        shown = " or ".join(dict.fromkeys(should))
        whole.append(f"({shown})" if whole and len(should) > 1 else shown)
    return " and ".join(dict.fromkeys(whole)) or "everything"


def _alternatives(parts: list[str]) -> list[str]:
    """Alternatives for one field after another name it once: ``eventName is DisableKey or ScheduleKeyDeletion``."""
    found: list[str] = []
    before = None
    for part in parts:
        head, verb, value = part.partition(" is ")
        found.append(value if verb and head == before and " " not in head else part)
        before = head if verb else None
    return found


def _negated(part: Mapping[str, Any], schema: Schema) -> str:
    if "exists" in part:
        return f"{schema.rule_name(part['exists']['field'])} is absent"
    words = said(part, schema)
    return f"not ({words})" if " and " in words or " or " in words else f"not: {words}"
