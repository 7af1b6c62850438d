"""Rules made ready for one eventSource and eventName: what is left to ask when both are known, which mostly is nothing.

Most rules begin with the two. With them settled, a rule's query becomes true, false, or a smaller query; an event whose
pair leaves no rule need not be read any further. The tree is that of the engine, and so are the answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar, Union

from keytrail.engine import Document, Predicate, ascii_lower, combined, compile_query, read_bool
from keytrail.mapping import IndexMapping
from keytrail.parts import Parts

NAME, SOURCE = "eventName", "eventSource"
# Callers choose an eventName (of a call that fails, any at all), so what is remembered of them is bounded.
MOST_KEPT, LONGEST_KEPT = 20_000, 200
# Looking for more pieces of text takes longer than asking.
MOST_PIECES = 8
_PIECE = re.compile(r"[a-z0-9:._-]*[a-df-z][a-z0-9:._-]*")

Question = Callable[[Parts], bool]


@dataclass(frozen=True)
class Leaf:
    """A question about the field at ``path`` in a document, or with ``below`` all that is there and below it.

    ``path`` is None where it is about more than that.
    """

    asks: Predicate
    path: str | None = None
    below: bool = False
    # The values of which the field must have one, in lower case; None where that is not so simple.
    values: frozenset[str] | None = None
    # Parts of values, in lower case, one of which the JSON of the field must have in it, escapes aside; none is any.
    pieces: frozenset[str] = frozenset()

    @property
    def member(self) -> str | None:
        """The member of a record that holds the field, unless a member ``a.b`` does; an underscore stands for many."""
        parts = [] if self.path is None else self.path.split(".")
        return parts[0] if parts and "_" not in parts else None


@dataclass(frozen=True)
class Branch:
    """A bool query."""

    needed: tuple[Tree, ...]
    should: tuple[Tree, ...]
    excluded: tuple[Tree, ...]
    wanted: int


Tree = Union[Leaf, Branch, bool]


def tree(query: Mapping[str, Any], mapping: IndexMapping) -> Tree:
    """Return the tree of a query that ``compile_query`` takes."""
    ((kind, inner),) = query.items()
    if kind == "bool":
        needed, should, excluded, wanted = read_bool(inner)

        def trees(clauses: list[Any]) -> tuple[Tree, ...]:
            return tuple(tree(clause, mapping) for clause in clauses)

        return Branch(trees(needed), trees(should), trees(excluded), wanted)
    if kind in ("match_all", "match_none"):
        return kind == "match_all"
    asks = compile_query(query, mapping)
    if kind == "script":  # compares two fields
        return Leaf(asks)
    name, below = _about(kind, inner)
    if below or mapping.is_object(name):
        return Leaf(asks, name, below=True)
    found = mapping.field(name)
    if found is None or found.uncertain or found.type == "flattened":
        return Leaf(asks)
    if found.type != "keyword" or found.normalizer is not None:
        return Leaf(asks, found.source)
    spec = inner.get(name)
    values = frozenset(map(ascii_lower, _terms(kind, spec)))
    return Leaf(asks, found.source, values=values or None, pieces=_pieces(values or _pattern(kind, spec)))


def _about(kind: str, inner: Mapping[str, Any]) -> tuple[str, bool]:
    """The field that a question is about, and whether what is below it counts."""
    name = inner.get("field", "") if kind == "exists" else next(iter(inner))
    if name == "_ignored":  # holds the names of fields, so it is about the field that is named
        spec = inner[name]
        name = spec.get("value", "") if isinstance(spec, Mapping) else spec
        return (name[:-1], True) if kind == "prefix" else (name, False)
    return name.removesuffix(".*"), kind == "exists" and name.endswith(".*")


def _terms(kind: str, spec: Any) -> list[str]:
    if kind == "terms":
        listed = spec
    elif kind == "term":
        listed = [spec["value"] if isinstance(spec, Mapping) else spec]
    else:
        return []
    return listed if all(isinstance(value, str) for value in listed) else []


def _pattern(kind: str, spec: Any) -> list[str]:
    return [spec["value"] if isinstance(spec, Mapping) else spec] if kind in ("prefix", "wildcard") else []


def _pieces(values: Iterable[str]) -> frozenset[str]:
    """Of each value or pattern the longest part that JSON spells in one way; none where one of them has no such part.

    Digits alone could be a number, which JSON spells in many.
    """
    found = [max(_PIECE.findall(ascii_lower(value)), key=len, default="") for value in values]
    return frozenset(found) if all(found) and len(found) <= MOST_PIECES else frozenset()


def reduced(node: Tree, known: Document) -> Tree:
    """Return what is left of a tree once the fields in ``known`` have the values that they have there."""
    if isinstance(node, Branch):
        return _branch(node, known)
    return node.asks(known) if isinstance(node, Leaf) and node.path in known and not node.below else node


def _branch(node: Branch, known: Document) -> Tree:
    needed = []
    for part in node.needed:
        left = reduced(part, known)
        if left is False:
            return False
        if left is not True:
            needed.append(left)
    excluded = [reduced(part, known) for part in node.excluded]
    if True in excluded:
        return False
    should = [reduced(part, known) for part in node.should]
    wanted = node.wanted - should.count(True)
    should = [left for left in should if not isinstance(left, bool)] if wanted > 0 else []
    excluded = [left for left in excluded if left is not False]
    if len(should) < wanted:
        return False
    if not needed and not should and not excluded:
        return True
    return Branch(tuple(needed), tuple(should), tuple(excluded), max(wanted, 0))


def predicate(node: Tree) -> Question:
    """Return what asks the parts of a record what the tree asks."""
    if isinstance(node, bool):
        return lambda parts: node
    if isinstance(node, Leaf):
        return _remembered(node)
    needed, should, excluded = (tuple(map(predicate, part)) for part in (node.needed, node.should, node.excluded))
    return combined(needed, should, excluded, node.wanted)


def _remembered(leaf: Leaf) -> Question:
    member, asks = leaf.member, leaf.asks
    if member is None:
        return lambda parts: asks(parts.document())

    def remembered(parts: Parts) -> bool:
        facts = parts.facts(member)
        if facts is None:
            return asks(parts.document())
        answer = facts.get(asks)
        if answer is None:
            answer = facts[asks] = asks(parts.document(member))
        return answer

    return remembered


def required(node: Tree, path: str) -> frozenset[str] | None:
    """Return values, in lower case, one of which the field at ``path`` must have; None where it may have any."""
    if isinstance(node, Leaf):
        return node.values if node.path == path else None
    if isinstance(node, bool):
        return None if node else frozenset()
    found = [values for values in (required(part, path) for part in node.needed) if values is not None]
    if node.should and node.wanted >= 1:
        either = [required(part, path) for part in node.should]
        if None not in either:
            found.append(frozenset().union(*filter(None, either)))
    return min(found, key=len, default=None)


def written(node: Tree) -> list[frozenset[bytes]]:
    """Return what the JSON of a record that fulfils a tree has in it, in lower case: of each set, one at least.

    These are the names of the members that must be there, and parts of their values. JSON can write both with escapes;
    such a text is to be taken as one that has them all.
    """
    if isinstance(node, bool):
        return []
    if isinstance(node, Leaf):
        name = "" if node.path is None else node.path.rpartition(".")[2]
        # What is below a name can be written in one with it, "name.other".
        end = "" if node.below else '"'
        names = [f"{name}{end}"] if re.fullmatch(r"[A-Za-z][A-Za-z0-9:-]*", name) else []
        return [frozenset(one.lower().encode() for one in some) for some in (names, node.pieces) if some]
    found = [some for part in node.needed for some in written(part)]
    if node.should and node.wanted >= 1:
        either = [written(part) for part in node.should]
        if all(either):  # a value says more than a name, and comes after it
            found.append(_shortest(frozenset().union(*(some[-1] for some in either))))
    return list(dict.fromkeys(found))


def _shortest(texts: frozenset[bytes]) -> frozenset[bytes]:
    """Without those that have another in them: where they are, the other is."""
    return frozenset(one for one in texts if not any(other in one for other in texts if other != one))


Subject = TypeVar("Subject")
BELOW = ".*"


def members(node: Tree) -> frozenset[str] | None:
    """Return the members of a record that a query can depend on; None is any.

    ``a.b`` is a member ``b`` of the member ``a``, or a member ``a.b``. ``a.b.*`` is any member ``a.b.c``.
    """
    if isinstance(node, bool):
        return frozenset()
    if isinstance(node, Leaf):
        if node.path is None or node.member is None:
            return None
        parts = node.path.split(".")
        below = [node.path + BELOW] if node.below else []
        return frozenset([*below, *(".".join(parts[:count]) for count in range(1, len(parts) + 1))])
    found = [members(part) for part in (*node.needed, *node.should, *node.excluded)]
    return None if None in found else frozenset().union(*filter(None, found))


@dataclass(frozen=True, eq=False)
class Left(Generic[Subject]):
    """What is left for a source and a name: the subjects that can match, in order, each with what it asks.

    ``members`` are those of the record that the questions can depend on; None is any. ``written`` is of each subject
    what :func:`written` gives.
    """

    asks: tuple[tuple[Subject, Question], ...]
    members: frozenset[str] | None
    written: tuple[tuple[frozenset[bytes], ...], ...] = ()
    _possible: dict[tuple[bool, ...], tuple[tuple[Subject, Question], ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def subjects(self) -> frozenset[Subject]:
        """Those that can match."""
        return frozenset(subject for subject, _ in self.asks)

    @cached_property
    def few(self) -> bool:
        """Whether there is an end to the names of the members."""
        return self.members is not None and not any(name.endswith(BELOW) for name in self.members)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The members without a dot, which CloudTrail's records have."""
        return tuple(sorted(name for name in self.members or () if "." not in name))

    @cached_property
    def dotted(self) -> tuple[str, ...]:
        """The others: names like ``a.b``, which could stand for what is in ``a``."""
        return tuple(sorted(name for name in self.members or () if "." in name))

    @cached_property
    def strange(self) -> tuple[bytes, ...]:
        """What the text of a record that has other members of these names has in it. An escape could hide one."""
        return (b"\\u", *{f'"{name.partition(".")[0]}.'.encode() for name in self.dotted}) if self.dotted else ()

    @cached_property
    def _all_written(self) -> tuple[bytes, ...]:
        return tuple(sorted({one for sets in self.written for some in sets for one in some}))

    @cached_property
    def _gate(self) -> tuple[bytes, ...] | None:
        """A few texts one of which the record has in it whatever it is that matches; None where any may match.

        Most of what is left for a kind asks for the same few; values, which are found less often, come last in a set.
        """
        if not all(self.written):
            return None
        often = Counter(some for sets in self.written for some in set(sets))
        chosen = (max(reversed(sets), key=often.__getitem__) for sets in self.written)
        return tuple(sorted(_shortest(frozenset().union(*chosen))))

    def possible(self, text: bytes) -> tuple[tuple[Subject, Question], ...]:
        """Return what is left to ask of a record once it is known what its JSON has in it: mostly nothing."""
        if b"\\" in text and b"\\u" in text:  # an escape could hide a letter
            return self.asks
        text = text.lower()
        if self._gate is not None and not any(map(text.__contains__, self._gate)):
            return ()
        there = tuple(map(text.__contains__, self._all_written))
        found = self._possible.get(there)
        if found is None:
            held = {one for one, is_there in zip(self._all_written, there, strict=True) if is_there}
            pairs = zip(self.asks, self.written, strict=True)
            found = tuple(asks for asks, sets in pairs if all(not held.isdisjoint(some) for some in sets))
            if len(self._possible) >= MOST_KEPT:
                self._possible.clear()
            self._possible[there] = found
        return found

    def matching(self, parts: Parts) -> tuple[Subject, ...]:
        """Return the subjects that match a record."""
        return matching(self.asks, parts)


