"""Several rules within a time, one rule after another, and silence, as one ES|QL query over the events themselves.

``STATS … WHERE`` counts the events of each rule apart, by group, in what a run looks at. It takes ``QSTR``, in which
the target ``esql`` asks what a rule asks, since Elasticsearch 8.19 and 9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keytrail import esql
from keytrail.convert import convert
from keytrail.correlation import Correlation, Every, Formula, Never, Seen, Some
from keytrail.correlation_plan import refused, shared_fields, turned
from keytrail.errors import Refused
from keytrail.kibana.detection import required_fields, searched
from keytrail.kibana.runs import Options, aligned, look_back, minutes, schedule, window
from keytrail.mapping import FieldType
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.verdict import Condition, Strays

MOST_FOUND = 1000  # groups of a run, as many as a rule may have alerts
MOST_SUPPRESSED = 3  # fields that alerts are suppressed by
DAY = 24 * 60  # minutes
Logic = tuple[dict[str, Any], tuple[Condition, ...]]


def together(rule: Rule, schema: Schema, options: Options) -> Logic:
    """Return the part of a rule's body for a correlation of a temporal type. Raises :class:`Refused`."""
    correlation = rule.correlation
    asked = _asked(rule, schema)
    if correlation.type == "temporal_ordered":
        first, then = (" OR ".join(asked.of[name] for name in step) for step in _two_steps(correlation))
        time = esql.column(schema.time)
        counts = [f"first_step = MIN({time}) WHERE {first}", f"second_step = MAX({time}) WHERE {then}"]
        # Some of the one comes before some of the other, or at the same time, which is in either order.
        found = "first_step <= second_step"
    else:
        columns = _columns(rule)
        counts = [f"{columns[name]} = COUNT(*) WHERE {asked.of[name]}" for name in correlation.rules]
        found = present(correlation, columns)
    made = _body(asked, counts, found, schema, options) | window(correlation, schema, options)
    made |= suppression(asked.groups, look_back(correlation, schema, options))
    return made, (*asked.conditions, aligned(correlation, made))


def silence(rule: Rule, schema: Schema, options: Options) -> Logic:
    """Return the part of a rule's body for too few events of a group that had some. Raises :class:`Refused`."""
    correlation = rule.correlation
    bounds = correlation.bounds
    if correlation.type != "event_count" or len(bounds) != 1 or bounds[0].operator not in ("lt", "lte"):
        raise Refused("of what may be missing, a rule of Kibana can say that there are fewer events than a number")
    if not correlation.group_by:
        raise Refused("where nothing is grouped by, a rule of Kibana has no row in which the events could be missing")
    asked = _asked(rule, schema)
    conditions = [turned(condition) for condition in asked.conditions]
    time, span = esql.column(schema.time), correlation.timespan // 1000
    # What is still on its way is not missing: the window ends where everything has arrived.
    end = options.lateness * 60
    begin = f"NOW() - {end + span} seconds"
    counts = [f"recent = COUNT(*) WHERE {time} >= {begin} AND {time} <= NOW() - {end} seconds"]
    few = bounds[0].number + (bounds[0].operator == "lte")
    back = max(DAY, 2 * minutes(correlation)) + options.lateness + options.interval
    made = _body(asked, counts, f"recent < {few} AND first_time <= {begin}", schema, options)
    made |= {**schedule(schema, options), "from": f"now-{back}m"}
    made |= suppression(asked.groups, minutes(correlation))
    who = "delivery by AWS decides when events arrive"
    text = f"every event is in the index {options.lateness} minutes after it happened, or is missed for good"
    arrived = Condition("arrived", "eventTime", schema.time, text, who, Strays.BOTH)
    text = (
        f"a group had an event in the {back:,} minutes before a run, and is silent for an interval more than its span"
    )
    known = Condition("known", "eventTime", schema.time, text, "nobody in particular", Strays.MISSES)
    return made, (*dict.fromkeys(conditions), arrived, known)


# -- what is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What each rule asks of an event in ES|QL, by the rule's name; the fields grouped by; and on what condition."""

    of: Mapping[str, str]
    groups: tuple[FieldType, ...]
    conditions: tuple[Condition, ...]
    required: list[dict[str, str]]


