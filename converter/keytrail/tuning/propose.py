"""Exclusions proposed for a rule's hits: always somebody in particular, with what is the same in his routine.

A proposal is a selection of exact values: who acts, which calls, whose log, and where there is one, what is acted on.
What a caller writes as he likes is in none of them. The number of proposals is bounded, whatever the hits are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from keytrail import reference
from keytrail.filters import Filter, read_filter
from keytrail.pack import Rule
from keytrail.paths import text, values
from keytrail.tuning.fields import ADDRESS, BY_FIELD, CALL, RECIPIENT, SOURCE, WHATS, Actor, escaped
from keytrail.tuning.survey import Kind, Survey

MOST_ACTORS = 20
MOST_TOGETHER = 4  # of what is acted on, and from where
MOST_VALUES = 20  # of one field in one proposal
MOST_PARTS = 20  # of one principal's routine
_SPACE = UUID("8f2f0b5e-1b42-4a2c-9a6e-51d3c0b7a6d4")


@dataclass(frozen=True)
class Decision:
    """Who answers for an exclusion, why it is one, and its last day."""

    owner: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Proposal:
    """A selection of events to take out: ``lines`` leads from fields to the values that they must have.

    ``left_out`` are values that the hits have too, and that are not in it because they were not seen again and again.
    """

    rule: Rule
    actor: Actor
    lines: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def selection(self) -> dict[str, Any]:
        """The lines as Sigma has them: exact values, in which no character is a wildcard."""
        found = {_asked(name): [escaped(value) for value in given] for name, given in self.lines.items()}
        return {name: given[0] if len(given) == 1 else given for name, given in found.items()}

    @cached_property
    def removes(self) -> reference.Predicate:
        """Whether a record is taken out."""
        return reference.selection(self.selection)

    @property
    def strength(self) -> float:
        """How much of it keeps an attacker out, from 0 to 1: what is left when he controls each field to its degree."""
        open_to_all = 1.0
        for name in self.lines:
            open_to_all *= 1 - (BY_FIELD[name].strength if name in BY_FIELD else 0)
        return 1 - open_to_all

    @property
    def remains(self) -> str:
        """What an attacker could still do without a hit: no exclusion leaves nothing."""
        labels = dict.fromkeys(BY_FIELD[name].label for name in self.lines if name in WHATS)
        who = f"whoever has the credentials of {self.actor.name}"
        if not self.actor.account:
            who = f"whoever makes {self.actor.name} act"
        where = " and calls from this address" if ADDRESS in self.lines else ""
        what = f" with this {', this '.join(labels)}" if labels else ", whatever they are about"
        return f"{who}{where}, by these calls{what}"

    def document(self, decision: Decision, description: str) -> dict[str, Any]:
        """Return the Sigma filter."""
        name = self.actor.name.rpartition("/")[2] or self.actor.name
        return {
            "title": f"{self.rule.title}: routine of {name}"[:250],
            "id": str(uuid5(_SPACE, f"{self.rule.id} {sorted(self.lines.items())}")),
            "description": description,
            "logsource": {"product": "aws", "service": "cloudtrail"},
            "filter": {"rules": [self.rule.id], "routine": self.selection, "condition": "not routine"},
            "keytrail": {"owner": decision.owner, "reason": decision.reason, "expires": decision.expires},
        }

    def filter(self, decision: Decision, description: str = "") -> Filter:
        """Return the filter as if read from a file. Raises :class:`FilterError` for what a filter's lint refuses."""
        return read_filter(Rule(Path("proposal.yml"), self.document(decision, description), ""))


def _asked(name: str) -> str:
    control = BY_FIELD.get(name)
    return f"{name}|cased" if control is not None and control.cased else name


def proposals(survey: Survey) -> Iterator[Proposal]:
    """Yield the proposals for the principals with most hits, the widest of each first."""
    by_actor: dict[str, list[Kind]] = {}
    for kind in survey.kinds.values():
        by_actor.setdefault(kind.actor.name, []).append(kind)
    most = sorted(by_actor.values(), key=lambda kinds: (-sum(kind.hits for kind in kinds), kinds[0].actor.name))
    for kinds in most[:MOST_ACTORS]:
        if kinds[0].actor.lines:
            yield from _of_actor(survey, kinds)


def _of_actor(survey: Survey, kinds: Sequence[Kind]) -> Iterator[Proposal]:
    """Proposals for all that somebody does again and again, and where that is more than one thing, for each of them."""
    yield from _of_kinds(survey, kinds)
    parts: dict[object, list[Kind]] = {}
    for kind in kinds:
        parts.setdefault(tuple(str(values(kind.record, name)) for name in _PART), []).append(kind)
    if len(parts) > 1 and survey.burst(kinds) is None:
        lasting = [part for part in parts.values() if survey.burst(part) is None]
        lasting.sort(key=lambda part: -sum(kind.hits for kind in part))
        for part in lasting[:MOST_PARTS]:
            yield from _of_kinds(survey, part, _PART)


# A call on one thing in one account. Of one who makes two calls on two keys, an exclusion of all of them together would
# take out what he never did: the one call on the other's key.
_BASE = (SOURCE, CALL, RECIPIENT)
_PART = (*_BASE, *WHATS)


def _of_kinds(survey: Survey, kinds: Sequence[Kind], always: Sequence[str] = _BASE) -> Iterator[Proposal]:
    """Who and what is in ``always`` are in each; what else there is, and from where, are added in every combination."""
    actor, left_out = kinds[0].actor, {}
    base: dict[str, tuple[str, ...]] = {name: (value,) for name, value in actor.lines.items()}
    extra: dict[str, tuple[str, ...]] = {}
    # Where all of it is a burst, the proposal is made to be refused: with the reason, which is worth more than silence.
    again = survey.burst(kinds) is None
    for name in (*_PART, ADDRESS):
        found, left = _routine(survey, kinds, name, again)
        if left:
            left_out[name] = left
        if found and len(found) <= MOST_VALUES:
            (base if name in always else extra)[name] = found
    if SOURCE not in base or CALL not in base:
        return
    for names in chain.from_iterable(combinations(extra, size) for size in range(min(len(extra), MOST_TOGETHER) + 1)):
        lines = {**base, **{name: extra[name] for name in names}}
        yield Proposal(survey.rule, actor, lines, {name: left_out[name] for name in lines if name in left_out})


def _routine(survey: Survey, kinds: Sequence[Kind], name: str, again: bool) -> tuple[tuple[str, ...], int]:
    """The values of a field that come ``again`` and again, in the form that AWS gives them, and how many others come.

    One that comes in a burst may have been planted there, to be let through ever after.
    """
    by_value: dict[str, list[Kind]] = {}
    for kind in kinds:
        found = {text(value) for value in values(kind.record, name)}
        if len(found) == 1:
            by_value.setdefault(found.pop(), []).append(kind)
        else:
            for value in found:
                by_value.setdefault(value, [])
    control = BY_FIELD[name]
    taken = [
        value
        for value, having in by_value.items()
        if control.takes(value) and having and (not again or survey.burst(having) is None)
    ]
    return tuple(sorted(taken)), len(by_value) - len(taken)
