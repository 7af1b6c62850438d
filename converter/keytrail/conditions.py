"""A Sigma condition as a tree that can be asked, changed and written down again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

from keytrail.errors import RuleError
from keytrail.lint import selected

QUANTIFIERS = ("1", "any", "all")


@dataclass(frozen=True)
class Name:
    """A selection by its name."""

    name: str


@dataclass(frozen=True)
class Of:
    """``1 of filter_*``, ``all of them``."""

    quantifier: str
    pattern: str


@dataclass(frozen=True)
class Not:
    """A negation."""

    part: Condition


@dataclass(frozen=True)
class Both:
    """Parts with ``and`` between them."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """Parts with ``or`` between them."""

    parts: tuple[Condition, ...]


Condition = Union[Name, Of, Not, Both, Either]


def parse(condition: str) -> Condition:
    """Return the tree of a condition: not binds tightest, then and, then or. Raises :class:`RuleError`."""
    parser = _Parser(re.findall(r"[()]|[^\s()]+", condition))
    found = parser.either()
    if parser.tokens:
        raise RuleError(f"the condition goes on with {parser.tokens[0]!r} where it should end")
    return found


class _Parser:
    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)

    def _take(self, wanted: str) -> bool:
        if self.tokens[:1] != [wanted]:
            return False
        del self.tokens[0]
        return True

    def either(self) -> Condition:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self) -> Condition:
        if self._take("not"):
            return Not(self._one())
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise RuleError("a parenthesis in the condition is not closed")
            return inner
        if not self.tokens or self.tokens[0] in ("and", "or", ")"):
            raise RuleError("the condition lacks the name of a selection")
        name = self.tokens.pop(0)
        if name in QUANTIFIERS and self._take("of"):
            if not self.tokens:
                raise RuleError("the condition ends too early")
            return Of(name, self.tokens.pop(0))
        return Name(name)


def render(node: Condition) -> str:
    """Return the condition's text, with no more parentheses than it needs."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Of):
        return f"{node.quantifier} of {node.pattern}"
    if isinstance(node, Not):
        return f"not {_inside(node.part, (Both, Either))}"
    if isinstance(node, Both):
        return " and ".join(_inside(part, (Both, Either)) for part in node.parts)
    return " or ".join(_inside(part, (Either,)) for part in node.parts)


def _inside(node: Condition, loose: tuple[type, ...]) -> str:
    return f"({render(node)})" if isinstance(node, loose) else render(node)


def holds(node: Condition, truth: Mapping[str, bool]) -> bool:
    """Tell whether the condition holds where ``truth`` says which selections do."""
    if isinstance(node, Name):
        return truth[node.name]
    if isinstance(node, Of):
        found = [truth[name] for name in selected(node.pattern, truth)]
        return all(found) if node.quantifier == "all" else any(found)
    if isinstance(node, Not):
        return not holds(node.part, truth)
    if isinstance(node, Both):
        return all(holds(part, truth) for part in node.parts)
    return any(holds(part, truth) for part in node.parts)


def places(node: Condition, negated: bool = False) -> Iterator[tuple[tuple[int, ...], Condition, bool]]:
    """Yield every part of the tree with its path, and whether an odd number of negations stands over it."""
    yield (), node, negated
    parts = (node.part,) if isinstance(node, Not) else node.parts if isinstance(node, (Both, Either)) else ()
    for number, part in enumerate(parts):
        for path, found, odd in places(part, negated != isinstance(node, Not)):
            yield (number, *path), found, odd


def replaced(node: Condition, path: tuple[int, ...], new: Condition | None) -> Condition | None:
    """Return the tree with the part at ``path`` replaced; None takes it out, and with it what it leaves empty."""
    if not path:
        return new
    if isinstance(node, Not):
        inner = replaced(node.part, path[1:], new)
        return None if inner is None else Not(inner)
    assert isinstance(node, (Both, Either))
    made = [replaced(part, path[1:], new) if number == path[0] else part for number, part in enumerate(node.parts)]
    left = tuple(part for part in made if part is not None)
    if not left:
        return None
    return left[0] if len(left) == 1 else type(node)(left)


def names(node: Condition, defined: Sequence[str]) -> dict[str, set[bool]]:
    """Return the selections that the condition uses, each with the signs it is used with: True is negated."""
    found: dict[str, set[bool]] = {}
    for _, part, odd in places(node):
        used = (
            [part.name] if isinstance(part, Name) else selected(part.pattern, defined) if isinstance(part, Of) else []
        )
        for name in used:
            found.setdefault(name, set()).add(odd)
    return found
