"""How much a pattern asks of Lucene, which makes a deterministic automaton of it, and refuses one that takes too much.

What a node refuses, or what fills its memory, is no query: the generators refuse it first, and the embedded engine as
well. The numbers are measured on Elasticsearch 8.19 and 9.5 and keep a distance of a factor of two to four to what
was refused there (``python -m benchmarks.limits --node`` measures again). The automaton is worked out here as Lucene
does it, state by state, and given up at the limit, so that no pattern takes more than a fraction of a second.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Union

from keytrail.errors import Refused

LONGEST = 900  # characters of a pattern, bytes of a beginning; Lucene's recursion ends at 1,000
LONGEST_EXPRESSION = 1000  # index.max_regex_length
LONGEST_TERM = 32_766  # bytes, which no term in an index exceeds
MOST_STEPS = 50_000  # sizes of the sets of positions, summed up; Lucene takes 100,000
MOST_STATES = 60_000  # of the automaton over bytes, estimated; Lucene takes 100,000
MOST_STATES_MINIMIZED = 120_000  # likewise, of an expression, which 8.19 makes smaller first
MOST_MEMORY = 200_000_000  # bytes for all patterns of a query; a heap of 1 GB breaks off at 600 MB
_LAST = 0x10FFFF
_PER_RANGE = 20  # states over bytes that a range of non-ASCII characters takes, about
_PER_CHARACTER = 800  # bytes
Ranges = tuple[tuple[int, int], ...]
_ANY: Ranges = ((0, _LAST),)


@dataclass(frozen=True)
class Cost:
    """What a pattern takes: ``memory`` in bytes, about; ``problem`` says what is too much, if anything is."""

    memory: int = 0
    problem: str | None = None


class _TooMuchError(Exception):
    """The pattern is beyond a limit."""


def check(expression: str) -> None:
    """Raise :class:`Refused` for an expression (see :func:`of_regexp`) that Elasticsearch might refuse."""
    problem = of_regexp(expression).problem
    if problem is not None:
        hint = "ask for something nearer to the beginning or the end, or for fewer characters between two wildcards"
        raise Refused(problem, hint=hint)


def of_term(value: str, *, ignore_case: bool) -> Cost:
    """Return the cost of looking for a whole value."""
    if not ignore_case:
        size = _bytes(value)
        return Cost(
            0, f"the value has {size:,} bytes; an index holds {LONGEST_TERM:,}" if size > LONGEST_TERM else None
        )
    if len(value) > LONGEST:
        return Cost(0, f"the value has {len(value):,} characters; {LONGEST} can be compared without their case")
    return Cost(_PER_CHARACTER * len(value))


def of_prefix(value: str, field: str) -> Cost:
    """Return the cost of looking for a beginning; a flattened field keeps its keys before the values."""
    size = _bytes(field) + _bytes(value)
    if size > LONGEST:
        return Cost(0, f"the beginning has {size:,} bytes with the field's name; Elasticsearch surely takes {LONGEST}")
    return Cost(_PER_CHARACTER * size)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def of_leaf(kind: str, field: str, value: object, *, ignore_case: bool) -> Cost:
    """Return the cost of one Query DSL leaf: the kind of query, its field and its value."""
    if not isinstance(value, str):
        return Cost()
    if kind == "term":
        return of_term(value, ignore_case=ignore_case)
    if kind == "prefix":
        return of_prefix(value, field)
    if kind == "wildcard":
        return of_wildcard(value)
    return of_regexp(value) if kind == "regexp" else Cost()


@lru_cache(maxsize=4096)
def of_wildcard(value: str) -> Cost:
    r"""Return the cost of a wildcard query: ``*``, ``?``, and ``\`` before a character that is meant as it is."""
    return _known("wildcard", value) or measured_wildcard(value)


def measured_wildcard(value: str) -> Cost:
    """Return the same, worked out whether it is in the table or not."""
    parts: list[_Node] = []
    characters = iter(value)
    for character in characters:
        if character in "*?":
            parts.append(_Repeat(_Characters(_ANY), 0, None) if character == "*" else _Characters(_ANY))
        else:
            parts.append(_letter(next(characters, "\\") if character == "\\" else character))
    return _cost(_Joined(tuple(parts)), MOST_STATES)


@lru_cache(maxsize=4096)
def of_regexp(value: str) -> Cost:
    """Return the cost of an expression in Lucene's notation without optional operators."""
    size = len(value.encode("utf-16-le", "surrogatepass")) // 2
    if size > LONGEST_EXPRESSION:
        return Cost(0, f"the expression has {size:,} characters; Elasticsearch takes {LONGEST_EXPRESSION:,}")
    return _known("regexp", value) or measured_regexp(value)


