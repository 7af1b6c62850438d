"""What the API takes of a rule's body: Kibana drops fields that it does not know without a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from keytrail.errors import Refused

MOST_RULES = 10_000  # in a file
MOST_BYTES = 10_485_760  # of a file
_DATE_MATH = re.compile(r"now(-[1-9]\d{0,5}[smhd])?")
_INTERVAL = re.compile(r"([1-9]\d{0,4})([smh])")
_VERSION = re.compile(r"[~^]?\d+\.\d+\.\d+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _text(value: object) -> bool:
    return isinstance(value, str)


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _constraint(value: object) -> bool:
    """A version as the rule editor takes it: with any other, analysts could not save the rule there."""
    return isinstance(value, str) and bool(_VERSION.fullmatch(value))


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _number(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _one_of(*values: object) -> Callable[[object], bool]:
    return lambda value: value in values


def _objects(required: Mapping[str, Callable[[Any], bool]], optional: Mapping[str, Callable[[Any], bool]]) -> Any:
    def holds(value: object) -> bool:
        return isinstance(value, list) and all(_object(one, required, optional) for one in value)

    return holds


def _object(
    value: object, required: Mapping[str, Callable[[Any], bool]], optional: Mapping[str, Callable[[Any], bool]]
) -> bool:
    if not isinstance(value, Mapping) or not set(required) <= set(value) <= set(required) | set(optional):
        return False
    both = {**required, **optional}
    return all(both[name](part) for name, part in value.items())


_NAMED = {"id": _filled, "name": _filled, "reference": _filled}
_TECHNIQUE = _objects(_NAMED, {"subtechnique": _objects(_NAMED, {})})
_THREAT = _objects(
    {"framework": _one_of("MITRE ATT&CK"), "tactic": lambda value: _object(value, _NAMED, {})},
    {"technique": _TECHNIQUE},
)


def _threshold(value: object) -> bool:
    fields = {"field": _texts, "value": _number(1, 2**31)}
    counted = _objects({"field": _filled, "value": _number(1, 2**31)}, {})
    if not _object(value, fields, {"cardinality": counted}):
        return False
    assert isinstance(value, Mapping)
    own = {one["field"] for one in value.get("cardinality", ())}
    return len(value["field"]) <= 5 and len(value.get("cardinality", ())) <= 1 and not own & set(value["field"])


def _filters(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pill, Mapping) and set(pill) == {"$state", "meta", "query"} and _filled(pill["meta"].get("alias"))
        for pill in value
    )


def _lasts(value: object) -> bool:
    return _object(value, {"value": _number(1, 2**31), "unit": _one_of("s", "m", "h")}, {})


def _suppression(value: object) -> bool:
    required = {"group_by": lambda names: _texts(names) and 1 <= len(names) <= 3}
    optional = {"duration": _lasts, "missing_fields_strategy": _one_of("suppress", "doNotSuppress")}
    return _object(value, required, optional)


COMMON: dict[str, Callable[[Any], bool]] = {
    "type": _one_of("query", "threshold", "esql"),
    "name": _filled,
    "description": _filled,
    "risk_score": _number(0, 100),
    "severity": _one_of("low", "medium", "high", "critical"),
}
OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "rule_id": _filled,
    "enabled": lambda value: isinstance(value, bool),
    "interval": lambda value: _text(value) and bool(_INTERVAL.fullmatch(value)),
    "from": lambda value: _text(value) and bool(_DATE_MATH.fullmatch(value)),
    "to": lambda value: _text(value) and bool(_DATE_MATH.fullmatch(value)),
    "max_signals": _number(1, 1000),
    "version": _number(1, 2**31),
    "tags": _texts,
    "author": _texts,
    "license": _text,
    "references": _texts,
    "false_positives": _texts,
    "threat": _THREAT,
    "related_integrations": _objects({"package": _filled, "version": _constraint}, {"integration": _filled}),
    "required_fields": _objects({"name": _filled, "type": _filled}, {}),
    "setup": _text,
    "note": _text,
    "building_block_type": _one_of("default"),
    "timestamp_override": _filled,
}
QUERY: dict[str, Callable[[Any], bool]] = {
    "query": _text,
    "language": _one_of("kuery", "lucene"),
    "index": _texts,
    "data_view_id": _filled,
    "filters": _filters,
}
# For each type: what it must have, and what it may have beside that.
TYPES: dict[str, tuple[dict[str, Callable[[Any], bool]], dict[str, Callable[[Any], bool]]]] = {
    "query": ({}, {**QUERY, "alert_suppression": _suppression}),
    "threshold": (
        {"query": _text, "threshold": _threshold},
        {**QUERY, "alert_suppression": lambda value: _object(value, {"duration": _lasts}, {})},
    ),
    "esql": ({"query": _filled, "language": _one_of("esql")}, {"alert_suppression": _suppression}),
}


def check(body: Mapping[str, Any]) -> None:
    """Check a rule's body. Raises :class:`Refused` for what Kibana would refuse, or drop without a word."""
    kind = body.get("type")
    if kind not in TYPES:
        raise Refused(f"{kind!r} is no type of rule that is known here")
    required, optional = TYPES[kind]
    needed = {**COMMON, **required}
    known = {**OPTIONAL, **optional, **needed}
    for name in needed.keys() - body.keys():
        raise Refused(f"a rule of the type {kind} needs {name}")
    for name, value in body.items():
        if name not in known:
            raise Refused(f"a rule of the type {kind} has no field {name}: Kibana would drop it")
        if not known[name](value):
            raise Refused(f"Kibana takes no such {name}: {value!r:.100}")
    if seconds(body.get("from", "now-6m").removeprefix("now-")) < seconds(body.get("interval", "5m")):
        raise Refused("each run looks back less than an interval, so that events between two runs are never seen")


def seconds(span: str) -> int:
    """Return a span such as ``5m`` in seconds; ``now`` is none."""
    return int(span[:-1]) * _SECONDS[span[-1]] if span[:-1].isdigit() else 0


def check_file(text: str, rules: int) -> None:
    """Check a file of rules for what an import takes. Raises :class:`Refused`."""
    size = len(text.encode())
    if rules > MOST_RULES or size > MOST_BYTES:
        said = f"{rules:,} rules and {size:,} bytes"
        hint = f"convert fewer: {MOST_RULES:,} rules and {MOST_BYTES:,} bytes at once"
        raise Refused(f"Kibana does not import a file of {said}", hint=hint)
