"""How Elasticsearch finds a correlation: the plan of two steps that ``convert`` prints and ``correlation_search`` runs.

No single search can slide a window. The first step counts in buckets of one timespan, by group: a window touches two of
them at most, so what two neighbours have together bounds what any window has, and most groups are done with. The second
step fetches the events of the groups and times that are left, and decides in this process what is a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from keytrail.correlation import Correlation
from keytrail.errors import KeytrailError, Refused
from keytrail.mapping import FieldType
from keytrail.resolved import Exists, Leaf, Pattern, Wild
from keytrail.schemas import Schema
from keytrail.typed import BY_AWS, typed
from keytrail.verdict import Condition, Query, Strays

PAGE = 10_000  # buckets or hits in an answer; the most that an index gives by default
_FIRST = "Add to each query a range of {time}, what is searched; open a point in time, so that all answers agree."
_LAST = "Decide on those events which windows of {seconds} s match, as docs/correlations.md says."
STEPS = (
    _FIRST,
    "candidates: page through the buckets of each rule with after_key. For each group, add up what all rules have in a "
    "bucket and in the next. Where that cannot fulfil the condition, no window can that begins there.",
    "events: fetch, for each rule, the events of the groups and buckets that are left, page by page with search_after.",
    _LAST,
)
SILENCE = (
    _FIRST,
    "events: fetch the events of each rule, page by page with search_after. There are no candidates to count: a window "
    "without an event may match as well, and is in no bucket.",
    _LAST,
)


def plan(correlation: Correlation, queries: Mapping[str, Query], schema: Schema) -> Query:
    """Return the plan of a correlation, with the conditions under which it is exact.

    Parameters: ``queries`` has the Query DSL of each rule that the correlation names. Raises :class:`Refused` where the
    index cannot tell groups or values apart, or where the query of a rule strays to the wrong side.
    """
    found: dict[Condition, None] = {}
    rules = {}
    for name in correlation.rules:
        groups, on_groups = fields(correlation.group_fields(name), schema)
        values, on_values = fields(correlation.value_fields(name), schema)
        found |= dict.fromkeys((*queries[name].conditions, *on_groups, *on_values))
        rules[name] = _searches(correlation, queries[name].body["query"], groups, values, schema)
    conditions = tuple(found) if correlation.rising else tuple(turned(condition) for condition in found)
    text = [step.format(time=schema.time, seconds=correlation.timespan // 1000) for step in _steps(correlation)]
    return Query({"correlation": correlation.as_dict(), "rules": rules, "steps": text}, conditions)


def _steps(correlation: Correlation) -> Iterable[str]:
    return STEPS if correlation.rising else SILENCE


def turned(condition: Condition) -> Condition:
    """The condition where events can be missing: one that is not found looks like silence, or hides the whole group.

    One that is taken for an event hides the silence, and nobody may be able to do that on purpose.
    """
    if condition.strays is Strays.ADDS and condition.breaker == BY_AWS:
        return replace(condition, strays=Strays.MISSES)
    if condition.strays is not Strays.MISSES and condition.breaker != BY_AWS:
        what = f"something else could be taken for an event, and hide that there is none, unless {condition.text}"
        raise Refused(
            what, field=condition.field, hint="a schema that keeps the field as a keyword can tell them apart"
        )
    return replace(condition, strays=Strays.BOTH)


# -- fields -------------------------------------------------------------------------------------------------------


def fields(names: Iterable[str], schema: Schema) -> tuple[list[FieldType], list[Condition]]:
    """Return the fields whose values tell groups apart, and what must be so for that to be exact.

    Raises :class:`Refused` where the index cannot tell them apart, :class:`UnmappedField` where it has none.
    """
    found: list[FieldType] = []
    conditions: list[Condition] = []
    for name in names:
        one, on_it = _field(name, schema)
        found.append(one)
        conditions += on_it
    return found, conditions


def shared_fields(
    of: Callable[[str], Iterable[str]], rules: Iterable[str], schema: Schema
) -> tuple[list[FieldType], list[Condition]]:
    """Return the fields that the events of all ``rules`` are grouped by, or counted by, with the conditions of that.

    Parameters: ``of`` returns a rule's own names of these fields. Raises :class:`Refused` where they are others in the
    events of one rule than in another's.
    """
    each = [fields(of(name), schema) for name in rules]
    if any(found != each[0][0] for found, _ in each):
        raise Refused("one search groups all events by one field, and the rules have different ones here")
    return each[0][0], [condition for _, some in each for condition in some]


def _field(name: str, schema: Schema) -> tuple[FieldType, tuple[Condition, ...]]:
    """The field whose values tell groups apart, and what must be so for that to be exact.

    It has to answer two tests that rules make as well: whether there is a value, and how a value begins. On which
    conditions it does is known from them.
    """
    index_name = schema.index_name(name)
    rule_name = schema.rule_name(index_name)
    _, whole = typed(Leaf(index_name, Pattern(("a", Wild.MANY)), rule_name), schema)
    _, there = typed(Leaf(index_name, Exists(), rule_name), schema)
    found = schema.field(index_name)
    if found is not None and found.type == "text":
        found = schema.companion(found, "keyword")
    assert found is not None  # how a value begins can be asked of a field alone
    if found.normalizer is not None:
        reason = f"{rule_name} ({found.name}): its normalizer {found.normalizer!r} makes one value of several"
        raise Refused(reason, field=rule_name, hint="add a keyword sub-field without one")
    return found, tuple(dict.fromkeys((*whole, *there)))


# -- searches -----------------------------------------------------------------------------------------------------


def _searches(
    correlation: Correlation, query: Mapping[str, Any], groups: list[FieldType], values: list[FieldType], schema: Schema
) -> dict[str, Any]:
    """The searches for one rule's events, first counted and then fetched."""
    # A key of a flattened field is aggregated wrongly unless the query says that it exists.
    needed = dict.fromkeys([schema.time, *(found.name for found in (*groups, *values))])
    wanted = {"bool": {"filter": [query, *({"exists": {"field": name}} for name in needed)]}}
    sources = [schema.time, schema.index_name("eventID"), *(found.source for found in (*groups, *values))]
    events = {
        "query": wanted,
        "sort": [{schema.time: "asc"}, {"_shard_doc": "asc"}],
        "_source": list(dict.fromkeys(sources)),
        "size": PAGE,
        "track_total_hits": False,
    }
    shape: dict[str, Any] = {"group_fields": [found.name for found in groups]}
    if not correlation.rising:
        return {**shape, "events": events}
    return {**shape, "candidates": _candidates(correlation, wanted, groups, values, schema), "events": events}


def _candidates(
    correlation: Correlation,
    wanted: Mapping[str, Any],
    groups: list[FieldType],
    values: list[FieldType],
    schema: Schema,
) -> dict[str, Any]:
    interval = {"field": schema.time, "fixed_interval": f"{correlation.timespan // 1000}s"}
    sources: list[dict[str, Any]] = [
        {f"group_{number}": {"terms": {"field": found.name}}} for number, found in enumerate(groups)
    ]
    buckets: dict[str, Any] = {
        "composite": {"size": PAGE, "sources": [*sources, {"bucket": {"date_histogram": interval}}]}
    }
    if len(values) == 1:
        buckets["aggs"] = {"values": {"value_count": {"field": values[0].name}}}
    return {"size": 0, "track_total_hits": False, "query": wanted, "aggs": {"buckets": buckets}}


def not_a_query() -> Refused:
    """Return the reason why a target other than Query DSL has nothing for a correlation."""
    return Refused("no query of this language slides a window", hint="convert it to query-dsl: a plan of two steps")


def refused(name: str, error: KeytrailError | None) -> Refused:
    """Return the reason why a correlation has no plan when one of its rules has no query."""
    why = "" if error is None else f": {error.message}"
    return Refused(f"the rule {name} that it names has no query{why}")