def measured_regexp(value: str) -> Cost:
    """Return the same, worked out whether it is in the table or not."""
    reader = _Reader(value)
    try:
        tree = reader.alternatives()
    except _TooMuchError as error:
        return Cost(0, str(error))
    return _cost(tree, MOST_STATES_MINIMIZED)


LONG = 6  # characters, from which on a pattern can take long enough to be worth a look into the table
TABLE = Path(__file__).with_name("measured.json")


def _known(kind: str, pattern: str) -> Cost | None:
    memory = _measured().get(f"{kind} {pattern}") if len(pattern) >= LONG else None
    return None if memory is None else Cost(memory)


@lru_cache(maxsize=1)
def _measured() -> Mapping[str, int]:
    """The memory that the pack's own patterns take, measured beforehand: some need a tenth of a second each.

    The tests measure them again.
    """
    found: dict[str, int] = json.loads(TABLE.read_bytes()) if TABLE.is_file() else {}
    return found


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
            raise _TooMuchError("the expression nests more than 100 groups")
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
            raise _TooMuchError("a repetition whose count cannot be read, or is too high")
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

Edges = tuple[tuple[int, int], ...]  # the pieces of the alphabet that lead somewhere, as bits, and the state there


@dataclass(frozen=True)
class _Automaton:
    """A deterministic automaton; it begins in state 0, and the bits of ``accepting`` are the states it may end in."""

    edges: tuple[Edges, ...]
    accepting: int


class _Builder:
    """Makes the automaton of an expression, and counts the steps that it takes.

    As in Lucene 9, each part of an expression is made deterministic for itself and then joined with the others.
    """

    def __init__(self, tree: _Node, most_states: int) -> None:
        self.most_states = most_states
        self.steps = 0
        self.states = 0  # over bytes, of the last automaton
        cuts = sorted({edge for first, last in _ranges(tree) for edge in (first, last + 1)} | {0, _LAST + 1})
        self._cuts = cuts[:-1]
        self._wide = sum(1 << place for place, after in enumerate(cuts[1:]) if after > 128)
        self._made: dict[_Node, _Automaton] = {}

    @property
    def memory(self) -> int:
        """The bytes that the last automaton takes, about."""
        narrow = len(self._cuts) - self._wide.bit_count()
        return 2 * self.states * min(256, 20 + 2 * narrow)

    def automaton(self, node: _Node) -> _Automaton:
        """Return the automaton of an expression; a part that comes again is made once."""
        made = self._made.get(node)
        if made is None:
            made = self._made[node] = _minimized(self._new(node))
        return made

    def _new(self, node: _Node) -> _Automaton:
        if isinstance(node, _Characters):
            return _Automaton((((self._pieces(node.ranges), 1),), ()), 2)
        if isinstance(node, _Joined):
            return self._determined(_chained([self.automaton(part) for part in node.parts]))
        if isinstance(node, _Either):
            return self._determined(_branched([self.automaton(part) for part in node.parts]))
        part = self.automaton(node.part)
        if node.most is None:
            return self._determined(_chained([part] * node.least + [_looped(part)]))
        return self._determined(_chained([part] * node.most, node.least))

    def _pieces(self, ranges: Ranges) -> int:
        found = 0
        for first, last in ranges:
            for place in range(bisect_left(self._cuts, first), bisect_left(self._cuts, last + 1)):
                found |= 1 << place
        return found

    def _determined(self, automaton: _Automaton) -> _Automaton:
        """Make an automaton deterministic: its states are then sets of states."""
        numbers = {1: 0}
        sets, edges, accepting = [1], list[Edges](), 0
        self.states = 0
        while len(edges) < len(sets):
            members = sets[len(edges)]
            if members & automaton.accepting:
                accepting |= 1 << len(edges)
            self.steps += members.bit_count()
            found = list[tuple[int, int]]()
            self.states += 1
            for pieces, target in _moves(automaton, members):
                if target not in numbers:
                    numbers[target] = len(sets)
                    sets.append(target)
                wide = pieces & self._wide
                self.states += _PER_RANGE * (wide & ~(wide << 1)).bit_count()
                found.append((pieces, numbers[target]))
            edges.append(tuple(found))
            if self.steps > MOST_STEPS or self.states > self.most_states:
                raise _TooMuchError("it can match in so many ways that Elasticsearch may refuse it as too complex")
        return _Automaton(tuple(edges), accepting)


