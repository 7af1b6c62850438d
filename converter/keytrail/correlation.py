"""A Sigma correlation as everybody here reads it: which rules' events, in which groups, in how long a window, and when.

What it means is in docs/correlations.md; ``correlation_yaml`` reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Union

OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "eq": operator.eq,
    "neq": operator.ne,
}

# What exporters write for a value that is not there is no eventID.
NO_IDS = frozenset({"", "-", "none"})

Group = tuple[str, ...]


@dataclass(frozen=True)
class Bound:
    """A count compared with a number: ``operator`` is one of lt, lte, gt, gte, eq, neq."""

    operator: str
    number: int

    def holds(self, count: int) -> bool:
        """Tell whether ``count`` is within the bound."""
        return OPERATORS[self.operator](count, self.number)


@dataclass(frozen=True)
class Seen:
    """An event of this rule occurs."""

    rule: str


@dataclass(frozen=True)
class Every:
    """All of them; in ``temporal_ordered``, one after the other."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Some:
    """At least one of them."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True)
class Never:
    """It does not hold."""

    part: Formula


Formula = Union[Seen, Every, Some, Never]


@dataclass(frozen=True)
class Searched:
    """What was searched: event times from ``start`` to ``end``, both included, in milliseconds since 1970.

    ``known`` are the groups that are expected to have events from ``start`` on, as a site profile knows them.
    """

    start: int
    end: int
    known: frozenset[Group] = frozenset()


@dataclass(frozen=True)
class Episode:
    """One hit of a correlation: the group, from when to when, and its events.

    ``event_ids`` are the ids that are known, by time; ``events`` counts those without an id as well.
    """

    group: Group
    start: int
    end: int
    event_ids: tuple[str, ...]
    events: int


@dataclass(frozen=True)
class Correlation:
    """A correlation rule, free of Sigma's notation.

    ``rules`` are the references as written, ``timespan`` is in milliseconds. Either ``bounds`` must all hold for the
    count of events, values or rules in a window, or ``formula`` for the rules that have an event in it. ``fields`` are
    what ``value_count`` counts. ``aliases`` leads from a name in ``group_by`` to the field of each rule.
    """

    type: str
    rules: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan: int
    bounds: tuple[Bound, ...] = ()
    formula: Formula | None = None
    fields: tuple[str, ...] = ()
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    generate: bool = False

    def group_fields(self, rule: str) -> tuple[str, ...]:
        """Return the fields of an event of ``rule`` whose values are its group."""
        return tuple(self.aliases.get(name, {}).get(rule, name) for name in self.group_by)

    def value_fields(self, rule: str) -> tuple[str, ...]:
        """Return the fields of an event of ``rule`` whose values are counted."""
        return tuple(self.aliases.get(name, {}).get(rule, name) for name in self.fields)

    def counts(self, count: int) -> bool:
        """Tell whether a window with this count of events, values or rules matches."""
        return all(bound.holds(count) for bound in self.bounds)

    def present(self, rules: Set[str]) -> bool:
        """Tell whether a window with events of these rules matches, whatever their order."""
        return self.counts(len(rules)) if self.formula is None else holds(self.formula, rules)

    @cached_property
    def rising(self) -> bool:
        """Whether a window that matches still does with more events in it: what is sought occurs, not fails to."""
        if self.formula is not None:
            return not _negates(self.formula)
        answers = [self.counts(count) for count in possible_counts(self.type, self.rules, self.bounds)]
        return answers == sorted(answers)

    def as_dict(self) -> dict[str, object]:
        """Return the correlation as a plan has it."""
        condition: object = {bound.operator: bound.number for bound in self.bounds}
        if self.formula is not None:
            condition = written(self.formula)
        shape: dict[str, object] = {"type": self.type, "rules": list(self.rules), "group-by": list(self.group_by)}
        shape |= {"timespan": f"{self.timespan // 1000}s", "condition": condition}
        extra = {"field": list(self.fields), "aliases": {name: dict(rules) for name, rules in self.aliases.items()}}
        return {**shape, **{name: value for name, value in extra.items() if value}}


def holds(formula: Formula, rules: Set[str]) -> bool:
    """Tell whether ``formula`` holds where events of ``rules`` occur, whatever their order."""
    if isinstance(formula, Seen):
        return formula.rule in rules
    if isinstance(formula, Never):
        return not holds(formula.part, rules)
    return (all if isinstance(formula, Every) else any)(holds(part, rules) for part in formula.parts)


def named(formula: Formula) -> Iterator[str]:
    """Yield the rules that ``formula`` names, from left to right."""
    if isinstance(formula, Seen):
        yield formula.rule
    else:
        for part in (formula.part,) if isinstance(formula, Never) else formula.parts:
            yield from named(part)


def written(formula: Formula) -> str:
    """Return ``formula`` in Sigma's notation."""
    if isinstance(formula, Seen):
        return formula.rule
    if isinstance(formula, Never):
        return f"not {_bracketed(formula.part)}"
    return (" and " if isinstance(formula, Every) else " or ").join(map(_bracketed, formula.parts))


def _bracketed(formula: Formula) -> str:
    return f"({written(formula)})" if isinstance(formula, (Every, Some)) else written(formula)


def _negates(formula: Formula) -> bool:
    return isinstance(formula, Never) or (not isinstance(formula, Seen) and any(map(_negates, formula.parts)))


def possible_counts(kind: str, rules: Sequence[str], bounds: Sequence[Bound]) -> list[int]:
    """The counts that there can be, as far as the bounds tell them apart, in ascending order."""
    if kind.startswith("temporal"):
        return list(range(len(rules) + 1))
    return sorted({0} | {max(bound.number + step, 0) for bound in bounds for step in (-1, 0, 1)})