def matching(asks: Iterable[tuple[Subject, Question]], parts: Parts) -> tuple[Subject, ...]:
    """Return the subjects whose question a record answers with yes."""
    return tuple([subject for subject, question in asks if question(parts)])


class Specialised(Generic[Subject]):
    """Finds for an eventSource and an eventName which subjects (rules) can match, and what is left to ask for each.

    Parameters: ``trees`` has each subject's query; ``settles`` says whether a document holds the two as the record has
    them, under the same names. Where it does not, every subject is asked its whole query.
    """

    def __init__(self, trees: Iterable[tuple[Subject, Tree]], *, settles: bool) -> None:
        self._settles = settles
        self._any: list[int] = []
        self._named: dict[str, list[int]] = {}
        self._trees = list(trees)
        for place, (_, whole) in enumerate(self._trees):
            names = required(whole, NAME) if settles else None
            for name in sorted(names or ()):
                self._named.setdefault(name, []).append(place)
            if names is None:
                self._any.append(place)
        self._pairs: dict[tuple[str, str], Left[Subject]] = {}

    def _for(self, name: str) -> list[tuple[Subject, Tree]]:
        places = sorted(self._any + self._named.get(ascii_lower(name), []))
        return [self._trees[place] for place in places]

    def of(self, source: str, name: str) -> Left[Subject]:
        """Return what is left to ask of an event of this source and name."""
        found = self._pairs.get((source, name))
        if found is None:
            known = {SOURCE: source, NAME: name} if self._settles else {}
            reductions = [(subject, reduced(whole, known)) for subject, whole in self._for(name)]
            left = [(subject, rest) for subject, rest in reductions if rest is not False]
            needed = members(Branch(tuple(rest for _, rest in left), (), (), 0)) if self._settles else None
            texts = tuple(tuple(written(rest)) for _, rest in left)
            found = Left(tuple((subject, predicate(rest)) for subject, rest in left), needed, texts)
            if len(source) + len(name) <= LONGEST_KEPT:
                if len(self._pairs) >= MOST_KEPT:
                    self._pairs.clear()
                self._pairs[source, name] = found
        return found
