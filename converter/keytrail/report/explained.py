"""An explanation as a page shows it: the parts that decide, with the event's values, in a bounded length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keytrail.explain import Line, Node
from keytrail.explanation_view import excerpt

MOST_PARTS, MOST_VALUES = 60, 3
_WHY = {
    "absent": "absent",
    "null": "null",
    "object": "an object, no value",
    "present": "must be absent",
    "equal": "must be something else",
}
# What joins other parts is said in words, for its own text has all of theirs in it.
_JOINS = {"and": "all of", "or": "one of", "not": "not", "filtered": "the rule, and its filters"}


@dataclass(frozen=True)
class Part:
    """A part of an explanation: what is ``asked`` and ``wanted``, and what the event has where it differs: ``found``.

    ``state`` is that of the node; ``spared`` parts beside the ``children`` were not needed for the answer.
    """

    state: str
    holds: bool
    kind: str
    asked: str
    wanted: str = ""
    found: str = ""
    children: tuple[Part, ...] = ()
    spared: int = 0


def parts(root: Node) -> Part:
    """Return what is shown of an explanation's tree: its parts from the top on, so many and no more."""
    left = [MOST_PARTS]

    def grow(node: Node, prefix: str) -> Part:
        left[0] -= 1
        prefix = node.exclusion.prefix if node.exclusion is not None else prefix
        deciding = [child for child in node.children if child.decisive]
        grown = [grow(child, prefix) for child in deciding if left[0] > 0]
        spared = len(node.children) - len(grown)
        if node.line is not None:
            return _line(node, node.line)
        if len(grown) == 1 and not spared and node.kind in ("and", "or", "of"):
            return grown[0]
        return Part(node.state, node.holds, *_named(node, prefix), "", "", tuple(grown), spared)

    return grow(root, "")


def _named(node: Node, prefix: str) -> tuple[str, str]:
    """What a part with others below it is, in words and as the rule has it; a filter's own names without ``prefix``."""
    if node.exclusion is not None:
        return "the filter", str(node.exclusion)
    if node.kind in _JOINS:
        return _JOINS[node.kind], ""
    text = node.text_without(prefix)
    return "", text if len(text) <= 200 else f"{text[:200]}…"


def _line(node: Node, line: Line) -> Part:
    met = line.met if line.holds and line.met else None
    wanted = line.wanted if isinstance(line.wanted, list) else [line.wanted]
    texts = [value for value in wanted if isinstance(value, str)]
    modifiers = line.asked.split("|")[1:]
    shown = _values(met or wanted, [], modifiers)
    if met and len(wanted) > len(met):
        shown += f" (or {len(wanted) - len(met)} more)"
    found = _values(line.found, texts, modifiers) if line.found else ""
    why = _WHY.get(line.state, "")
    if line.state == "holds" and not line.found:
        why = "an object" if line.present else "absent"
    said = "; ".join(part for part in (found, why) if part)
    return Part(node.state, node.holds, "", line.asked, shown, "" if said == shown else said)


def _values(found: Sequence[Any], wanted: Sequence[str], modifiers: Sequence[str]) -> str:
    said = [_value(value, wanted, modifiers) for value in found[:MOST_VALUES]]
    return ", ".join(said + ([f"{len(found) - MOST_VALUES} more"] if len(found) > MOST_VALUES else []))


def _value(value: Any, wanted: Sequence[str], modifiers: Sequence[str]) -> str:
    return f"'{excerpt(value, wanted, modifiers)}'" if isinstance(value, str) else json.dumps(value)
