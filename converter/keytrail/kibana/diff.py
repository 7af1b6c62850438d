"""What differs between two rules, for people: field by field, list by list, and clause by clause in a query.

Both sides come in the normal form of :mod:`keytrail.kibana.state`, so that only what has a meaning differs.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keytrail.steps import Change

LONGEST = 160  # characters of a value in one line
CLAUSES = ("must", "filter", "should", "must_not")


def changes(before: Mapping[str, Any], after: Mapping[str, Any], fields: Sequence[str]) -> tuple[Change, ...]:
    """Return what changes in ``fields`` from one normal form to another."""
    found = ((name, before.get(name), after.get(name)) for name in fields if before.get(name) != after.get(name))
    return tuple(Change(name, tuple(_lines(name, old, new)), name == "filters") for name, old, new in found)


def _lines(name: str, old: Any, new: Any) -> Iterator[str]:
    if name == "filters":
        yield from _pills(old or [], new or [])
    elif name == "threat":
        yield from _listed(threat_names(old), threat_names(new))
    elif isinstance(old or new, list):
        yield from _listed(list(map(short, old or [])), list(map(short, new or [])))
    elif isinstance(old or new, str) and "\n" in f"{old or ''}{new or ''}":
        yield from _text(old or "", new or "")
    else:
        yield from _value(name, old, new)


def _value(name: str, old: Any, new: Any) -> Iterator[str]:
    if old is None:
        yield f"+ {name}: {short(new)}"
    elif new is None:
        yield f"- {name}: {short(old)}"
    elif old != new:
        yield f"~ {name}: {short(old)} -> {short(new)}"


def short(value: Any) -> str:
    """Return a value as text, in one line and not too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _listed(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    gone, come = apart(list(old), list(new))
    yield from (f"- {one}" for one in gone)
    yield from (f"+ {one}" for one in come)
    if not gone and not come:
        yield "~ the same in another order"


def apart(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return what is only in the one and only in the other, as often as it is."""
    come = list(new)
    gone = []
    for one in old:
        if one in come:
            come.remove(one)
        else:
            gone.append(one)
    return gone, come


def _text(old: str, new: str) -> Iterator[str]:
    for line in difflib.unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=0):
        if line[:2] not in ("--", "++", "@@"):
            yield f"{line[0]} {short(line[1:])}"


def threat_names(value: Any) -> list[str]:
    """Return the tactics and techniques of a rule by their names."""
    found = []
    for threat in value or []:
        tactic = _named(threat.get("tactic"))
        techniques = threat.get("technique") or []
        if not techniques:
            found.append(tactic)
        for technique in techniques:
            found.append(f"{tactic} / {_named(technique)}")
            found += [f"{tactic} / {_named(part)}" for part in technique.get("subtechnique") or []]
    return found


def _named(one: Any) -> str:
    return f"{one.get('id')} {one.get('name')}" if isinstance(one, Mapping) else str(one)


# Filters: pills by name, and within one the clauses of its query


def _pills(old: list[Any], new: list[Any]) -> Iterator[str]:
    gone, come = apart(old, new)
    if not gone and not come:
        yield "~ the same filters in another order"
    for before in gone:
        after = next((one for one in come if pill_name(one) == pill_name(before)), None)
        if after is None and len(gone) == len(come) == 1:
            after = come[0]
        if after is None:
            yield f"- filter '{pill_name(before)}': {short(before.get('query'))}"
            continue
        come.remove(after)
        yield f"~ filter '{pill_name(before)}'" + (
            f" -> '{pill_name(after)}'" if pill_name(after) != pill_name(before) else ""
        )
        for key in ("negate", "disabled"):
            if before.get(key) != after.get(key):
                yield f"    ~ {key}: {short(before.get(key, False))} -> {short(after.get(key, False))}"
        yield from (f"    {line}" for line in clauses(before.get("query"), after.get("query")))
    for one in come:
        yield f"+ filter '{pill_name(one)}': {short(one.get('query'))}"


def pill_name(one: Any) -> str:
    """Return what analysts read of a filter."""
    return str(one.get("alias") or "no name") if isinstance(one, Mapping) else str(one)


def clauses(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yield which clauses were added to a query and which removed, with the path of bool clauses that leads to them."""
    if old == new:
        return
    if not (_is_bool(old) and _is_bool(new)):
        if old is not None:
            yield f"- {place}{short(old)}"
        if new is not None:
            yield f"+ {place}{short(new)}"
        return
    before, after = old["bool"], new["bool"]
    for occur in CLAUSES:
        gone, come = apart(_each(before.get(occur)), _each(after.get(occur)))
        for one, other in _pairs(gone, come):
            yield from clauses(one, other, f"{place}{occur} > ")
    for key in sorted({*before, *after} - set(CLAUSES)):
        yield from _value(f"{place}{key}", before.get(key), after.get(key))


def _is_bool(query: Any) -> bool:
    return isinstance(query, Mapping) and list(query) == ["bool"] and isinstance(query["bool"], Mapping)


def _each(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _pairs(gone: list[Any], come: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Pair the bool clauses that have most in common; the rest was added or removed."""
    left = list(come)
    for one in gone:
        alike = [(_alike(one, other), at) for at, other in enumerate(left) if _is_bool(one) and _is_bool(other)]
        best = max(alike, default=(0, 0), key=lambda pair: pair[0])
        yield (one, left.pop(best[1])) if best[0] else (one, None)
    yield from ((None, other) for other in left)


def _alike(one: Any, other: Any) -> int:
    """How many clauses two bool queries have in common, at any depth."""
    return len(set(_leaves(one)) & set(_leaves(other)))


def _leaves(query: Any) -> Iterator[str]:
    if _is_bool(query):
        for occur in CLAUSES:
            for one in _each(query["bool"].get(occur)):
                yield from _leaves(one)
    else:
        yield json.dumps(query, sort_keys=True)
