r"""How much work a Lucene expression makes for Elasticsearch, which refuses one that makes too much.

Lucene turns an expression into a deterministic automaton first, and gives up at a limit (``max_determinized_states``).
A query_string then matches nothing, without a word. So the same work is done here before a query is written:
``.*a.{12}`` has to remember the last 13 characters, and needs 8,192 states.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Union

from keytrail.errors import Refused

MOST_EFFORT = 90_000  # Lucene stops at 100,000, and counts some expressions lower than this module does
MOST_PLACES = 5_000
_LAST = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _One:
    """One character out of some ranges."""

    ranges: Ranges


@dataclass(frozen=True)
class _Chain:
    """Parts one after another."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Choice:
    """Alternatives."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Repeat:
    """A part so often, without end where ``most`` is None."""

    part: _Node
    least: int
    most: int | None


_Node = Union[_One, _Chain, _Choice, _Repeat]


def check(expression: str) -> None:
    """Raise :class:`Refused` for an expression that Elasticsearch would take for too complex.

    Parameters: ``expression`` is in the notation that :mod:`keytrail.regex` writes.
    """
    if effort(expression) > MOST_EFFORT:
        hint = "ask for something nearer to the beginning or the end, or for fewer characters between two wildcards"
        raise Refused("the pattern is too complex for Lucene, which would have to remember too much at once", hint=hint)


@lru_cache(maxsize=1024)
def effort(expression: str) -> int:
    """Return the work that Lucene has with an expression, in its own count; just above the limit where it is more."""
    places = _Places()
    try:
        fragment = places.add(_Parser(expression).choice())
    except _TooManyError:
        return MOST_EFFORT + 1
    start = frozenset([places.start(fragment)])
    seen, waiting, spent = {start}, deque([start]), 0
    while waiting and spent <= MOST_EFFORT:
        states = waiting.popleft()
        spent += len(states)
        for reached in places.steps(states):
            if reached not in seen:
                seen.add(reached)
                waiting.append(reached)
    return spent


class _TooManyError(Exception):
    pass


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def _peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def _next(self) -> str:
        self.place += 1
        return self.text[self.place - 1]

    def choice(self) -> _Node:
        parts = [self._chain()]
        while self._peek() == "|":
            self.place += 1
            parts.append(self._chain())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _chain(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else _Chain(tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        while self._peek() in ("*", "+", "?", "{"):
            sign = self._next()
            if sign == "{":
                end = self.text.index("}", self.place)
                least, comma, most = self.text[self.place : end].partition(",")
                self.place = end + 1
                node = _Repeat(node, int(least), int(most) if most else None if comma else int(least))
            else:
                node = _Repeat(node, int(sign == "+"), 1 if sign == "?" else None)
        return node

    def _atom(self) -> _Node:
        character = self._next()
        if character == "(":
            inner = self.choice()
            self.place += 1
            return inner
        if character == "[":
            return self._class()
        if character == ".":
            return _One(((0, _LAST),))
        return self._literal(character)

    def _literal(self, character: str) -> _One:
        code = ord(self._next() if character == "\\" else character)
        return _One(((code, code),))

    def _class(self) -> _One:
        negated = self._peek() == "^"
        self.place += negated
        ranges = []
        while self._peek() != "]":
            (first, last) = self._literal(self._next()).ranges[0]
            if self._peek() == "-" and self.text[self.place + 1] != "]":
                self.place += 1
                last = self._literal(self._next()).ranges[0][1]
            ranges.append((first, last))
        self.place += 1
        return _One(_complement(ranges) if negated else tuple(ranges))


def _complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    found, place = [], 0
    for first, last in sorted(ranges):
        if first > place:
            found.append((place, first - 1))
        place = max(place, last + 1)
    return (*found, (place, _LAST)) if place <= _LAST else tuple(found)


@dataclass
class _Fragment:
    """Where a part can begin and end, and whether it can be empty."""

    first: set[int]
    last: set[int]
    empty: bool


class _Places:
    """The characters of an expression as states, and which can follow which (Glushkov's construction)."""

    def __init__(self) -> None:
        self.ranges: list[Ranges] = []
        self.follow: list[set[int]] = []

    def start(self, fragment: _Fragment) -> int:
        """Return a state before the first character."""
        self.ranges.append(())
        self.follow.append(fragment.first)
        return len(self.follow) - 1

    def add(self, node: _Node) -> _Fragment:
        """Lay out a part; raise :class:`_TooManyError` where it has too many places."""
        if isinstance(node, _One):
            if len(self.ranges) >= MOST_PLACES:
                raise _TooManyError
            self.ranges.append(node.ranges)
            self.follow.append(set())
            return _Fragment({len(self.ranges) - 1}, {len(self.ranges) - 1}, False)
        if isinstance(node, _Choice):
            made = [self.add(part) for part in node.parts]
            first, last = set[int]().union(*(one.first for one in made)), set[int]().union(*(one.last for one in made))
            return _Fragment(first, last, any(one.empty for one in made))
        if isinstance(node, _Chain):
            return self._chained([self.add(part) for part in node.parts])
        return self._repeated(node)

    def _repeated(self, node: _Repeat) -> _Fragment:
        made = [self.add(node.part) for _ in range(node.least if node.most is None else node.most)]
        for optional in made[node.least :]:
            optional.empty = True
        if node.most is None:
            again = self.add(node.part)
            for place in again.last:
                self.follow[place] |= again.first
            again.empty = True
            made.append(again)
        return self._chained(made)

    def _chained(self, parts: list[_Fragment]) -> _Fragment:
        whole = _Fragment(set(), set(), True)
        for part in parts:
            for place in whole.last:
                self.follow[place] |= part.first
            whole.first |= part.first if whole.empty else set()
            whole.last = part.last | whole.last if part.empty else set(part.last)
            whole.empty = whole.empty and part.empty
        return whole

    def steps(self, states: frozenset[int]) -> Iterable[frozenset[int]]:
        """Return every set of states that one more character can lead to."""
        reached = set[int]().union(*(self.follow[state] for state in states))
        edges: dict[int, list[tuple[int, bool]]] = {}
        for place in reached:
            for first, last in self.ranges[place]:
                edges.setdefault(first, []).append((place, True))
                edges.setdefault(last + 1, []).append((place, False))
        live: dict[int, int] = {}
        found: set[frozenset[int]] = set()
        for point in sorted(edges):
            for place, opens in edges[point]:
                live[place] = live.get(place, 0) + (1 if opens else -1)
            now = frozenset(place for place, count in live.items() if count > 0)
            if now:
                found.add(now)
        return found
