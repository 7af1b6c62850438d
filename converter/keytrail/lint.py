"""What a Sigma condition may not say, because pySigma 1.5 would read something else into it without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from keytrail.errors import RuleError

KEYWORDS = frozenset({"and", "or", "not", "of", "1", "any", "all", "them"})
DEEPEST = 50
LONGEST = 20_000
LONGEST_VALUE = 32_766  # what an index can hold of a value
MOST_DETECTIONS = 2_000
MOST_QUESTIONS = 5_000
MOST_DASHES = 4  # pySigma writes each in five ways: 625 values
_DASH = re.compile(r"\B[-/]\b")  # as pySigma finds them


def check_detections(names: Sequence[str], conditions: Iterable[str]) -> None:
    """Check the conditions of one rule against the names of its detections.

    Raises :class:`RuleError` for a selector that selects nothing (pySigma drops it: ``selection and 1 of filter_*``
    would then mean ``selection``), a name that begins with "not" (read as ``not able``), an unknown name, and nesting
    deeper than a query can be.
    """
    for condition in conditions:
        if len(condition) > LONGEST:
            raise RuleError(f"the condition is longer than {LONGEST} characters", hint="use a list of values instead")
        tokens = _tokens(condition)
        _check_depth(tokens)
        for token in tokens:
            if token.startswith("not") and token != "not":
                raise RuleError(
                    f"pySigma reads the name {token!r} in the condition as 'not {token[3:]}'",
                    hint="rename the detection so that it does not begin with 'not'",
                )
        known = frozenset(names)
        for name in _names(tokens, names):
            if name not in known:
                raise RuleError(
                    f"the condition names {name!r}, which the rule does not define", hint=f"defined: {', '.join(names)}"
                )


def check_document(detection: Mapping[str, object]) -> None:
    """Check a rule's detections, as YAML has them, for what pySigma would multiply without end.

    Raises :class:`RuleError` for too many of them, a modifier that stands twice, and too many dashes with ``windash``.
    """
    _check_shape(detection)
    if len(detection) > MOST_DETECTIONS:
        raise RuleError(f"{len(detection):,} detections; {MOST_DETECTIONS:,} are taken", hint="use lists of values")
    waiting: list[object] = [detection]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            for key, value in part.items():
                _check_modifiers(str(key), value if isinstance(value, list) else [value])
                waiting.append(value)
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str) and len(part) > LONGEST_VALUE:
            raise RuleError(f"a value of {len(part):,} characters; no index holds more than {LONGEST_VALUE:,}")


def _check_shape(detection: Mapping[str, object]) -> None:
    """What pySigma would drop, read otherwise, or stumble over."""
    for name, part in detection.items():
        if not isinstance(name, str):
            raise RuleError(f"the detection {name!r} is named by a number", hint="put the name in quotes")
        if name == "timeframe":
            raise RuleError(
                "timeframe belongs to Sigma's old aggregations", field=name, hint="write a correlation rule"
            )
        if name != "condition" and not isinstance(part, (Mapping, list, str, int, float)):
            raise RuleError(f"the detection {name!r} is empty", field=name, hint="name fields and their values")
        for key, value in _pairs(part):
            if value == []:
                raise RuleError(f"{key} has an empty list of values", field=key.split("|")[0], hint="null means absent")
            if isinstance(value, float) and (value.is_integer() or abs(value) >= 1e15):
                hint = "write it as a whole number, or in quotes as the log has it"
                raise RuleError(f"pySigma rewrites the number {value!r} of {key}", field=key.split("|")[0], hint=hint)
            if isinstance(value, int) and abs(value) >= 10**15:
                hint = "put it in quotes"
                raise RuleError(f"pySigma rewrites the number {value} of {key}", field=key.split("|")[0], hint=hint)


def _pairs(part: object) -> Iterator[tuple[str, object]]:
    """Each field of a detection with each of its values, or with its list where that is empty."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            yield from ((str(key), one) for one in value or [[]]) if isinstance(value, list) else [(str(key), value)]
    elif isinstance(part, list):
        for inner in part:
            yield from _pairs(inner)


def _check_modifiers(key: str, values: Sequence[object]) -> None:
    field, *modifiers = key.split("|")
    if len(set(modifiers)) < len(modifiers):
        doubled = max(modifiers, key=modifiers.count)
        raise RuleError(f"the modifier {doubled!r} stands twice on {field!r}", field=field)
    if "windash" in modifiers:
        most = max((len(_DASH.findall(value)) for value in values if isinstance(value, str)), default=0)
        if most > MOST_DASHES:
            hint = "write the spellings that you mean"
            raise RuleError(f"{most} dashes in a value of {key}; {MOST_DASHES} are taken", hint=hint, field=field)


def _tokens(condition: str) -> list[str]:
    return re.findall(r"[()]|[^\s()]+", condition)


def _check_depth(tokens: Sequence[str]) -> None:
    """Count the parentheses and negations around each name."""
    depth = pending = 0
    inside: list[int] = []  # for each open parenthesis, what its end takes off the depth
    for token in tokens:
        if token == "not":
            pending += 1
        elif token == "(":
            inside.append(pending + 1)
            depth, pending = depth + pending + 1, 0
        elif token == ")":
            depth -= inside.pop() if inside else 0
        if depth + pending > DEEPEST:
            raise RuleError(
                f"the condition is nested more than {DEEPEST} deep", hint="split the rule or flatten its condition"
            )
        if token not in ("not", "("):
            pending = 0


def named(condition: str, defined: Sequence[str]) -> Iterator[str]:
    """Yield the names in a condition, those that its selectors select among them.

    Raises :class:`RuleError` for a selector that selects nothing.
    """
    yield from _names(_tokens(condition), defined)


def _names(tokens: Sequence[str], defined: Sequence[str]) -> Iterator[str]:
    """Yield the names in a condition, those that selectors select among them; check the selectors on the way."""
    place = 0
    while place < len(tokens):
        if tokens[place + 1 : place + 2] == ["of"]:
            pattern = "".join(tokens[place + 2 : place + 3])
            found = selected(pattern, defined)
            if not found:
                raise RuleError(
                    f"the condition's '{tokens[place]} of {pattern}' selects nothing, and pySigma would drop it",
                    hint=f"define a detection of that name, or leave it out; defined: {', '.join(defined)}",
                )
            yield from found
            place += 3
            continue
        if tokens[place] not in KEYWORDS and tokens[place] not in "()":
            yield tokens[place]
        place += 1


def selected(pattern: str, defined: Iterable[str]) -> list[str]:
    """Return the names that ``them`` or a pattern with ``*`` selects; a name with a leading ``_`` must be asked for."""
    return [
        name
        for name in defined
        if fnmatchcase(name, "*" if pattern == "them" else pattern)
        and (pattern.startswith("_") or not name.startswith("_"))
    ]
