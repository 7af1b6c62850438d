"""Reading a correlation from the YAML of a Sigma rule.

It is read here, and not taken from pySigma, which passes over keys that it does not know: with ``group_by`` written for
``group-by`` everything would be correlated with everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Union

from keytrail.correlation import (
    OPERATORS,
    Bound,
    Correlation,
    Every,
    Formula,
    Never,
    Seen,
    Some,
    named,
    possible_counts,
)
from keytrail.errors import RuleError

TYPES = ("event_count", "value_count", "temporal", "temporal_ordered")
KEYS = ("type", "rules", "group-by", "timespan", "condition", "aliases", "generate")
MOST_NESTED = 50
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2629746, "y": 31556952}


def read(document: Mapping[str, object]) -> Correlation:
    """Return the correlation of a rule's YAML.

    Raises :class:`RuleError` for whatever is missing, unknown or cannot have been meant; its ``field`` is the key.
    """
    given = document.get("correlation")
    if not isinstance(given, Mapping):
        raise RuleError("a correlation is a mapping", field="correlation")
    for key in given:
        if key not in KEYS:
            close = get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(KEYS)}"
            raise RuleError(f"a correlation has no {key!r}", field=str(key), hint=hint)
    kind = given.get("type")
    if kind not in TYPES:
        raise RuleError(f"there is no correlation of type {kind!r}", field="type", hint=f"one of: {', '.join(TYPES)}")
    rules = _texts(given, "rules")
    if not rules and not isinstance(given.get("condition"), str):
        raise RuleError("the correlation names no rules", field="rules")
    bounds, formula, fields = _condition(str(kind), rules, given.get("condition"))
    if not rules and formula is not None:
        rules = tuple(dict.fromkeys(named(formula)))
    found = Correlation(
        type=str(kind),
        rules=rules,
        group_by=_texts(given, "group-by"),
        timespan=_timespan(given.get("timespan")),
        bounds=bounds,
        formula=formula,
        fields=fields,
        aliases=_aliases(given.get("aliases"), rules),
        generate=_generate(given.get("generate", document.get("generate", False))),
    )
    _check(found)
    return found


def _texts(given: Mapping[str, object], key: str) -> tuple[str, ...]:
    """A text or a list of them, none of them twice; nothing for a key that is not there."""
    value = given.get(key)
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str) and one for one in listed):
        raise RuleError(f"{key} is a name or a list of names", field=key)
    if len(set(listed)) < len(listed):
        raise RuleError(f"{key} says something twice", field=key)
    return tuple(listed)


def _timespan(value: object) -> int:
    found = re.fullmatch(r"0*([1-9]\d{0,8})([smhdwMy])", value) if isinstance(value, str) else None
    if found is None:
        hint = "write a number and a unit: 90s, 10m, 1h, 7d"
        raise RuleError(f"{value!r} is no timespan", field="timespan", hint=hint)
    return int(found[1]) * _SECONDS[found[2]] * 1000


def _generate(value: object) -> bool:
    if not isinstance(value, bool):
        raise RuleError("generate is true or false", field="generate")
    return value


def _aliases(value: object, rules: Sequence[str]) -> dict[str, dict[str, str]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RuleError("aliases lead from a name to the field of each rule", field="aliases")
    found: dict[str, dict[str, str]] = {}
    for alias, fields in value.items():
        if not isinstance(fields, Mapping) or not all(isinstance(one, str) and one for one in fields.values()):
            raise RuleError(f"the alias {alias!r} leads from rules to fields", field=str(alias))
        stray = [name for name in [*fields, *rules] if (name in fields) is not (name in rules)]
        if stray:
            what = "is not among the correlation's rules" if stray[0] in fields else "has no field in it"
            raise RuleError(f"the alias {alias!r}: the rule {stray[0]!r} {what}", field=str(alias))
        found[str(alias)] = {str(rule): name for rule, name in fields.items()}
    return found


_Condition = tuple[tuple[Bound, ...], Union[Formula, None], tuple[str, ...]]


def _condition(kind: str, rules: tuple[str, ...], given: object) -> _Condition:
    temporal = kind.startswith("temporal")
    if isinstance(given, str) and temporal:
        return (), Parser(given, rules).parse(), ()
    if given is None and temporal:
        return (), Every(tuple(map(Seen, rules))), ()
    if not isinstance(given, Mapping) or not given:
        what = "counts, or rules with and, or, not" if temporal else "counts: gte: 10"
        raise RuleError(f"the condition of {kind} is {what}", field="condition")
    bounds = tuple(Bound(str(key), _number(key, value)) for key, value in given.items() if key != "field")
    fields = _texts(given, "field")
    if (kind == "value_count") is not bool(fields):
        what = "needs the field whose values it counts" if kind == "value_count" else "counts no field's values"
        raise RuleError(f"the condition of {kind} {what}", field="condition")
    if not bounds:
        raise RuleError("the condition compares with nothing", field="condition", hint="add gte: and a number")
    _check_bounds(kind, rules, bounds)
    if kind == "temporal_ordered":
        if any(all(bound.holds(count) for bound in bounds) for count in range(len(rules))):
            hint = "leave the condition out, or write the order: (a or b) and c"
            raise RuleError(
                "which of the rules must come in order is not said by a count", field="condition", hint=hint
            )
        return (), Every(tuple(map(Seen, rules))), ()
    return bounds, None, fields


def _number(key: object, value: object) -> int:
    if key not in OPERATORS:
        hint = f"there are {', '.join(OPERATORS)} and field"
        raise RuleError(f"a condition has no {key!r}", field=str(key), hint=hint)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RuleError(f"{key} takes a whole number, not {value!r}", field=str(key))
    return value


def _check_bounds(kind: str, rules: Sequence[str], bounds: Sequence[Bound]) -> None:
    answers = {all(bound.holds(count) for bound in bounds) for count in possible_counts(kind, rules, bounds)}
    if len(answers) == 1:
        what = "any count fulfils" if answers == {True} else "no count can fulfil"
        raise RuleError(f"{what} the condition", field="condition")


def _check(found: Correlation) -> None:
    if found.formula is None:
        return
    if found.type == "temporal_ordered" and not found.rising:
        raise RuleError("what does not occur has no place in an order", field="condition", hint="use type temporal")
    unnamed = sorted(set(found.rules) - set(named(found.formula)))
    if unnamed:
        raise RuleError(f"the condition does not name the rule {unnamed[0]!r}", field="condition")


class Parser:
    """A recursive-descent parser of extended conditions: not binds tightest, then and, then or.

    Parameters: ``condition`` as written; ``rules`` that it may name, any where there are none.
    """

    def __init__(self, condition: str, rules: Sequence[str]) -> None:
        self.tokens = re.findall(r"[()]|[^\s()]+", condition)
        self.rules = rules
        self.place = 0
        self.depth = 0

    def parse(self) -> Formula:
        """Return the formula. Raises :class:`RuleError` for what is none."""
        found = self._either()
        if self.place < len(self.tokens):
            raise self._error(f"the condition goes on with {self.tokens[self.place]!r} where it should end")
        return found

    def _error(self, message: str) -> RuleError:
        return RuleError(message, field="condition")

    def _take(self, word: str) -> bool:
        if self.place < len(self.tokens) and self.tokens[self.place].lower() == word:
            self.place += 1
            return True
        return False

    def _either(self) -> Formula:
        found = [self._both()]
        while self._take("or"):
            found.append(self._both())
        return found[0] if len(found) == 1 else Some(tuple(found))

    def _both(self) -> Formula:
        found = [self._single()]
        while self._take("and"):
            found.append(self._single())
        return found[0] if len(found) == 1 else Every(tuple(found))

    def _single(self) -> Formula:
        self.depth += 1
        if self.depth > MOST_NESTED:
            raise self._error(f"the condition is nested more than {MOST_NESTED} deep")
        found = self._inner()
        self.depth -= 1
        return found

    def _inner(self) -> Formula:
        if self._take("not"):
            return Never(self._single())
        if self._take("("):
            inner = self._either()
            if not self._take(")"):
                raise self._error("a parenthesis in the condition is not closed")
            return inner
        if self.place >= len(self.tokens):
            raise self._error("the condition ends too early")
        name = self.tokens[self.place]
        if name.lower() in ("and", "or", ")") or (self.rules and name not in self.rules):
            raise self._error(f"the condition names {name!r}, which is not among the correlation's rules")
        self.place += 1
        return Seen(name)
