"""Sigma filters: read, checked for what turns them into something else, and combined with the rules they are for.

A rule and its filters become one rule: the rule's selections and the filters', renamed, and the condition
``(rule's) and (filter's)``. That is what pySigma makes of them, and as it is a plain rule, the converter, the
reference, the explanation and the hunt all see the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

from sigma.exceptions import SigmaError

from keytrail import conditions, reference
from keytrail.errors import FilterError, KeytrailError, RuleError
from keytrail.lint import check_detections, selected
from keytrail.pack import Rule, is_template, read_documents, rewired

RESERVED = frozenset({"rules", "condition"})
EVERY = "any"
EXCLUSION = ("owner", "reason", "expires")
MOST_NAMES = 12


@dataclass(frozen=True)
class Filter:
    """One Sigma filter; ``rule`` is its document with the file and line.

    ``targets`` are the ids or names of its rules, None for any rule of its logsource. ``expires`` is its last day.
    ``place`` is the file and line that it was made from, where that is not its own.
    """

    rule: Rule
    targets: tuple[str, ...] | None
    selections: Mapping[str, Any]
    condition: str
    owner: str
    reason: str
    expires: date
    place: tuple[Path, int] | None = None

    @property
    def template(self) -> bool:
        """Whether its values are placeholders, which a site profile fills."""
        return is_template(self.rule)

    @property
    def stem(self) -> str:
        """Its name in commands."""
        return self.rule.stem

    def expired(self, today: date) -> bool:
        """Tell whether its last day has gone by."""
        return today > self.expires

    def names(self, rule: Rule) -> bool:
        """Tell whether the filter names ``rule``, or names none and so means any."""
        if self.targets is None:
            return True
        known = {_reference(rule.document.get(key)) for key in ("id", "name")} - {""}
        return any(_reference(target) in known for target in self.targets)

    def covers(self, rule: Rule) -> bool:
        """Tell whether the rule's logsource is the filter's, or a part of it."""
        wanted, found = (_logsource(each) for each in (self.rule, rule))
        return all(wanted.get(key) in (None, found.get(key)) for key in ("category", "product", "service"))

    def applies_to(self, rule: Rule) -> bool:
        """Tell whether the filter narrows ``rule``. Correlations are narrowed through the rules that they name."""
        return "correlation" not in rule.document and self.covers(rule) and self.names(rule)

    @cached_property
    def excludes(self) -> reference.Predicate:
        """Whether a record is taken out."""
        passes = reference.compile_rule({"detection": {**self.selections, "condition": self.condition}})
        return lambda record: not passes(record)


@dataclass
class Filters:
    """The filters that were found, and the errors of those that could not be read."""

    filters: list[Filter] = field(default_factory=list)
    errors: list[KeytrailError] = field(default_factory=list)


def today() -> date:
    """Return the day it is, in UTC."""
    return datetime.now(timezone.utc).date()


def load_filters(paths: Iterable[Path]) -> Filters:
    """Read the filters in files and folders. What is no filter is an error in a file, and passed over in a folder.

    Raises :class:`FilterError` where there is not one filter to be found, :class:`RuleError` for a path that is none.
    """
    listed = list(paths)
    found = Filters()
    for path in listed:
        documents, errors = read_documents([path])
        found.errors += errors
        for document in documents:
            if "filter" in document.document:
                _add(found, document)
            elif not path.is_dir():
                found.errors.append(FilterError("no filter", path=document.path, line=document.line, hint=_SHAPE))
    if not found.filters and not found.errors:
        raise FilterError(f"no Sigma filter in {', '.join(map(str, listed))}", hint=_SHAPE)
    return found


_SHAPE = "a filter has title, logsource, filter (with rules, selections and a condition) and keytrail"


def _add(found: Filters, document: Rule) -> None:
    try:
        found.filters.append(read_filter(document))
    except KeytrailError as error:
        found.errors.append(error)


def read_filter(document: Rule) -> Filter:
    """Return a filter from its document, checked by itself.

    Raises :class:`FilterError` for what pySigma would refuse or misread, for a condition that inverts the rule, and for
    an exclusion without owner, reason or expiry.
    """
    given = document.document.get("filter")
    if not isinstance(given, Mapping) or not isinstance(given.get("condition"), str):
        raise _error(document, "filter", "a filter needs filter: with rules, selections and one condition", _SHAPE)
    if "rules" not in given:
        raise _error(
            document, "filter", "the filter does not say for which rules it is", "rules: a list of ids, or any"
        )
    from sigma.filters import SigmaFilter  # half a second, where there are no filters

    selections = {str(name): value for name, value in given.items() if name not in RESERVED}
    try:
        SigmaFilter.from_dict({key: value for key, value in document.document.items() if key != "keytrail"})
        check_detections(list(selections), [given["condition"]])
        _check_names(selections)
        _check_condition(given["condition"], selections)
        owner, reason, expires = _exclusion(document.document.get("keytrail"))
    except KeytrailError as error:
        raise _error(document, "condition", error.message, error.hint) from error
    except SigmaError as error:
        raise _error(document, "filter", str(error.args[0] if error.args else error)) from error
    except (AttributeError, TypeError, KeyError, RecursionError) as error:
        raise _error(document, "filter", f"not a Sigma filter ({error})") from error
    made = Filter(document, _targets(given["rules"]), selections, given["condition"], owner, reason, expires)
    _check_unknown(made)
    return made


def _error(document: Rule, key: str, message: str, hint: str | None = None) -> FilterError:
    return FilterError(message, path=document.path, line=document.line_of(key), hint=hint)


def _targets(given: Any) -> tuple[str, ...] | None:
    if isinstance(given, str):
        return None if given.lower() == EVERY else (given,)
    return tuple(map(str, given)) or None


def _reference(value: object) -> str:
    """An id or a name as pySigma compares it: ids as UUIDs, however they are written."""
    text = str(value or "")
    try:
        return str(UUID(text))
    except ValueError:
        return text


def _logsource(rule: Rule) -> Mapping[str, Any]:
    found = rule.document.get("logsource")
    return found if isinstance(found, Mapping) else {}


def _check_names(selections: Mapping[str, Any]) -> None:
    for name in selections:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise FilterError(
                f"pySigma renames a filter's selections, and would not find {name!r} again",
                hint="letters, digits and underscores, a letter first",
            )
    if not 0 < len(selections) <= MOST_NAMES:
        raise FilterError(f"a filter has 1 to {MOST_NAMES} selections, not {len(selections)}", hint="split it")


def _check_condition(condition: str, selections: Mapping[str, Any]) -> None:
    """An event that none of the selections describes must pass, and something must be taken out."""
    tree = conditions.parse(condition)
    if not conditions.holds(tree, dict.fromkeys(selections, False)):
        raise FilterError(
            f"the condition '{condition}' takes out what the filter does not describe: it inverts the rule",
            hint=f"tools append a filter's condition as it is, so write: not ({condition})",
        )
    names = list(selections)
    truths = (dict(zip(names, given, strict=True)) for given in product((True, False), repeat=len(names)))
    if all(conditions.holds(tree, truth) for truth in truths):
        raise FilterError(f"the condition '{condition}' takes nothing out", hint="write: not selection")
    used = conditions.names(tree, names)
    unused = [name for name in names if name not in used]
    if unused:
        raise FilterError(f"the condition does not use the selection {unused[0]!r}", hint="name it or take it out")


def _check_unknown(made: Filter) -> None:
    """An event of which nothing is known must pass: a filter states what it takes out."""
    if made.template:
        return
    try:
        taken = made.excludes({})
    except RuleError as error:
        raise _error(made.rule, "condition", error.message, error.hint) from error
    if taken:
        raise _error(
            made.rule,
            "condition",
            "the filter takes out events of which nothing is known",
            "ask for the field that tells them, with a value or exists: true",
        )


def _exclusion(given: object) -> tuple[str, str, date]:
    """Owner, reason and last day of an exclusion."""
    hint = "keytrail: {owner: who answers for it, reason: why it is no attack, expires: 2027-06-30}"
    said = given if isinstance(given, Mapping) else {}
    missing = [name for name in EXCLUSION if not str(said.get(name) or "").strip()]
    if missing:
        raise FilterError(f"the exclusion has no {' and no '.join(missing)}", hint=hint)
    expires = said["expires"]
    try:
        day = expires if isinstance(expires, date) else date.fromisoformat(str(expires))
    except ValueError as error:
        raise FilterError(f"expires is no day: {expires!r}", hint=hint) from error
    return str(said["owner"]), str(said["reason"]), day.date() if isinstance(day, datetime) else day


def check_targets(filters: Iterable[Filter], known: Sequence[Rule]) -> list[FilterError]:
    """Check filters against the rules there are: each rule that one names must exist, and be of its logsource."""
    found = []
    single = [rule for rule in known if "correlation" not in rule.document]
    for one in filters:
        for target in one.targets or ():
            found += _check_target(one, target, known)
        if one.targets is None and not any(map(one.covers, single)):
            message = "no rule has the filter's logsource: it narrows nothing"
            found.append(_error(one.rule, "logsource", message, "logsource: {product: aws, service: cloudtrail}"))
    return found


def _check_target(one: Filter, target: str, known: Sequence[Rule]) -> list[FilterError]:
    named = [rule for rule in known if replace(one, targets=(target,)).names(rule)]
    if not named:
        stems = [rule.id for rule in known if rule.stem == target]
        hint = f"filters name rules by id: {stems[0]}" if stems else "'keytrail rules --json' lists the ids"
        return [_error(one.rule, "rules", f"there is no rule {target!r}: the filter would not be applied", hint)]
    found = []
    for rule in named:
        if "correlation" in rule.document:
            message = f"{rule.stem} is a correlation, which no filter narrows"
            found.append(_error(one.rule, "rules", message, "name the rules that it correlates"))
        elif not one.covers(rule):
            message = f"the filter's logsource is not that of {rule.stem}: it would not be applied"
            found.append(_error(one.rule, "logsource", message, "take the rule's logsource"))
    return found


def narrow(rule: Rule, filters: Iterable[Filter], day: date | None = None) -> Rule:
    """Return ``rule`` with those of ``filters`` that are for it and have not expired on ``day``, in their order.

    Raises :class:`FilterError` where a selector of the rule would take the filters' selections for its own.
    """
    when = day or today()
    wanted = [one for one in filters if one.applies_to(rule) and not one.expired(when)]
    if not wanted:
        return rule
    detection = dict(rule.document["detection"])
    for one in wanted:
        detection = _combined(detection, one)
    stems = (*rule.filters, *(one.stem for one in wanted))
    return replace(rule, document={**rule.document, "detection": detection}, filters=stems)


def _combined(detection: Mapping[str, Any], one: Filter) -> dict[str, Any]:
    given = detection["condition"]
    listed = list(map(str, given)) if isinstance(given, list) else [str(given)]
    number = 1
    while any(name.startswith(f"_filt_{number}_") for name in detection):
        number += 1
    # The number keeps one filter's patterns from selecting another's: _filt_1_a_* and _filt_2_a_b.
    prefix = f"_filt_{number}_" + re.sub(r"[^A-Za-z0-9]+", "_", one.stem) + "_"
    added = {prefix + name: value for name, value in one.selections.items()}
    for condition in listed:
        for pattern in re.findall(r"of\s+(_[^\s()]*)", condition):
            if not pattern.startswith("_filt_") and selected(pattern, added):
                raise FilterError(f"the rule's own '{pattern}' would take in the filter {one.stem}", path=one.rule.path)
    return {
        **{name: value for name, value in detection.items() if name != "condition"},
        **added,
        "condition": _each([f"({condition}) and ({_renamed(one.condition, prefix)})" for condition in listed]),
    }


def _each(listed: list[str]) -> str | list[str]:
    return listed[0] if len(listed) == 1 else listed


def _renamed(condition: str, prefix: str) -> str:
    """The filter's condition with its selections under their new names."""
    tree = conditions.parse(condition)
    for path, part, _ in list(conditions.places(tree)):
        new: conditions.Condition
        if isinstance(part, conditions.Name):
            new = conditions.Name(prefix + part.name)
        elif isinstance(part, conditions.Of):
            new = conditions.Of(part.quantifier, prefix + ("*" if part.pattern == "them" else part.pattern))
        else:
            continue
        made = conditions.replaced(tree, path, new)
        assert made is not None
        tree = made
    return conditions.render(tree)


def expired(filters: Iterable[Filter], day: date | None = None) -> list[FilterError]:
    """Return what has to be said of filters whose last day has gone by: they are not applied."""
    when = day or today()
    found = []
    for one in filters:
        if one.expired(when):
            path, line = one.place or (one.rule.path, one.rule.line_of("expires"))
            message = f"the exclusion '{one.rule.title}' expired on {one.expires.isoformat()} and is not applied"
            hint = f"ask its owner, {one.owner}, whether it still holds ({one.reason}), then give it a new day"
            found.append(FilterError(message, path=path, line=line, hint=hint))
    return found


def narrowed(rules: Sequence[Rule], filters: Sequence[Filter], day: date | None = None) -> list[Rule]:
    """Return the rules, each with the filters that are for it; correlations are then about the narrowed rules."""
    return rewired(rules, lambda given: [narrow(rule, filters, day) for rule in given])