def _asked(rule: Rule, schema: Schema) -> _Asked:
    correlation = rule.correlation
    found: dict[Condition, None] = {}
    asked: dict[str, str] = {}
    for name, base in rule.references.items():
        made = convert(base, schema, "esql")
        if made.query is None:
            raise refused(name, made.error)
        asked[name] = esql.condition(made.query)
        found |= dict.fromkeys(made.query.conditions)
    groups, on_groups = shared_fields(correlation.group_fields, correlation.rules, schema)
    for group in groups:
        if group.root is not None:
            hint = "a schema that keeps it as a keyword, as ecs-custom does, can be grouped by it"
            raise Refused(f"ES|QL does not read {group.name}, a key of a flattened field", field=group.name, hint=hint)
    found |= dict.fromkeys((*on_groups, *map(_column, (group for group in groups if group.dynamic))))
    required = required_fields([searched(base, schema)[0] for base in rule.references.values()], schema)
    return _Asked(asked, tuple(groups), tuple(found), required)


def _column(group: FieldType) -> Condition:
    text = f"some event has had {group.name} (until then ES|QL knows no such column, and the rule's runs fail)"
    return Condition("column", group.name, group.name, text, "nobody in particular", Strays.MISSES)


def _columns(rule: Rule) -> dict[str, str]:
    """A column for each rule, which an alert then shows: how many of its events there were."""
    made: dict[str, str] = {}
    for number, (name, base) in enumerate(rule.references.items()):
        plain = re.fullmatch(r"[a-z][a-z0-9_]{0,80}", base.stem) and f"seen_{base.stem}" not in made.values()
        made[name] = f"seen_{base.stem}" if plain else f"seen_{number}"
    return made


def _body(asked: _Asked, counts: list[str], found: str, schema: Schema, options: Options) -> dict[str, Any]:
    time = esql.column(schema.time)
    groups = [esql.column(group.name) for group in asked.groups]
    there = "".join(f"{group} IS NOT NULL AND " for group in groups)
    columns = [*counts, f"first_time = MIN({time})", f"last_time = MAX({time})"]
    lines = [
        f"FROM {', '.join(map(esql.index_name, options.patterns(schema)))}",
        f"WHERE {there}({' OR '.join(dict.fromkeys(asked.of.values()))})",
        "STATS " + ",\n    ".join(columns) + (f"\n    BY {', '.join(groups)}" if groups else ""),
        f"WHERE {found}",
        f"LIMIT {MOST_FOUND}",
    ]
    known = {one["name"] for one in asked.required}
    more = [{"name": group.name, "type": group.type} for group in asked.groups if group.name not in known]
    return {
        "type": "esql",
        "language": "esql",
        "query": "\n| ".join(lines),
        "required_fields": sorted([*asked.required, *more], key=lambda one: one["name"]),
    }


# -- which rules have an event --------------------------------------------------------------------------------------


def present(correlation: Correlation, columns: Mapping[str, str]) -> str:
    """Return the condition on which rules have an event, or on how many have, of columns that count them."""
    if correlation.formula is not None:
        return _condition(correlation.formula, columns)
    many = " + ".join(f"CASE({columns[name]} > 0, 1, 0)" for name in correlation.rules)
    return " AND ".join(f"{many} {_OPERATORS[bound.operator]} {bound.number}" for bound in correlation.bounds)


_OPERATORS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "eq": "==", "neq": "!="}


def _condition(formula: Formula, columns: Mapping[str, str]) -> str:
    if isinstance(formula, Seen):
        return f"{columns[formula.rule]} > 0"
    if isinstance(formula, Never):
        return f"NOT ({_condition(formula.part, columns)})"
    joined = " AND " if isinstance(formula, Every) else " OR "
    return "(" + joined.join(_condition(part, columns) for part in formula.parts) + ")"


def _two_steps(correlation: Correlation) -> list[list[str]]:
    """The rules of the first step and those of the second. Raises :class:`Refused` for any other order."""
    formula = correlation.formula
    parts = formula.parts if isinstance(formula, Every) else tuple(map(Seen, correlation.rules))
    steps = [list(_alternatives(part)) for part in parts]
    if len(steps) != 2 or (formula is not None and not isinstance(formula, Every)):
        hint = "keytrail hunt --elasticsearch finds it"
        raise Refused(f"ES|QL can tell the order of two steps, and these are {len(steps)}", hint=hint)
    return steps


def _alternatives(formula: Formula) -> Iterator[str]:
    if isinstance(formula, Seen):
        yield formula.rule
    elif isinstance(formula, Some):
        for part in formula.parts:
            yield from _alternatives(part)
    else:
        raise Refused("ES|QL can tell the order of two steps, each one rule or any of several")


def suppression(groups: Sequence[FieldType], lasting: int) -> dict[str, Any]:
    """Return what keeps a finding from being an alert of every run that sees it: one alert in ``lasting`` minutes."""
    names = [group.name for group in groups]
    if not 0 < len(names) <= MOST_SUPPRESSED:
        return {}
    span = {"value": lasting, "unit": "m"}
    return {"alert_suppression": {"group_by": names, "duration": span, "missing_fields_strategy": "doNotSuppress"}}