def _moves(automaton: _Automaton, members: int) -> Iterator[tuple[int, int]]:
    """Yield the sets of states that one character leads to from a set of states, with the pieces that do."""
    by_target: dict[int, int] = {}
    for state in _bits(members):
        for pieces, target in automaton.edges[state]:
            by_target[target] = by_target.get(target, 0) | pieces
    parts: dict[int, int] = {}  # the states reached, by the pieces that lead to just these
    for target, pieces in by_target.items():
        split: dict[int, int] = {}
        left = pieces
        for piece, reached in parts.items():
            common = piece & pieces
            if common:
                split[common] = reached | 1 << target
            if common != piece:
                split[piece ^ common] = reached
            left ^= common
        if left:
            split[left] = 1 << target
        parts = split
    merged: dict[int, int] = {}
    for pieces, reached in parts.items():
        merged[reached] = merged.get(reached, 0) | pieces
    return ((pieces, reached) for reached, pieces in merged.items())


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _chained(parts: Sequence[_Automaton], least: int | None = None) -> _Automaton:
    """One after another; from ``least`` on they can be left out."""
    edges: list[Edges] = []
    accepting = 0
    following: Edges = ()  # what may come next where a part has ended
    ends = True
    for number in range(len(parts) - 1, -1, -1):
        part = parts[number]
        offset = sum(len(one.edges) for one in parts[:number])
        moved = [tuple((pieces, target + offset) for pieces, target in found) for found in part.edges]
        for state in _bits(part.accepting):
            moved[state] += following
            if ends:
                accepting |= 1 << (state + offset)
        nullable = part.accepting & 1
        if least is not None and number >= least:
            following, ends = moved[0] + (() if nullable else following), True
        else:
            following, ends = moved[0], ends and bool(nullable)
        edges[:0] = moved
    return _Automaton(tuple(edges) or ((),), accepting | (1 if ends else 0))


def _branched(parts: Sequence[_Automaton]) -> _Automaton:
    """One of them."""
    start: Edges = ()
    edges: list[Edges] = [()]
    accepting = 0
    for part in parts:
        offset = len(edges)
        moved = [tuple((pieces, target + offset) for pieces, target in found) for found in part.edges]
        start += moved[0]
        accepting |= part.accepting << offset | (part.accepting & 1)
        edges += moved
    return _Automaton((start, *edges[1:]), accepting)


def _looped(part: _Automaton) -> _Automaton:
    """Any number of it."""
    moved = [tuple((pieces, target + 1) for pieces, target in found) for found in part.edges]
    again = moved[0]
    for state in _bits(part.accepting):
        moved[state] = tuple(dict.fromkeys(moved[state] + again))
    return _Automaton((again, *moved), part.accepting << 1 | 1)


def _minimized(automaton: _Automaton) -> _Automaton:
    """Lay states together that nothing tells apart; a large automaton is left as it is, which only counts for more."""
    if len(automaton.edges) > 100:
        return automaton
    blocks = [automaton.accepting >> state & 1 for state in range(len(automaton.edges))]
    while True:
        numbers: dict[object, int] = {}
        refined = []
        for state, found in enumerate(automaton.edges):
            grouped: dict[int, int] = {}
            for pieces, target in found:
                grouped[blocks[target]] = grouped.get(blocks[target], 0) | pieces
            seen = (blocks[state], frozenset(grouped.items()))
            refined.append(numbers.setdefault(seen, len(numbers)))
        if len(set(refined)) == len(set(blocks)):
            break
        blocks = refined
    edges: dict[int, Edges] = {}
    accepting = 0
    for state, found in enumerate(automaton.edges):
        edges.setdefault(refined[state], tuple((pieces, refined[target]) for pieces, target in found))
        accepting |= (automaton.accepting >> state & 1) << refined[state]
    return _Automaton(tuple(edges[number] for number in sorted(edges)), accepting)


def _ranges(node: _Node) -> Iterator[tuple[int, int]]:
    if isinstance(node, _Characters):
        yield from node.ranges
    else:
        for part in (node.part,) if isinstance(node, _Repeat) else node.parts:
            yield from _ranges(part)


def _length(node: _Node) -> int:
    """The characters of an expression with its repetitions written out; at least one for each part."""
    if isinstance(node, _Characters):
        return 1
    if isinstance(node, _Repeat):
        return _length(node.part) * max(1, node.least if node.most is None else node.most)
    return max(1, sum(map(_length, node.parts)))


def _cost(tree: _Node, most_states: int) -> Cost:
    length = _length(tree)
    if length > LONGEST:
        return Cost(0, f"the pattern has {length:,} characters, repetitions written out; {LONGEST} are surely taken")
    builder = _Builder(tree, most_states)
    try:
        builder.automaton(tree)
    except _TooMuchError as error:
        return Cost(0, f"the pattern is too complex: {error}")
    return Cost(builder.memory)
