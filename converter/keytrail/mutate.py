"""Mutation testing: a rule with one thing changed must fail one of its own cases, or nothing holds that thing in place.

Each mutant is judged by the reference over the rule's own cases and all fixture events. One that answers all of them as
the rule does survives, and says which case would tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keytrail import reference
from keytrail.cases import Equivalent
from keytrail.errors import RuleError
from keytrail.mutants import Mutant, mutants
from keytrail.pack import Rule

Record = Mapping[str, Any]
Finish = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Survivor:
    """A mutant that no case tells from the rule."""

    rule: Rule
    mutant: Mutant

    @property
    def text(self) -> str:
        """What is said of it."""
        return f"nothing tells the rule from the mutant '{self.mutant.name}'; {self.mutant.kill} would"

    def as_dict(self) -> dict[str, Any]:
        """Return the survivor as JSON has it."""
        line = self.rule.line_of(self.mutant.near)
        return {
            "rule": self.rule.stem,
            "mutant": self.mutant.name,
            "kill": self.mutant.kill,
            "path": str(self.rule.path),
            "line": line,
        }


@dataclass(frozen=True)
class Stale:
    """A mutant that is declared equivalent and is not, or is none."""

    rule: str
    mutant: str
    why: str
    path: str
    line: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"rule": self.rule, "mutant": self.mutant, "why": self.why, "path": self.path, "line": self.line}


@dataclass
class Mutation:
    """What mutation testing found. ``counts`` has made, killed and equivalent for each rule's stem."""

    counts: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    survivors: list[Survivor] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    equivalent: list[tuple[str, Equivalent]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing survived, nothing declared is stale, and there was something to change."""
        return not self.survivors and not self.stale and sum(made for made, _, _ in self.counts.values()) > 0

    @property
    def score(self) -> float:
        """The share of mutants that were killed, of those that are not declared equivalent."""
        made, killed, same = (
            (sum(column) for column in zip(*self.counts.values(), strict=True)) if self.counts else (0, 0, 0)
        )
        return killed / (made - same) if made > same else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        names = ("mutants", "killed", "equivalent")
        return {
            "ok": self.ok,
            "score": round(self.score, 4),
            "rules": [{"rule": stem, **dict(zip(names, counts, strict=True))} for stem, counts in self.counts.items()],
            "survivors": [survivor.as_dict() for survivor in self.survivors],
            "stale": [stale.as_dict() for stale in self.stale],
            "equivalent": [{"rule": stem, "mutant": one.mutant, "why": one.why} for stem, one in self.equivalent],
        }


@dataclass(frozen=True)
class View:
    """The records of some cases, and what makes of a rule's document what they are about: itself, or it narrowed."""

    records: Sequence[Record]
    finish: Finish = lambda document: document


@dataclass(frozen=True)
class Subject:
    """A rule that is to be tested, its cases, and what is declared of its mutants."""

    rule: Rule
    views: Sequence[View]
    equivalent: Sequence[Equivalent] = ()


def mutate(subjects: Iterable[Subject], events: Mapping[str, Record]) -> Mutation:
    """Test the cases of each subject on the mutants of its rule; correlations have none here."""
    result = Mutation()
    for subject in subjects:
        if "detection" in subject.rule.document:
            _test(subject, list(events.values()), result)
    return result


def _test(subject: Subject, events: Sequence[Record], result: Mutation) -> None:
    judges = [Judge(view, subject.rule.document, events) for view in subject.views]
    made = [mutant for mutant in mutants(subject.rule.document) if _is_rule(mutant.document)]

    def kills(document: Mapping[str, Any]) -> bool:
        return any(judge.kills(document) for judge in judges)

    judged(subject.rule, made, kills, subject.equivalent, result)


def judged(
    rule: Rule,
    made: Sequence[Mutant],
    kills: Callable[[Mapping[str, Any]], bool],
    equivalent: Sequence[Equivalent],
    result: Mutation,
) -> None:
    """Add to ``result`` which mutants of a rule survive, and which declarations are stale."""
    declared = {one.mutant: one for one in equivalent}
    killed = {mutant.name for mutant in made if kills(mutant.document)}
    left = [mutant for mutant in made if mutant.name not in killed]
    for mutant in left:
        if mutant.name in declared:
            result.equivalent.append((rule.stem, declared[mutant.name]))
        else:
            result.survivors.append(Survivor(rule, mutant))
    names = {mutant.name for mutant in made}
    for name, one in declared.items():
        if name in killed or name not in names:
            why = "a case tells it from the rule" if name in killed else "the rule has no such mutant"
            result.stale.append(Stale(rule.stem, name, why, str(one.path), one.line))
    same = sum(mutant.name in declared for mutant in left)
    result.counts[rule.stem] = (len(made), len(killed), same)


class Judge:
    """What a rule says of some records, to compare with what its mutants say."""

    def __init__(self, view: View, document: Mapping[str, Any], events: Sequence[Record]) -> None:
        self._finish = view.finish
        meaning = reference.compile_rule(view.finish(document))
        self._answers = [(record, meaning(record)) for record in (*view.records, *events)]

    def kills(self, document: Mapping[str, Any]) -> bool:
        """Tell whether a changed rule says otherwise of one of the records."""
        meaning = reference.compile_rule(self._finish(document))
        return any(meaning(record) is not answer for record, answer in self._answers)


def _is_rule(document: Mapping[str, Any]) -> bool:
    """A change that leaves no rule is no mutant."""
    try:
        reference.compile_rule(document)({})
    except (RuleError, ValueError):
        return False
    return True


def report_lines(result: Mutation) -> Iterator[str]:
    """Say of each survivor which case would kill it, and of each stale declaration why it is one."""
    for survivor in result.survivors:
        place = f"{survivor.rule.path}:{survivor.rule.line_of(survivor.mutant.near)}"
        yield f"{place}: {survivor.rule.stem}: {survivor.text}"
    for stale in result.stale:
        yield f"{stale.path}:{stale.line}: {stale.rule}: '{stale.mutant}' is declared equivalent, but {stale.why}"
