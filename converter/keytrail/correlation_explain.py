"""Why a correlation has a hit among some events, or what is missing: its rules, its groups, the fullest window of each.

The tree has a ``correlation`` at its root. Below it is a ``base`` for each rule that it names (where no event matches
that, and the correlation has no hit, with the tree of the ``nearest``), ``unplaced`` for matching events that count for
no group, and a ``group`` for each, which holds where it has a hit. Its ``window`` says how much there is at most, and
when; below a group of a temporal correlation, ``seen`` says which of the rules occur. No more than MOST_GROUPS groups
are shown, those with hits first, and ``more`` says how many others there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from keytrail import correlation_engine
from keytrail.correlation import Correlation, Group, Searched, written
from keytrail.correlation_engine import Event, Mark, Marker, Sorter
from keytrail.correlation_hunt import Span
from keytrail.errors import RuleError
from keytrail.explain import Explainer, Node, Record
from keytrail.pack import Applied, Rule
from keytrail.schemas import Schema, get_schema
from keytrail.times import iso, milliseconds

MOST_GROUPS = 20
MOST_NEAREST = 200  # events among which the one that comes nearest to a rule is looked for
_WORDS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "fewer than", "eq": "exactly", "neq": "not"}


@dataclass(frozen=True)
class CorrelationExplanation:
    """Whether a correlation has a hit among the events, and its tree."""

    rule: Rule
    matches: bool
    tree: Node

    @property
    def excluded_by(self) -> tuple[Applied, ...]:
        """None: filters narrow its rules, and are in their trees."""
        return ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it, with the keys of any explanation."""
        bases = {node.text.partition(":")[0]: node.holds for node in self.tree.children if node.kind == "base"}
        return {
            "rule_id": self.rule.id,
            "rule": self.rule.stem,
            "matches": self.matches,
            "condition": [self.tree.text],
            "selections": bases,
            "lines": [],
            "excluded_by": [],
            "tree": self.tree.as_dict(),
        }


@dataclass
class _Base:
    """One of the rules that a correlation names, and what is known of its events."""

    name: str
    explainer: Explainer
    marker: Marker
    matched: int = 0
    unplaced: int = 0
    nearest: Node | None = None
    held: int = -1


@dataclass
class _Window:
    """The fullest window of a group: how much is in it, the rules that are, and when it is."""

    count: int = 0
    rules: frozenset[int] = frozenset()
    start: int = 0
    end: int = 0
    events: set[str] = field(default_factory=set)


def explain_correlation(
    rule: Rule, records: Iterable[Record], known: frozenset[Group] = frozenset(), searched: Searched | None = None
) -> CorrelationExplanation:
    """Explain a correlation on events, in any order.

    Parameters: ``known`` are the groups that are expected to have events; ``searched`` is the time that counts as
    searched, that from the first to the last event where it is not given. Raises :class:`RuleError` for a rule that is
    no correlation, or that names one which cannot be evaluated.
    """
    if rule.kind != "correlation":
        raise RuleError("this rule is about single events", path=rule.path, line=rule.line)
    schema, correlation = get_schema("keytrail"), rule.correlation
    bases = [_Base(name, Explainer(one), Marker(correlation, name, schema)) for name, one in rule.references.items()]
    sorter, span, total = Sorter(), Span(), 0
    for total, record in enumerate(records, start=1):
        span.take(milliseconds(record.get("eventTime")))
        for base in bases:
            sorter.add(_marks(base, schema, record, total))
    if searched is None:
        searched = Searched(span.first or 0, span.last or 0, known)
    groups = list(_groups(correlation, sorter, searched))
    groups.sort(key=lambda node: (not node.holds, -_count(node), node.text))
    matches = any(group.holds for group in groups)
    children = [_base(base, total, matches) for base in bases]
    children += [_unplaced(base, correlation) for base in bases if base.unplaced]
    children += groups[:MOST_GROUPS]
    if len(groups) > MOST_GROUPS:
        children.append(Node("more", f"{len(groups) - MOST_GROUPS} more groups", groups[MOST_GROUPS].holds))
    return CorrelationExplanation(rule, matches, Node("correlation", _text(correlation), matches, tuple(children)))


def _marks(base: _Base, schema: Schema, record: Record, number: int) -> list[Mark]:
    if not base.explainer.matches(record):
        if not base.matched and number <= MOST_NEAREST:
            tree = base.explainer.explain(record).tree
            held = sum(node.holds for node in tree.walk() if node.line is not None)
            if held > base.held:
                base.nearest, base.held = tree, held
        return []
    base.matched += 1
    found = list(base.marker.marks(Event(schema, schema.document(record), f"{number}")))
    base.unplaced += not found
    return found


# -- its parts ----------------------------------------------------------------------------------------------------


def _base(base: _Base, total: int, settled: bool) -> Node:
    text = f"{base.explainer.rule.stem}: {base.matched:,} of {total:,} events match"
    nearest: tuple[Node, ...] = ()
    if not base.matched and not settled and base.nearest is not None:
        nearest = (Node("nearest", "the event that comes nearest", False, (base.nearest,)),)
    return Node("base", text, base.matched > 0, nearest)


