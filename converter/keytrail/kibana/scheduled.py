"""Correlations as Kibana's rules: a search that runs at intervals, where a correlation slides its window.

Counts and distinct values are a rule of the type ``threshold``. Several rules within a time, in order or not, and
silence are ES|QL over the events themselves (:mod:`keytrail.kibana.over_index`); where ES|QL cannot ask what one of the
rules asks, several rules within a time are ES|QL over the alerts of those rules. What none can say is refused.
"""

from __future__ import annotations

from typing import Any

from keytrail.correlation import Correlation
from keytrail.correlation_plan import shared_fields
from keytrail.errors import KeytrailError, Refused
from keytrail.kibana import over_alerts, over_index
from keytrail.kibana.detection import required_fields, searched
from keytrail.kibana.pills import pills
from keytrail.kibana.runs import Options, aligned, window
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.typed import BY_AWS
from keytrail.verdict import Condition, Strays

MOST_GROUPS = 3  # fields that a threshold groups by, up to Kibana 9.1
MOST_COUNTED = 3000  # different values, from which on Elasticsearch estimates how many there are
Logic = tuple[dict[str, Any], tuple[Condition, ...]]


def logic(rule: Rule, schema: Schema, options: Options) -> Logic:
    """Return a correlation's part of a rule's body, and its conditions. Raises :class:`Refused`."""
    correlation = rule.correlation
    if not correlation.rising:
        return over_index.silence(rule, schema, options)
    if not correlation.type.startswith("temporal"):
        return _threshold(rule, schema, options)
    try:
        return over_index.together(rule, schema, options)
    except KeytrailError as refused:
        if correlation.type == "temporal_ordered":
            raise
        try:
            return over_alerts.together(rule, schema, options)
        except KeytrailError as error:
            raise refused from error


def _threshold(rule: Rule, schema: Schema, options: Options) -> Logic:
    correlation = rule.correlation
    found = [searched(base, schema) for base in rule.references.values()]
    conditions = [condition for _, some in found for condition in some]
    grouped, on_groups = shared_fields(correlation.group_fields, correlation.rules, schema)
    groups = [one.name for one in grouped]
    if len(groups) > MOST_GROUPS:
        raise Refused(f"a threshold groups by {MOST_GROUPS} fields at most, not {len(groups)}")
    threshold: dict[str, Any] = {"field": groups, "value": _least(correlation)}
    conditions += on_groups
    if correlation.type == "value_count":
        counted, on_counted = shared_fields(correlation.value_fields, correlation.rules, schema)
        if len(counted) != 1 or counted[0].name in groups:
            raise Refused("a threshold counts the values of one field, which it does not group by")
        values = {"field": counted[0].name, "value": _least(correlation)}
        threshold = {"field": groups, "value": 1, "cardinality": [values]}
        conditions += on_counted
    queries = [query for query, _ in found]
    query = queries[0] if len(queries) == 1 else {"bool": {"should": queries, "minimum_should_match": 1}}
    # A key of a flattened field is counted wrongly unless the query says that it is there.
    there = [*groups, *(one["field"] for one in threshold.get("cardinality", ()))]
    query = {"bool": {"filter": [query, *({"exists": {"field": name}} for name in there)]}}
    made = {
        "type": "threshold",
        "language": "kuery",
        "query": "",
        "filters": pills(query, schema),
        **options.place(schema),
        "threshold": threshold,
        "required_fields": required_fields([query], schema),
        **window(correlation, schema, options),
    }
    conditions += _counting(correlation, schema)
    return made, (*dict.fromkeys(conditions), aligned(correlation, made))


def _least(correlation: Correlation) -> int:
    """The number from which on a count fulfils the condition."""
    bounds = correlation.bounds
    if len(bounds) != 1 or bounds[0].operator not in ("gt", "gte"):
        raise Refused("a threshold is a least number, and the condition is another")
    return max(1, bounds[0].number + (bounds[0].operator == "gt"))


def _counting(correlation: Correlation, schema: Schema) -> list[Condition]:
    """What must be so for Elasticsearch to count as the correlation does."""
    if correlation.type == "event_count":
        text = "no event comes twice (a threshold counts documents, the rule counts eventIDs)"
        return [Condition("once", "eventID", schema.index_name("eventID"), text, BY_AWS, Strays.ADDS)]
    if _least(correlation) <= MOST_COUNTED:
        return []
    name = correlation.fields[0]
    text = f"Elasticsearch estimates well how many values it has (it counts up to {MOST_COUNTED:,}, and then estimates)"
    return [Condition("counted", name, schema.index_name(name), text, "nobody in particular", Strays.BOTH)]
