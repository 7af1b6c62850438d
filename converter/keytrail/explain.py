"""Why an event matches a rule, or does not: a tree that follows the rule's condition, down to each of its lines.

The reference evaluates the lines, and says whether the rule matches; the tree only shows how that comes about. What a
filter or a site profile takes out is a part of its own, with the exclusion's title, owner and expiry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keytrail import conditions, reference
from keytrail.errors import RuleError
from keytrail.lint import selected
from keytrail.pack import Applied, Rule
from keytrail.paths import exists, stands, values

Record = Mapping[str, Any]

# What a line is found to be. ``holds``; or why it does not: the field is ``absent``, it is there and ``null``, it is an
# ``object``, its values are all ``different``; it is ``present`` where the rule wants it absent, or one of its values
# is ``equal`` to what it must not be.
STATES = ("holds", "absent", "null", "object", "different", "present", "equal")


@dataclass(frozen=True)
class Line:
    """One line of a rule's selection: what is asked, whether it holds, and the event's values (none: absent).

    ``met`` are those of the wanted values that the event has, ``compared`` the other field's values for ``fieldref``.
    """

    selection: str
    alternative: int
    asked: str
    wanted: Any
    holds: bool
    found: tuple[Any, ...]
    present: bool
    state: str
    met: tuple[Any, ...] = ()
    compared: tuple[Any, ...] | None = None

    @property
    def field(self) -> str:
        """The field that the line is about."""
        return self.asked.split("|")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON has it."""
        shape = {"selection": self.selection, "alternative": self.alternative, "asked": self.asked}
        shape |= {"wanted": self.wanted, "holds": self.holds, "found": list(self.found), "present": self.present}
        shape |= {"field": self.field, "state": self.state, "met": list(self.met)}
        return shape if self.compared is None else {**shape, "compared": list(self.compared)}


@dataclass(frozen=True)
class Node:
    """A part of a rule, whether it holds, and whether the answer of the whole rests on it.

    ``kind`` is ``and``, ``or``, ``not`` or ``of`` for a part of the condition (``text`` is how it is written there),
    and ``filtered`` for a condition that filters have narrowed, which is its first child; ``selection`` (``text`` is
    its name), whose lines must all hold, or ``alternatives`` for a selection that is a list of such, each an
    ``alternative``; ``test`` for one line; ``filter`` for an exclusion (``text`` is its title), which holds where it
    lets the event pass. An explanation of a correlation has the kinds of :mod:`correlation_explain`.

    ``decisive`` marks the parts that decide: of an ``and`` that holds, all; of one that does not, the first that fails.
    Were the others otherwise, the answer would be the same.
    """

    kind: str
    text: str
    holds: bool
    children: tuple[Node, ...] = ()
    line: Line | None = None
    exclusion: Applied | None = None
    decisive: bool = False
    window: Mapping[str, Any] | None = None

    @property
    def state(self) -> str:
        """For a line one of :data:`STATES`, for a filter ``passes`` or ``excluded``, else ``holds`` or ``fails``."""
        if self.line is not None:
            return self.line.state
        if self.exclusion is not None:
            return "passes" if self.holds else "excluded"
        return "holds" if self.holds else "fails"

    def text_without(self, prefix: str) -> str:
        """Return ``text`` with a filter's own names, without the ``prefix`` that tells them from the rule's."""
        return self.text.replace(prefix, "")

    def walk(self) -> Iterator[Node]:
        """Yield this part and all below it, from left to right."""
        yield self
        for child in self.children:
            yield from child.walk()

    def as_dict(self) -> dict[str, Any]:
        """Return the tree as JSON has it."""
        shape: dict[str, Any] = {"kind": self.kind, "text": self.text, "holds": self.holds, "state": self.state}
        shape["decisive"] = self.decisive
        if self.line is not None:
            own = self.line.as_dict()
            shape |= {key: own[key] for key in ("field", "asked", "wanted", "found", "met", "compared") if key in own}
        if self.exclusion is not None:
            shape["exclusion"] = self.exclusion.as_dict()
        if self.window is not None:
            shape["window"] = dict(self.window)
        return {**shape, "children": [child.as_dict() for child in self.children]}