def _unplaced(base: _Base, correlation: Correlation) -> Node:
    fields = [*correlation.group_fields(base.name), *correlation.value_fields(base.name)]
    lacking = " or ".join(["eventTime", *fields])
    text = f"{base.unplaced:,} events of {base.explainer.rule.stem} have no {lacking}, and count for no group"
    return Node("unplaced", text, False)


def _groups(correlation: Correlation, sorter: Sorter, searched: Searched) -> Iterator[Node]:
    """Each group as the engine judges it, with its fullest window."""
    left = set(searched.known)
    inside = (mark for mark in sorter.sorted() if searched.start <= mark.time <= searched.end)
    for group, found in groupby(inside, key=attrgetter("group")):
        left.discard(group)
        yield _group(correlation, group, list(found), searched)
    for group in sorted(left):
        yield _group(correlation, group, [], searched)


def _group(correlation: Correlation, group: Group, marks: Sequence[Mark], searched: Searched) -> Node:
    known = searched.known & {group}
    hits = list(correlation_engine.episodes(correlation, marks, Searched(searched.start, searched.end, known)))
    best = _fullest(correlation, marks)
    names = ", ".join(f"{name}={value}" for name, value in zip(correlation.group_by, group, strict=True))
    when = f"{iso(best.start)} to {iso(best.end)}" if marks else "none at all"
    window: dict[str, Any] = {"group": dict(zip(correlation.group_by, group, strict=True)), "count": best.count}
    window |= {"from": iso(best.start), "to": iso(best.end)} if marks else {"from": None, "to": None}
    window |= {"events": len(best.events), "hits": [{"from": iso(hit.start), "to": iso(hit.end)} for hit in hits]}
    children: list[Node] = []
    if correlation.rising:
        text = f"{best.count:,} {_counted(correlation)} in the fullest {_span(correlation)}, {when}"
    else:
        gap = max((b - a for a, b in _gaps(marks, searched, bool(known))), default=0)
        window["longest_gap"] = gap // 1000
        text = f"{len({mark.identity for mark in marks}):,} events, the longest time without one {_long(gap)}"
    if correlation.type.startswith("temporal"):
        children = [
            Node("seen", f"{name} {'occurs' if number in best.rules else 'does not occur'}", number in best.rules)
            for number, name in enumerate(correlation.rules)
        ]
    return Node("group", f"{names or 'all events'}: {text}", bool(hits), tuple(children), window=window)


def _count(node: Node) -> int:
    return int(node.window["count"]) if node.window is not None else 0


def _fullest(correlation: Correlation, marks: Sequence[Mark]) -> _Window:
    """The window with most in it of what is counted; windows that end at an event are enough."""
    kind = attrgetter({"event_count": "identity", "value_count": "value"}.get(correlation.type, "rule"))
    counts: Counter[Any] = Counter()
    best, first = _Window(), 0
    for last, mark in enumerate(marks):
        counts[kind(mark)] += 1
        while marks[first].time < mark.time - correlation.timespan:
            gone = kind(marks[first])
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
            first += 1
        if len(counts) > best.count:
            best = _Window(len(counts), start=marks[first].time, end=mark.time)
            place = (first, last + 1)
    if marks:
        inside = marks[slice(*place)]
        best.rules = frozenset(mark.rule for mark in inside)
        best.events = {mark.identity for mark in inside}
    return best


def _gaps(marks: Sequence[Mark], searched: Searched, known: bool) -> Iterator[tuple[int, int]]:
    """The times between one event and the next, up to the end of what was searched."""
    times = [mark.time for mark in marks]
    starts = [searched.start, *times] if known else times
    yield from zip(starts, [*times, searched.end][len(times) + 1 - len(starts) :], strict=True)


# -- words --------------------------------------------------------------------------------------------------------


def _text(correlation: Correlation) -> str:
    if correlation.formula is not None:
        what = f"{correlation.type} {written(correlation.formula)}"
    else:
        bounds = " and ".join(f"{_WORDS[bound.operator]} {bound.number:,}" for bound in correlation.bounds)
        what = f"{bounds} {_counted(correlation, bare=True)}"
    by = f", by {', '.join(correlation.group_by)}" if correlation.group_by else ""
    return f"{what} within {_span(correlation)}{by}"


def _counted(correlation: Correlation, bare: bool = False) -> str:
    fields = ", ".join(correlation.fields)
    names = {"event_count": "events", "value_count": f"different values of {fields}"}
    word = names.get(correlation.type, "of its rules")
    if bare or not correlation.bounds:
        return word
    wanted = " and ".join(f"{_WORDS[bound.operator]} {bound.number:,}" for bound in correlation.bounds)
    return f"{word} (wanted: {wanted})"


def _span(correlation: Correlation) -> str:
    return _long(correlation.timespan)


def _long(milliseconds: int) -> str:
    """A duration as Sigma writes it, in the largest units that fit."""
    seconds, parts = milliseconds // 1000, []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return "".join(parts[:2]) or "0s"
