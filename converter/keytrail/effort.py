"""How much a pattern asks of Lucene, which makes a deterministic automaton of it, and refuses one that takes too much.

What a node refuses, or what fills its memory, is no query: the generators refuse it first, and the embedded engine as
well. The numbers are measured on Elasticsearch 8.19 and 9.5 and keep a distance of a factor of two to four to what
was refused there (``python -m benchmarks.limits --node`` measures again). The automaton is worked out here as Lucene
does it, state by state, and given up at the limit, so that no pattern takes more than a fraction of a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Union

LONGEST = 900  # characters of a pattern, bytes of a beginning; Lucene's recursion ends at 1,000
LONGEST_TERM = 32_766  # bytes, which no term in an index exceeds
MOST_STEPS = 25_000  # sizes of the sets of positions, summed up; Lucene takes 100,000
MOST_STATES = 30_000  # of the automaton over bytes; Lucene takes 100,000
MOST_MEMORY = 64_000_000  # bytes for all patterns of a query
_LAST = 0x10FFFF
_PER_RANGE = 20  # states over bytes that a range of non-ASCII characters takes, about
Ranges = tuple[tuple[int, int], ...]
_ANY: Ranges = ((0, _LAST),)


@dataclass(frozen=True)
class Cost:
    """What a pattern takes: ``memory`` in bytes, about; ``problem`` says what is too much, if anything is."""

    memory: int = 0
    problem: str | None = None


class _TooMuch(Exception):
    """The pattern is beyond a limit."""


def of_term(value: str, *, ignore_case: bool) -> Cost:
    """Return the cost of looking for a whole value."""
    if not ignore_case:
        size = len(value.encode("utf-8", "surrogatepass"))
        return Cost() if size <= LONGEST_TERM else Cost(0, f"the value has {size:,} bytes; an index holds {LONGEST_TERM:,}")
    if len(value) > LONGEST:
        return Cost(0, f"the value has {len(value):,} characters; {LONGEST} can be compared without their case")
    return Cost(400 * len(value))


def of_prefix(value: str, key: str = "") -> Cost:
    """Return the cost of looking for a beginning; ``key`` is that of a flattened field, which is kept before values."""
    size = len(value.encode("utf-8", "surrogatepass")) + (len(key.encode()) + 1 if key else 0)
    if size > LONGEST:
        return Cost(0, f"the beginning has {size:,} bytes; Elasticsearch surely takes {LONGEST}")
    return Cost(400 * size)


@lru_cache(maxsize=4096)
def of_wildcard(value: str) -> Cost:
    r"""Return the cost of a wildcard query: ``*``, ``?``, and ``\`` before a character that is meant as it is."""
    parts: list[_Node] = []
    characters = iter(value)
    for character in characters:
        if character in "*?":
            parts.append(_Repeat(_Characters(_ANY), 0, None) if character == "*" else _Characters(_ANY))
        else:
            parts.append(_letter(next(characters, "\\") if character == "\\" else character))
    return _cost(_Joined(tuple(parts)))


@lru_cache(maxsize=4096)
def of_regexp(value: str) -> Cost:
    """Return the cost of an expression in Lucene's notation without optional operators."""
    if len(value) > LONGEST + 100:
        return Cost(0, f"the expression has {len(value):,} characters; Elasticsearch takes 1,000")
    reader = _Reader(value)
    try:
        tree = reader.alternatives()
    except _TooMuch as error:
        return Cost(0, str(error))
    return _cost(tree)


# -- expressions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Characters:
    """One character out of some ranges."""

    ranges: Ranges


@dataclass(frozen=True)
class _Joined:
    """One after the other."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Either:
    """One of them."""

    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Repeat:
    """So many times; ``most`` None is any number."""

    part: _Node
    least: int
    most: int | None


_Node = Union[_Characters, _Joined, _Either, _Repeat]


def _letter(character: str) -> _Characters:
    return _Characters(((ord(character), ord(character)),))


class _Reader:
    """Reads Lucene's notation: literals, classes, groups, alternatives, repetition."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.depth = 0

    def alternatives(self) -> _Node:
        """Read up to a closing parenthesis or the end."""
        if self.depth > 100:
            raise _TooMuch("the expression nests more than 100 groups")
        found = [self._sequence()]
        while self._take("|"):
            found.append(self._sequence())
        return found[0] if len(found) == 1 else _Either(tuple(found))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self.place < len(self.text) and self.text[self.place] not in "|)":
            parts.append(self._repeated(self._atom()))
        return _Joined(tuple(parts))

    def _take(self, wanted: str) -> bool:
        if self.text.startswith(wanted, self.place):
            self.place += len(wanted)
            return True
        return False

    def _next(self) -> str:
        self.place += 1
        return self.text[self.place - 1 : self.place]

    def _atom(self) -> _Node:
        character = self._next()
        if character == "(":
            self.depth += 1
            found = self.alternatives()
            self.depth -= 1
            self._take(")")
            return found
        if character == "[":
            return self._class()
        if character == ".":
            return _Characters(_ANY)
        return _letter(self._next() or "\\" if character == "\\" else character)

    def _class(self) -> _Characters:
        negated = self._take("^")
        members: list[tuple[int, int]] = []
        while self.place < len(self.text) and not self._take("]"):
            first = last = self._member()
            if self.text.startswith("-", self.place) and not self.text.startswith("-]", self.place):
                self.place += 1
                last = self._member()
            members.append((first, last))
        return _Characters(_complement(members) if negated else tuple(sorted(members)))

    def _member(self) -> int:
        character = self._next()
        return ord(self._next() or "\\") if character == "\\" else ord(character or "\\")

    def _repeated(self, part: _Node) -> _Node:
        while self.place < len(self.text) and self.text[self.place] in "*+?{":
            sign = self._next()
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign) or self._count()
            part = _Repeat(part, least, most)
        return part

    def _count(self) -> tuple[int, int | None]:
        end = self.text.find("}", self.place)
        low, comma, high = self.text[self.place : max(end, self.place)].partition(",")
        self.place = end + 1 if end >= 0 else len(self.text)
        if not (low.isdecimal() and len(low) < 6 and (not high or (high.isdecimal() and len(high) < 6))):
            raise _TooMuch("a repetition whose count cannot be read, or is too high")
        return int(low), int(high) if high else None if comma else int(low)


