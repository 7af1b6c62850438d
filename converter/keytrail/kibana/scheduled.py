"""Correlations as Kibana's rules: a search that runs at intervals, where a correlation slides its window.

Counts and distinct values of one index's events are a rule of the type ``threshold``. Several rules within a time are
an ES|QL rule over the alerts of those rules, where the alerts keep what they are grouped by. What neither can say is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from keytrail.correlation import Correlation, Every, Formula, Never, Seen, Some
from keytrail.errors import Refused
from keytrail.kibana.detection import INGESTED, Options, required_fields, schedule, searched
from keytrail.kibana.pills import pills
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.typed import BY_AWS
from keytrail.verdict import Condition, Strays

MOST_GROUPS = 3  # fields that a threshold groups by, up to Kibana 9.1
ALERTS = ".alerts-security.alerts-"
# Of an event, an alert keeps everything and indexes what ECS names: by nothing else can alerts be grouped.
ECS_SETS = ("cloud.", "user.", "source.", "event.", "error.", "user_agent.")
MOST_FOUND = 1000  # groups of a run, as many as a rule may have alerts
MINUTE = 60_000
Logic = tuple[dict[str, Any], tuple[Condition, ...]]


def logic(rule: Rule, schema: Schema, options: Options) -> Logic:
    """Return a correlation's part of a rule's body, and its conditions. Raises :class:`Refused`."""
    correlation = rule.correlation
    if not correlation.rising:
        raise Refused("a rule of Kibana sees the groups that have events, and never the one that has none")
    if correlation.type == "temporal_ordered":
        hint = "keytrail hunt --elasticsearch finds it"
        raise Refused("no rule of Kibana that could be proven here keeps the order of events", hint=hint)
    if correlation.type == "temporal":
        return _over_alerts(rule, schema, options)
    return _threshold(rule, schema, options)


# -- counts -------------------------------------------------------------------------------------------------------


def _threshold(rule: Rule, schema: Schema, options: Options) -> Logic:
    correlation = rule.correlation
    found = [searched(base, schema) for base in rule.references.values()]
    groups = [_grouped(name, correlation, schema) for name in correlation.group_by]
    if len(groups) > MOST_GROUPS:
        raise Refused(f"a threshold groups by {MOST_GROUPS} fields at most, not {len(groups)}")
    number = _least(correlation)
    threshold: dict[str, Any] = {"field": groups, "value": number}
    if correlation.type == "value_count":
        counted = [schema.index_name(name) for name in correlation.fields]
        if len(counted) != 1 or counted[0] in groups:
            raise Refused("a threshold counts the values of one field, which it does not group by")
        threshold = {"field": groups, "value": 1, "cardinality": [{"field": counted[0], "value": number}]}
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
        "index": options.patterns(schema),
        "threshold": threshold,
        "required_fields": required_fields([query], schema),
        **_window(correlation, schema, options),
    }
    conditions = [condition for _, some in found for condition in some]
    if correlation.type == "event_count":
        text = "no event comes twice (a threshold counts documents, the rule counts eventIDs)"
        conditions.append(Condition("once", "eventID", schema.index_name("eventID"), text, BY_AWS, Strays.ADDS))
    return made, (*dict.fromkeys(conditions), _aligned(correlation, made))


def _least(correlation: Correlation) -> int:
    """The number from which on a count fulfils the condition."""
    bounds = correlation.bounds
    if len(bounds) != 1 or bounds[0].operator not in ("gt", "gte"):
        raise Refused("a threshold is a least number, and the condition is another")
    return max(1, bounds[0].number + (bounds[0].operator == "gt"))


def _grouped(name: str, correlation: Correlation, schema: Schema) -> str:
    if name in correlation.aliases:
        raise Refused(f"{name} stands for a field of each rule, and a threshold groups by one field of all events")
    return schema.index_name(name)


def _window(correlation: Correlation, schema: Schema, options: Options) -> dict[str, Any]:
    """Look back over the timespan and an interval more: every window ends within some run's look-back."""
    made = schedule(schema, options)
    span = -(-correlation.timespan // MINUTE)
    late = 0 if made.get("timestamp_override") == INGESTED else options.lateness
    return {**made, "from": f"now-{span + options.interval + late}m"}


def _aligned(correlation: Correlation, made: Mapping[str, Any]) -> Condition:
    span = correlation.timespan // 1000
    back, every = made["from"].removeprefix("now-"), made["interval"]
    text = f"what a run finds together, looking back {back} every {every}, is within {span:,} s of each other as well"
    who = "whoever makes the calls chooses when; delivery by AWS decides when they arrive"
    return Condition("aligned", "eventTime", str(made.get("timestamp_override", "@timestamp")), text, who, Strays.BOTH)


# -- several rules within a time ------------------------------------------------------------------------------------


def _over_alerts(rule: Rule, schema: Schema, options: Options) -> Logic:
    """An ES|QL rule over the alerts of the rules that a correlation names."""
    correlation = rule.correlation
    conditions = [condition for base in rule.references.values() for condition in searched(base, schema)[1]]
    groups = [_grouped(name, correlation, schema) for name in correlation.group_by]
    lost = [name for name in groups if not name.startswith(ECS_SETS)]
    if lost:
        hint = "keytrail hunt --elasticsearch finds it; or group by a field of ECS"
        raise Refused(f"alerts do not index {lost[0]}, so they cannot be grouped by it", field=lost[0], hint=hint)
    ids = {name: base.id for name, base in rule.references.items()}
    columns = {name: f"rule_{number}" for number, name in enumerate(ids)}
    named = ", ".join(map(json.dumps, ids.values()))
    there = "".join(f" AND {_name(name)} IS NOT NULL" for name in groups)
    counts = ", ".join(
        f"{column} = COUNT(CASE(kibana.alert.rule.rule_id == {json.dumps(ids[name])}, 1, null))"
        for name, column in columns.items()
    )
    lines = [
        f"FROM {ALERTS}{options.space}",
        f"WHERE kibana.alert.rule.rule_id IN ({named}){there}",
        f"STATS {counts}" + (f" BY {', '.join(map(_name, groups))}" if groups else ""),
        f"WHERE {_present(correlation, columns)}",
        f"LIMIT {MOST_FOUND}",
    ]
    span = -(-correlation.timespan // MINUTE)
    made: dict[str, Any] = {
        "type": "esql",
        "language": "esql",
        "query": "\n| ".join(lines),
        "interval": f"{options.interval}m",
        "from": f"now-{span + options.interval}m",
        "to": "now",
        "required_fields": [{"name": "kibana.alert.rule.rule_id", "type": "keyword"}],
    }
    stems = ", ".join(base.stem for base in rule.references.values())
    text = f"these rules run in this space, and no exception or suppression takes their alerts away: {stems}"
    running = Condition("alerts", "*", f"{ALERTS}{options.space}", text, "analysts of the space", Strays.MISSES)
    return made, (*dict.fromkeys(conditions), running, _aligned(correlation, made))


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _present(correlation: Correlation, columns: Mapping[str, str]) -> str:
    """The condition on which rules have an alert, or on how many have."""
    if correlation.formula is not None:
        return _condition(correlation.formula, columns)
    many = " + ".join(f"CASE({column} > 0, 1, 0)" for column in columns.values())
    return " AND ".join(f"{many} {_OPERATORS[bound.operator]} {bound.number}" for bound in correlation.bounds)


_OPERATORS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "==", "neq": "!="}


def _condition(formula: Formula, columns: Mapping[str, str]) -> str:
    if isinstance(formula, Seen):
        return f"{columns[formula.rule]} > 0"
    if isinstance(formula, Never):
        return f"NOT ({_condition(formula.part, columns)})"
    assert isinstance(formula, (Every, Some))
    joined = " AND " if isinstance(formula, Every) else " OR "
    return "(" + joined.join(_condition(part, columns) for part in formula.parts) + ")"
