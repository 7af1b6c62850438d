"""Mutation testing of correlations: a threshold, a timespan, a group, a rule or the order changed, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keytrail import conditions, correlation_reference, correlation_yaml
from keytrail.cases import Equivalent
from keytrail.errors import RuleError
from keytrail.mutants import Mutant, changed_conditions, numbered
from keytrail.mutate import Mutation, judged
from keytrail.pack import Rule
from keytrail.sequence_cases import SequenceCase

Given = Mapping[str, Any]
Change = tuple[str, dict[str, Any], str, str]
_OTHER = {"temporal": "temporal_ordered", "temporal_ordered": "temporal", "value_count": "event_count"}
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "gte": ("gt", "lt"),
    "gt": ("gte", "lte"),
    "lte": ("lt", "gt"),
    "lt": ("lte", "gte"),
    "eq": ("neq", "gte"),
    "neq": ("eq",),
}


def mutants(document: Given) -> Iterator[Mutant]:
    """Return the mutants of a correlation, those that are correlations still."""
    given = document["correlation"]
    made = (
        Mutant(name, {**document, "correlation": changed}, kill, near)
        for name, changed, kill, near in (*_of_condition(given), *_of_rest(given))
    )
    return numbered(mutant for mutant in made if _is_correlation(mutant.document))


def _is_correlation(document: Given) -> bool:
    try:
        correlation_yaml.read(document)
    except RuleError:
        return False
    return True


def _of_condition(given: Given) -> Iterator[Change]:
    condition = given.get("condition")
    if isinstance(condition, str):
        rules = list(map(str, given.get("rules") or ()))
        for name, tree, kill in changed_conditions(conditions.parse(condition), rules):
            left = conditions.names(tree, rules)
            changed = {**given, "condition": conditions.render(tree), "rules": [rule for rule in rules if rule in left]}
            yield f"condition: {name}", _fitting(changed), _about_events(kill), "condition"
        return
    bounds = condition if isinstance(condition, Mapping) else {}
    for key, value in bounds.items():
        if key == "field":
            continue
        rest = {name: kept for name, kept in bounds.items() if name != key}
        for step in (-1, 1):
            changed = {**given, "condition": {**rest, key: value + step}}
            kill = f"a case with {value} of them, or one fewer or more"
            yield f"condition: {key}: {value} becomes {value + step}", changed, kill, str(key)
        for other in _OPERATORS.get(str(key), ()):
            changed = {**given, "condition": {**rest, other: value}}
            yield f"condition: {other} for {key}", changed, f"a case with just {value} of them, and one with more", key


def _about_events(kill: str) -> str:
    return f"{kill}, in one window"


def _of_rest(given: Given) -> Iterator[Change]:
    rules = list(map(str, given.get("rules") or ()))
    for rule in rules if len(rules) > 1 and not isinstance(given.get("condition"), str) else ():
        changed = _fitting({**given, "rules": [one for one in rules if one != rule]})
        yield f"rules: drop {rule}", changed, f"a case that {rule} decides", "rules"
    yield from _types(given)
    groups = given.get("group-by")
    listed = groups if isinstance(groups, list) else [groups] if groups else []
    for group in listed:
        changed = {**given, "group-by": [one for one in listed if one != group]}
        if not changed["group-by"]:
            del changed["group-by"]
        yield (
            f"group-by: drop {group}",
            changed,
            f"a near miss whose events have different values of {group}",
            "group-by",
        )
    yield from _timespans(given)


def _types(given: Given) -> Iterator[Change]:
    """Ordered or not; values or events."""
    other, condition = _OTHER.get(str(given.get("type"))), given.get("condition")
    if other == "event_count" and isinstance(condition, Mapping):
        bounds = {key: value for key, value in condition.items() if key != "field"}
        kill = "a near miss with enough events and too few values"
        yield f"type: {other} instead", {**given, "type": other, "condition": bounds}, kill, "type"
    elif other is not None:
        yield f"type: {other} instead", {**given, "type": other}, "a case in which the order of events decides", "type"


def _timespans(given: Given) -> Iterator[Change]:
    """Half of the timespan, and twice as much."""
    found = re.fullmatch(r"(\d+)([a-zA-Z])", str(given.get("timespan")))
    if found is None:
        return
    number, unit = int(found[1]), found[2]
    smaller = {"d": ("h", 24), "h": ("m", 60), "m": ("s", 60), "w": ("d", 7)}.get(unit)
    half = f"{number // 2}{unit}" if number % 2 == 0 else f"{number * smaller[1] // 2}{smaller[0]}" if smaller else None
    for timespan, kill in (
        (half, f"a case whose events are between {half} and {number}{unit} apart"),
        (f"{2 * number}{unit}", f"a case whose events are between {number}{unit} and {2 * number}{unit} apart"),
    ):
        if timespan is not None:
            yield f"timespan: {timespan} instead of {number}{unit}", {**given, "timespan": timespan}, kill, "timespan"


def _fitting(given: dict[str, Any]) -> dict[str, Any]:
    """The correlation with aliases for those of its rules that are left."""
    rules = given["rules"]
    aliases = given.get("aliases")
    if isinstance(aliases, Mapping):
        kept = {
            name: {rule: field for rule, field in fields.items() if rule in rules} for name, fields in aliases.items()
        }
        given["aliases"] = kept
    return given


def mutate_correlations(
    rules: Iterable[Rule],
    cases: Sequence[SequenceCase],
    equivalent: Mapping[str, Sequence[Equivalent]],
    found: Mutation,
) -> None:
    """Test the cases of each correlation on its mutants, and add what survives to ``found``."""
    for rule in rules:
        own = [case for case in cases if case.rule == rule.stem]
        if rule.kind == "correlation" and own:
            bases = {name: base.document for name, base in rule.references.items()}
            before = [_answer(rule.document, bases, case) for case in own]

            def kills(
                document: Given,
                own: Sequence[SequenceCase] = own,
                bases: Mapping[str, Given] = bases,
                before: Sequence[object] = before,
            ) -> bool:
                return any(_answer(document, bases, case) != said for case, said in zip(own, before, strict=True))

            judged(rule, list(mutants(rule.document)), kills, equivalent.get(rule.stem, ()), found)


def _answer(document: Given, bases: Mapping[str, Given], case: SequenceCase) -> object:
    """What a case can tell: whether there is a hit, and how many and in which groups where it says so."""
    correlation = correlation_yaml.read(document)
    episodes = correlation_reference.episodes(correlation, bases, case.records, case.searched)
    groups = frozenset(episode.group for episode in episodes)
    return bool(episodes), case.hits is None or len(episodes), case.groups is None or groups
