"""Rules made ready for one eventSource and eventName: what is left to ask when both are known, which mostly is nothing.

Most rules begin with the two. With them settled, a rule's query becomes true, false, or a smaller query; an event whose
pair leaves no rule need not be read any further. The tree is that of the engine, and so are the answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Union

from keytrail.engine import Document, Predicate, ascii_lower, combined, compile_query, read_bool
from keytrail.mapping import IndexMapping

NAME, SOURCE = "eventName", "eventSource"
# Callers choose an eventName (of a call that fails, any at all), so what is remembered of them is bounded.
MOST_KEPT, LONGEST_KEPT = 20_000, 200


@dataclass(frozen=True)
class Leaf:
    """A question about the field at ``path`` in a document; None is about more than one field."""

    asks: Predicate
    path: str | None = None
    # The values of which the field must have one, in lower case; None where that is not so simple.
    values: frozenset[str] | None = None


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
    name = inner.get("field") if kind == "exists" else next(iter(inner))
    found = mapping.field(name)
    asks = compile_query(query, mapping)
    if found is None or found.uncertain or found.type == "flattened":
        return Leaf(asks)
    plain = found.type == "keyword" and found.normalizer is None
    values = frozenset(map(ascii_lower, _terms(kind, inner.get(name)))) if plain else None
    return Leaf(asks, found.source, values or None)


def _terms(kind: str, spec: Any) -> list[str]:
    if kind == "terms":
        listed = spec
    elif kind == "term":
        listed = [spec["value"] if isinstance(spec, Mapping) else spec]
    else:
        return []
    return listed if all(isinstance(value, str) for value in listed) else []


def reduced(node: Tree, known: Document) -> Tree:
    """Return what is left of a tree once the fields in ``known`` have the values that they have there."""
    if isinstance(node, Branch):
        return _branch(node, known)
    return node.asks(known) if isinstance(node, Leaf) and node.path in known else node


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


def predicate(node: Tree) -> Predicate:
    """Return the predicate of a tree."""
    if isinstance(node, bool):
        return lambda document: node
    if isinstance(node, Leaf):
        return node.asks
    needed, should, excluded = (tuple(map(predicate, part)) for part in (node.needed, node.should, node.excluded))
    return combined(needed, should, excluded, node.wanted)


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


Subject = TypeVar("Subject")


def members(node: Tree) -> frozenset[str] | None:
    """Return the members of a record that a query can depend on; None is any.

    ``a.b`` is a member ``b`` of the member ``a``, or a member ``a.b``; an underscore can stand for many names.
    """
    if isinstance(node, bool):
        return frozenset()
    if isinstance(node, Leaf):
        parts = [] if node.path is None else node.path.split(".")
        some = parts and "_" not in parts
        return frozenset(".".join(parts[:count]) for count in range(1, len(parts) + 1)) if some else None
    found = [members(part) for part in (*node.needed, *node.should, *node.excluded)]
    return None if None in found else frozenset().union(*filter(None, found))


@dataclass(frozen=True)
class Left(Generic[Subject]):
    """What is left for a source and a name: the subjects that can match, in order, each with its predicate.

    ``members`` are those of the record that the predicates can depend on; None is any.
    """

    asks: tuple[tuple[Subject, Predicate], ...]
    members: frozenset[str] | None


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
        self._busy: set[str] = set()
        self.idle: set[str] = set()
        """Names of events that no subject can match, whatever their source; only ever looked at, outside."""

    def is_idle(self, name: str) -> bool:
        """Tell whether no subject can match an event of this name, and remember it."""
        if name in self._busy or not self._settles:
            return False
        busy = any(reduced(whole, {NAME: name}) is not False for _, whole in self._for(name))
        if len(name) <= LONGEST_KEPT:
            kept = self._busy if busy else self.idle
            _make_room(kept)
            kept.add(name)
        return not busy

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
            found = Left(tuple((subject, predicate(rest)) for subject, rest in left), needed)
            if len(source) + len(name) <= LONGEST_KEPT:
                _make_room(self._pairs)
                self._pairs[source, name] = found
        return found


def _make_room(kept: set[str] | dict[Any, Any]) -> None:
    if len(kept) >= MOST_KEPT:
        kept.clear()
