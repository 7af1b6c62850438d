"""What a Sigma condition may not say, because pySigma 1.5 would read something else into it without a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from sigma.modifiers import SigmaBase64OffsetModifier
from sigma.rule.detection import SigmaDetection, SigmaDetectionItem

from keytrail.errors import RuleError

KEYWORDS = frozenset({"and", "or", "not", "of", "1", "any", "all", "them"})
DEEPEST = 50
LONGEST = 20_000


def check_detections(names: Sequence[str], conditions: Iterable[str]) -> None:
    """Check the conditions of one rule against the names of its detections.

    Raises :class:`RuleError` for a selector that selects nothing (pySigma drops it: ``selection and 1 of filter_*``
    would then mean ``selection``), a name that begins with "not" (read as ``not able``), an unknown name, and nesting
    deeper than a query can be.
    """
    for condition in conditions:
        if len(condition) > LONGEST:
            raise RuleError(f"the condition is longer than {LONGEST} characters", hint="use a list of values instead")
        tokens = re.findall(r"[()]|[^\s()]+", condition)
        _check_depth(tokens)
        for token in tokens:
            if token.startswith("not") and token != "not":
                raise RuleError(
                    f"pySigma reads the name {token!r} in the condition as 'not {token[3:]}'",
                    hint="rename the detection so that it does not begin with 'not'",
                )
        for name in _names(tokens, names):
            if name not in names:
                raise RuleError(
                    f"the condition names {name!r}, which the rule does not define", hint=f"defined: {', '.join(names)}"
                )


def check_values(detections: Iterable[SigmaDetection | SigmaDetectionItem]) -> None:
    """Check the values of a rule's detections.

    Raises :class:`RuleError` for ``base64offset`` of a value with non-ASCII characters, whose length pySigma counts in
    characters where base64 counts bytes: two of its three patterns are wrong then.
    """
    for part in detections:
        if isinstance(part, SigmaDetection):
            check_values(part.detection_items)
        elif SigmaBase64OffsetModifier in part.modifiers and not str(part.original_value).isascii():
            raise RuleError(
                f"pySigma encodes the non-ASCII value of {part.field}|base64offset wrongly",
                hint="write the three encoded forms out, with |contains",
            )


def _check_depth(tokens: Sequence[str]) -> None:
    depth = negations = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token, 0)
        negations = negations + 1 if token == "not" else negations
        if depth > DEEPEST or negations > 10 * DEEPEST:
            raise RuleError(
                f"the condition is nested more than {DEEPEST} deep", hint="split the rule or flatten its condition"
            )


def _names(tokens: Sequence[str], defined: Sequence[str]) -> Iterator[str]:
    """Yield the plain names in a condition; check the selectors on the way."""
    place = 0
    while place < len(tokens):
        if tokens[place + 1 : place + 2] == ["of"]:
            pattern = "".join(tokens[place + 2 : place + 3])
            if not selected(pattern, defined):
                raise RuleError(
                    f"the condition's '{tokens[place]} of {pattern}' selects nothing, and pySigma would drop it",
                    hint=f"define a detection of that name, or leave it out; defined: {', '.join(defined)}",
                )
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