def _complement(members: list[tuple[int, int]]) -> Ranges:
    found = []
    start = 0
    for first, last in sorted(members):
        if first > start:
            found.append((start, first - 1))
        start = max(start, last + 1)
    return (*found, (start, _LAST)) if start <= _LAST else tuple(found)


# -- automata -----------------------------------------------------------------------------------------------------


class _Positions:
    """The characters of an expression, each a position, and for each a set of those that may come after it.

    Sets of positions are the bits of whole numbers.
    """

    def __init__(self) -> None:
        self.ranges: list[Ranges] = []
        self.after: list[int] = []
        self._visits = 0

    def add(self, node: _Node) -> tuple[bool, int, int]:
        """Add an expression; return whether it may be empty, and the positions that it may begin and end with."""
        self._visits += 1
        if self._visits > 10 * LONGEST:
            raise _TooMuch("the repetitions multiply beyond measure")
        if isinstance(node, _Characters):
            if len(self.ranges) == LONGEST:
                raise _TooMuch(f"the pattern has more than {LONGEST} characters, repetitions written out")
            self.ranges.append(node.ranges)
            self.after.append(0)
            position = 1 << (len(self.ranges) - 1)
            return False, position, position
        if isinstance(node, _Repeat):
            return self._repeat(node)
        empty, first, last = isinstance(node, _Joined), 0, 0
        for part in node.parts:
            found = self.add(part)
            if isinstance(node, _Joined):
                empty, first, last = self._join((empty, first, last), found)
            else:
                empty, first, last = empty or found[0], first | found[1], last | found[2]
        return empty, first, last

    def _join(self, one: tuple[bool, int, int], two: tuple[bool, int, int]) -> tuple[bool, int, int]:
        for position in _bits(one[2]):
            self.after[position] |= two[1]
        return one[0] and two[0], one[1] | (two[1] if one[0] else 0), two[2] | (one[2] if two[0] else 0)

    def _repeat(self, node: _Repeat) -> tuple[bool, int, int]:
        """What may be left out is nested, x(x(x)?)?, as Lucene does it."""
        found = (True, 0, 0)
        if node.most is None:
            _, first, last = self.add(node.part)
            for position in _bits(last):
                self.after[position] |= first
            found = (True, first, last)
        for _ in range((node.most or 0) - node.least):
            inner = self._join(self.add(node.part), found)
            found = (True, inner[1], inner[2])
        for _ in range(node.least):
            found = self._join(self.add(node.part), found)
        return found


def _bits(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest


def _cost(tree: _Node) -> Cost:
    found = _Positions()
    try:
        _, first, _ = found.add(tree)
        return _determined(found, first)
    except _TooMuch as error:
        return Cost(0, str(error))


def _intervals(ranges: Sequence[Ranges]) -> list[tuple[int, int]]:
    """Cut the alphabet where a range begins or ends: the last character of each piece, and who takes it."""
    cuts = sorted({edge for part in ranges for first, last in part for edge in (first, last + 1)} | {0, _LAST + 1})
    masks = dict.fromkeys(cuts[:-1], 0)
    for position, part in enumerate(ranges):
        for first, last in part:
            for cut in cuts[bisect_left(cuts, first) : bisect_left(cuts, last + 1)]:
                masks[cut] |= 1 << position
    return [(after - 1, masks[cut]) for cut, after in pairwise(cuts)]


def _determined(found: _Positions, first: int) -> Cost:
    """Make the automaton deterministic, set of positions by set of positions, and count."""
    intervals = _intervals(found.ranges)
    wide = [mask for last, mask in intervals if last > 127]
    masks = {mask for _, mask in intervals if mask}
    seen = {0}
    waiting = [(first, 1)]
    steps = states = 0
    while waiting:
        reachable, size = waiting.pop()
        steps += size
        targets = [reachable & mask for mask in wide]
        changes = 1 + sum(one != two for one, two in pairwise(targets))
        states += 1 + (_PER_RANGE * changes if any(targets) else 0)
        if steps > MOST_STEPS or states > MOST_STATES:
            raise _TooMuch("the pattern has so many ways to match that Elasticsearch may refuse it as too complex")
        for mask in masks:
            target = reachable & mask
            if target not in seen:
                seen.add(target)
                after = 0
                for position in _bits(target):
                    after |= found.after[position]
                waiting.append((after, target.bit_count()))
    return Cost(4 * states * min(256, 20 + 2 * (len(intervals) - len(wide))))
