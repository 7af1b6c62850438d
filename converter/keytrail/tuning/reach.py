"""Whether a rule could fire in a corpus at all: that it is silent says something only where it could speak."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keytrail import conditions, reference
from keytrail.engine import Predicate, compile_query
from keytrail.lint import selected
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.telemetry import blind, survey

MOST_CALLS = 5_000
Call = tuple[str, str]
_CALL = ("eventSource", "eventName")
_Can = tuple[bool, bool]  # whether it can hold, and whether it can fail


class Reach:
    """Sees every record of a corpus, and says in the end why a rule could not fire on any; nothing where it could."""

    def __init__(self, rule: Rule, schema: Schema) -> None:
        self._rule, self._schema = rule, schema
        self._calls: set[Call] = set()
        self._many = False
        self._waiting: dict[str, Predicate] = {}
        self._seen: set[str] = set()
        survey([rule], schema, self._ask)

    def _ask(self, query: Mapping[str, Any]) -> int:
        self._waiting[json.dumps(query, sort_keys=True)] = compile_query(query, self._schema.mapping)
        return 0

    def take(self, record: Mapping[str, Any]) -> None:
        """Take a record."""
        if self._waiting:
            document = self._schema.document(record)
            found = [name for name, matches in self._waiting.items() if matches(document)]
            self._seen.update(found)
            for name in found:
                del self._waiting[name]
        if len(self._calls) < MOST_CALLS:
            self._calls.add((str(record.get("eventSource")), str(record.get("eventName"))))
        else:
            self._many = True

    def problems(self) -> list[str]:
        """Return why the rule could not fire: no call of those that it is about, or telemetry that is missing."""
        if not self._many and not any(_possible(self._rule, call) for call in self._calls):
            return [f"none of the {len(self._calls)} different calls in these logs is one that the rule is about"]
        counted = survey([self._rule], self._schema, lambda query: int(json.dumps(query, sort_keys=True) in self._seen))
        return [f"there are no {kind}" for kind in blind(self._rule, counted)]


def _possible(rule: Rule, call: Call) -> bool:
    """Tell whether any event of this call could match, whatever else is in it."""
    record = dict(zip(_CALL, call, strict=True))
    detection = dict(rule.document["detection"])
    given = detection.pop("condition")
    parts = {str(name): _selection(part, record) for name, part in detection.items()}
    listed = given if isinstance(given, list) else [given]
    return any(_condition(conditions.parse(str(text)), parts)[0] for text in listed)


def _selection(part: Any, record: Mapping[str, Any]) -> _Can:
    if isinstance(part, Mapping):
        return _join(all, [_line(str(key), wanted, record) for key, wanted in part.items()])
    return _join(any, [_selection(one, record) for one in part])


def _line(key: str, wanted: Any, record: Mapping[str, Any]) -> _Can:
    field, *modifiers = key.split("|")
    if field not in _CALL or "fieldref" in modifiers:
        return True, True
    held = reference.item(key, wanted)(record)
    return held, not held


def _condition(tree: conditions.Condition, parts: Mapping[str, _Can]) -> _Can:
    if isinstance(tree, conditions.Name):
        return parts[tree.name]
    if isinstance(tree, conditions.Of):
        join = all if tree.quantifier == "all" else any
        return _join(join, [parts[name] for name in selected(tree.pattern, parts)])
    if isinstance(tree, conditions.Not):
        can, cannot = _condition(tree.part, parts)
        return cannot, can
    return _join(all if isinstance(tree, conditions.Both) else any, [_condition(part, parts) for part in tree.parts])


def _join(join: Callable[[Iterable[bool]], bool], found: list[_Can]) -> _Can:
    other = any if join is all else all
    return join(can for can, _ in found), other(cannot for _, cannot in found)