@dataclass(frozen=True)
class Explanation:
    """Whether the event matches, the condition, what each named selection gave, their lines, and all that as a tree."""

    rule: Rule
    matches: bool
    conditions: tuple[str, ...]
    selections: Mapping[str, bool]
    lines: tuple[Line, ...]
    tree: Node

    @property
    def excluded_by(self) -> tuple[Applied, ...]:
        """The filters that take the event out."""
        return tuple(dict.fromkeys(node.exclusion for node in self.tree.walk() if node.exclusion and not node.holds))

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON has it."""
        return {
            "rule_id": self.rule.id,
            "rule": self.rule.stem,
            "matches": self.matches,
            "condition": list(self.conditions),
            "selections": dict(self.selections),
            "lines": [line.as_dict() for line in self.lines],
            "excluded_by": [one.as_dict() for one in self.excluded_by],
            "tree": self.tree.as_dict(),
        }


class Explainer:
    """A rule made ready to be explained on many events. Raises :class:`RuleError` where it cannot be evaluated."""

    def __init__(self, rule: Rule) -> None:
        if rule.kind == "correlation":
            hint = "correlation_explain explains it on many"
            raise RuleError("a correlation is about several events", path=rule.path, line=rule.line, hint=hint)
        self.rule = rule
        detection = dict(rule.document["detection"])
        condition = detection.pop("condition")
        self.conditions = tuple(map(str, condition if isinstance(condition, list) else [condition]))
        self._trees = [conditions.parse(text) for text in self.conditions]
        self._matches = reference.compile_rule(rule.document)
        # As in the reference, what no condition names cannot do harm.
        used = {name for tree in self._trees for name in conditions.names(tree, list(map(str, detection)))}
        self._parts = {str(name): _Part(str(name), part) for name, part in detection.items() if str(name) in used}

    def matches(self, record: Record) -> bool:
        """Tell whether the rule matches a record."""
        return self._matches(record)

    def explain(self, record: Record) -> Explanation:
        """Explain the rule on one record."""
        parts = {name: part.node(record) for name, part in self._parts.items()}
        made = [_filtered(tree, self.rule.applied, parts) for tree in self._trees]
        whole = made[0] if len(made) == 1 else _joined("or", " or ".join(f"({one})" for one in self.conditions), made)
        lines = tuple(node.line for part in parts.values() for node in part.walk() if node.line is not None)
        held = {name: part.holds for name, part in parts.items()}
        return Explanation(self.rule, self._matches(record), self.conditions, held, lines, decided(whole))


def explain(rule: Rule, record: Record) -> Explanation:
    """Explain ``rule`` on ``record``. Raises RuleError where it cannot be evaluated, or is about several events."""
    return Explainer(rule).explain(record)


# -- the condition ------------------------------------------------------------------------------------------------


def _filtered(tree: conditions.Condition, applied: tuple[Applied, ...], parts: Mapping[str, Node]) -> Node:
    """The tree of a condition, beside it each filter, which has put ``(what was there) and (its own)`` in its place."""
    if not applied:
        return _node(tree, parts)
    found, left = [], tree
    for one in reversed(applied):
        assert isinstance(left, conditions.Both)
        left, own = left.parts
        node = _node(own, parts)
        found.append(Node("filter", one.title, node.holds, (node,), exclusion=one))
    return _joined("filtered", conditions.render(tree), [_node(left, parts), *reversed(found)])


def _node(tree: conditions.Condition, parts: Mapping[str, Node]) -> Node:
    if isinstance(tree, conditions.Name):
        return parts[tree.name]
    text = conditions.render(tree)
    if isinstance(tree, conditions.Of):
        found = [parts[name] for name in selected(tree.pattern, parts)]
        return _joined("of", text, found, every=tree.quantifier == "all")
    if isinstance(tree, conditions.Not):
        inner = _node(tree.part, parts)
        return Node("not", text, not inner.holds, (inner,))
    kind = "and" if isinstance(tree, conditions.Both) else "or"
    return _joined(kind, text, [_node(part, parts) for part in tree.parts])


_EVERY = frozenset({"and", "filtered", "selection", "alternative"})


def _joined(kind: str, text: str, found: Iterable[Node], every: bool | None = None) -> Node:
    children = tuple(found)
    joins = all if (kind in _EVERY if every is None else every) else any
    return Node(kind, text, joins(child.holds for child in children), children)


def decided(node: Node) -> Node:
    """Return the tree with the parts marked that decide it."""
    children = node.children
    if len(children) > 1:
        # A child that answers as the whole does either settles it alone, or stands for all of them.
        same = [child for child in children if child.holds is node.holds]
        alone = len(same) < len(children) or _settles(node)
        chosen = {id(same[0])} if alone else set(map(id, children))
        return replace(
            node,
            decisive=True,
            children=tuple(decided(child) if id(child) in chosen else child for child in children),
        )
    return replace(node, decisive=True, children=tuple(map(decided, children)))


def _settles(node: Node) -> bool:
    """Whether one child is enough, where all of them answer as the whole does."""
    every = node.kind in _EVERY or (node.kind == "of" and node.text.startswith("all "))
    return every is not node.holds


# -- selections ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A line of a selection, compiled."""

    asked: str
    wanted: Any
    matches: reference.Predicate
    single: tuple[tuple[Any, reference.Predicate], ...]


