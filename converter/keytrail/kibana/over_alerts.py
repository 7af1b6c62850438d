"""Several rules within a time, as ES|QL over the alerts that those rules have raised in the space.

For rules that ES|QL cannot ask the events themselves about. An alert keeps the event that it is about and indexes what
ECS names of it, so that only by those fields alerts can be grouped.
"""

from __future__ import annotations

import json
from typing import Any

from keytrail import esql
from keytrail.correlation import Correlation
from keytrail.correlation_plan import shared_fields
from keytrail.errors import Refused
from keytrail.kibana.detection import searched
from keytrail.kibana.over_index import MOST_FOUND, present, suppression
from keytrail.kibana.runs import Options, aligned, minutes
from keytrail.mapping import FieldType
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.verdict import Condition, Strays

ALERTS = ".alerts-security.alerts-"
ECS_SETS = ("cloud.", "user.", "source.", "event.", "error.", "user_agent.")
RULE_ID = "kibana.alert.rule.rule_id"
Logic = tuple[dict[str, Any], tuple[Condition, ...]]


def together(rule: Rule, schema: Schema, options: Options) -> Logic:
    """Return the part of a rule's body for a correlation of the type ``temporal``. Raises :class:`Refused`."""
    correlation = rule.correlation
    if rule.site is not None and rule.own.keys() & {"scope", "allow"}:
        raise Refused("the alerts are not those of the rules as the correlation narrows them for itself")
    conditions = [condition for base in rule.references.values() for condition in searched(base, schema)[1]]
    found = _groups(correlation, schema)
    groups = [group.name for group in found]
    columns = {name: f"rule_{number}" for number, name in enumerate(rule.references)}
    ids = {name: json.dumps(base.id) for name, base in rule.references.items()}
    there = "".join(f" AND {esql.column(name)} IS NOT NULL" for name in groups)
    counts = ", ".join(f"{column} = COUNT(*) WHERE {RULE_ID} == {ids[name]}" for name, column in columns.items())
    lines = [
        f"FROM {ALERTS}{options.space}",
        f"WHERE {RULE_ID} IN ({', '.join(ids.values())}){there}",
        f"STATS {counts}" + (f" BY {', '.join(map(esql.column, groups))}" if groups else ""),
        f"WHERE {present(correlation, columns)}",
        f"LIMIT {MOST_FOUND}",
    ]
    made: dict[str, Any] = {
        "type": "esql",
        "language": "esql",
        "query": "\n| ".join(lines),
        "interval": f"{options.interval}m",
        "from": f"now-{minutes(correlation) + options.interval}m",
        "to": "now",
        "required_fields": [{"name": RULE_ID, "type": "keyword"}],
        **suppression(found, minutes(correlation) + options.interval),
    }
    stems = ", ".join(base.stem for base in rule.references.values())
    text = f"these rules run in this space, and no exception or suppression takes their alerts away: {stems}"
    running = Condition("alerts", "*", f"{ALERTS}{options.space}", text, "analysts of the space", Strays.MISSES)
    return made, (*dict.fromkeys(conditions), running, aligned(correlation, made))


def _groups(correlation: Correlation, schema: Schema) -> list[FieldType]:
    groups, _ = shared_fields(correlation.group_fields, correlation.rules, schema)
    lost = [group.name for group in groups if not group.name.startswith(ECS_SETS)]
    if lost:
        raise Refused(f"alerts do not index {lost[0]}, so they cannot be grouped by it", field=lost[0])
    return groups