class _Part:
    """A selection, compiled: its lines, or the parts of a list."""

    def __init__(self, name: str, definition: Any, alternative: int = 0) -> None:
        reference.selection(definition)  # raises what is wrong with it
        self.name, self.alternative = name, alternative
        self.parts = (
            [_Part(name, part, number) for number, part in enumerate(definition, start=1)]
            if isinstance(definition, list)
            else []
        )
        lines = definition.items() if isinstance(definition, Mapping) else ()
        self.items = [_item(str(key), wanted) for key, wanted in lines]

    def node(self, record: Record, inside: bool = False) -> Node:
        """The selection on a record."""
        if self.parts:
            return _joined("alternatives", self.name, [part.node(record, inside=True) for part in self.parts])
        tests = [_test(self, item, record) for item in self.items]
        if not inside:
            return _joined("selection", self.name, tests)
        return _joined("alternative", f"{self.name}, alternative {self.alternative}", tests)


def _item(asked: str, wanted: Any) -> _Item:
    plain = "|".join(word for word in asked.split("|") if word not in ("all", "neq"))
    listed = wanted if isinstance(wanted, list) else [wanted]
    single = tuple((value, reference.item(plain, [value])) for value in listed)
    return _Item(asked, wanted, reference.item(asked, wanted), single)


def _test(part: _Part, item: _Item, record: Record) -> Node:
    held = item.matches(record)
    name, *modifiers = item.asked.split("|")
    line = Line(
        part.name,
        part.alternative or 1,
        item.asked,
        item.wanted,
        held,
        tuple(values(record, name)),
        exists(record, name),
        _state(item, held, record),
        tuple(value for value, matches in item.single if matches(record)),
        tuple(values(record, str(item.wanted))) if "fieldref" in modifiers else None,
    )
    return Node("test", item.asked, held, line=line)


def _state(item: _Item, held: bool, record: Record) -> str:
    name, *modifiers = item.asked.split("|")
    if held:
        return "holds"
    if "neq" in modifiers:
        return "equal"
    if item.wanted in (None, [None]) or (modifiers == ["exists"] and not item.wanted):
        return "present"
    if values(record, name):
        return "different"
    if exists(record, name):
        return "object"
    return "null" if stands(record, name) else "absent"
