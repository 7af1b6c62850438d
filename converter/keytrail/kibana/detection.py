"""Detection rules for Kibana: what the API takes to create each, made of the rules and their queries.

A rule about single events becomes a rule of the type ``query`` whose Query DSL stands in named filters, so that it
means in Kibana just what it means in Elasticsearch. What becomes of correlations is in
:mod:`keytrail.kibana.scheduled`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keytrail import script, telemetry
from keytrail.convert import Conversion, convert
from keytrail.errors import KeytrailError, Refused
from keytrail.kibana import attack
from keytrail.kibana.body import check
from keytrail.kibana.pills import pills
from keytrail.kibana.runs import Options, schedule
from keytrail.mapping import FieldType
from keytrail.pack import Rule, only_correlated
from keytrail.schemas import Schema
from keytrail.verdict import Condition

__all__ = ["OWN_TAG", "DetectionRule", "Options", "detection_rule", "detection_rules"]

OWN_TAG = "Keytrail"
SCORES = {"informational": 5, "low": 21, "medium": 47, "high": 73, "critical": 99}
MEANING = (
    *("type", "query", "language", "filters", "index", "data_view_id", "threshold", "alert_suppression"),
    *("building_block_type", "severity", "timestamp_override", "interval", "from"),
)
GENERATED = "Keytrail"
CATALOGUE = ("normal", "key", "use", "trail", "bucket", "correlations")  # the folders of the pack


@dataclass(frozen=True)
class DetectionRule:
    """A rule as Kibana's API takes it, with the rule it is made of and the conditions under which it is exact.

    ``notes`` say what of the rule has no place in the body.
    """

    rule: Rule
    body: Mapping[str, Any]
    conditions: tuple[Condition, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``exact`` or ``exact if``."""
        return "exact if" if self.conditions else "exact"


def detection_rules(
    rules: Iterable[Rule], schema: Schema, options: Options
) -> tuple[list[DetectionRule], list[Conversion]]:
    """Return the rules as Kibana takes them, and those that have none, each with the reason."""
    made, refused = [], []
    given = list(rules)
    quiet = only_correlated(given)
    for rule in given:
        try:
            made.append(detection_rule(rule, schema, options, building_block=rule.id in quiet))
        except KeytrailError as error:
            if error.path is None:
                error.path, error.line = str(rule.path), rule.line_of("correlation")
            refused.append(Conversion(rule, schema, None, error))
    return made, refused


def detection_rule(rule: Rule, schema: Schema, options: Options, *, building_block: bool = False) -> DetectionRule:
    """Return one rule as Kibana takes it; a ``building_block`` has alerts that analysts are not shown.

    Raises :class:`Refused`, or what else stands in the way of a query.
    """
    from keytrail.kibana import scheduled  # which needs the parts of this module

    if rule.kind == "correlation":
        logic, conditions = scheduled.logic(rule, schema, options)
    else:
        logic, conditions = _single(rule, schema, options)
    body = {**_described(rule, schema, conditions), **logic}
    if building_block or rule.level == "informational":
        # It describes what is normal, or is there for a correlation: its alerts stay out of the analysts' way.
        body["building_block_type"] = "default"
    body["version"] = version_of(rule.id, body, options.versions)[0]
    check(body)
    return DetectionRule(rule, dict(sorted(body.items())), conditions, tuple(_notes(rule)))


def _notes(rule: Rule) -> Iterator[str]:
    for name in attack.read(map(str, rule.document.get("tags") or ())).unknown:
        yield f"{rule.stem}: ATT&CK's {name} is not known here; it is a tag of the rule, and not in its threat"


def _single(rule: Rule, schema: Schema, options: Options) -> tuple[dict[str, Any], tuple[Condition, ...]]:
    query, conditions = searched(rule, schema)
    logic: dict[str, Any] = {
        "type": "query",
        "language": "kuery",
        "query": "",
        "filters": pills(query, schema),
        **options.place(schema),
        "required_fields": required_fields([query], schema),
        **schedule(schema, options),
    }
    return logic, conditions


def searched(rule: Rule, schema: Schema) -> tuple[Mapping[str, Any], tuple[Condition, ...]]:
    """Return the Query DSL of a rule with its conditions; raises the error where there is none."""
    made = convert(rule, schema)
    if made.query is None:
        raise made.error or Refused("there is no query")
    return made.query.body["query"], made.query.conditions


# -- what a person reads ------------------------------------------------------------------------------------------


def _described(rule: Rule, schema: Schema, conditions: tuple[Condition, ...]) -> dict[str, Any]:
    document = rule.document
    tags = [str(tag) for tag in document.get("tags") or ()]
    made: dict[str, Any] = {
        "rule_id": rule.id,
        "name": rule.title,
        "description": str(document.get("description") or rule.title).strip(),
        "severity": "low" if rule.level == "informational" else rule.level,
        "risk_score": SCORES[rule.level],
        "tags": [*_tags(rule), *tags],
        "author": [str(document.get("author") or GENERATED)],
        "license": str(document.get("license") or ""),
        "references": [str(one) for one in document.get("references") or ()],
        "false_positives": [str(one) for one in document.get("falsepositives") or ()],
        "threat": attack.threats(tags),
        "max_signals": 1000,
        "note": _guide(rule),
        "setup": _setup(rule, conditions),
    }
    if schema.integration:
        made["related_integrations"] = [dict(schema.integration)]
    return made


def _tags(rule: Rule) -> list[str]:
    """What analysts look rules up by: whose they are, what they are about, how severe, from where in the catalogue."""
    folder = rule.path.parent.name
    catalogue = [f"Catalogue: {folder}"] if folder in CATALOGUE else []
    about = ("Domain: Cloud", "Data Source: AWS CloudTrail", f"Level: {rule.level}", f"Rule: {rule.stem}")
    return [OWN_TAG, *about, *catalogue]


def _guide(rule: Rule) -> str:
    """The investigation guide: the rule's steps of triage, in Markdown."""
    steps = rule.own_texts("triage")
    if not steps:
        return ""
    listed = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return f"## Triage\n\n{listed}\n"


def _setup(rule: Rule, conditions: tuple[Condition, ...]) -> str:
    parts = [] if rule.levelled is None else [f"The level is the site's: {rule.levelled}."]
    kinds = [name for word in telemetry.words(rule) for name in telemetry.NEEDS.get(word, {word: ()})]
    if kinds:
        parts.append("Without these events in the index the rule sees nothing:\n\n" + _bullets(kinds))
    if conditions:
        said = [f"{one.field}: {one.text} ({one.strays.value} events otherwise; {one.breaker})" for one in conditions]
        parts.append("The rule means what it says as long as:\n\n" + _bullets(said))
    return "\n\n".join(parts)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in dict.fromkeys(lines))


# -- what machines read -------------------------------------------------------------------------------------------


def required_fields(queries: Iterable[Mapping[str, Any]], schema: Schema) -> list[dict[str, str]]:
    """Return the fields that queries ask for, with their types."""
    found: dict[str, FieldType] = {}
    for query in queries:
        for name in _asked(query):
            known = schema.field(name)
            if known is not None:
                found[name] = known
    return [{"name": name, "type": found[name].type} for name in sorted(found)]


def _asked(query: Mapping[str, Any]) -> Iterator[str]:
    for kind, inner in query.items():
        if kind == "bool":
            for part in inner.values():
                for clause in part if isinstance(part, list) else [part]:
                    if isinstance(clause, Mapping):
                        yield from _asked(clause)
        elif kind == "exists":
            yield inner["field"]
        elif kind == "script":
            yield from (script.parameters(inner) or ())[:2]
        elif isinstance(inner, Mapping) and "_ignored" not in inner:
            yield from inner


def meaning(body: Mapping[str, Any]) -> str:
    """Return a digest of what a rule means: of what it searches, when, and how severe it is, and not of its words."""
    said = {name: body[name] for name in MEANING if name in body}
    if "filters" in said:
        said["filters"] = [pill["query"] for pill in said["filters"]]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def version_of(rule_id: str, body: Mapping[str, Any], versions: Mapping[str, Mapping[str, Any]]) -> tuple[int, str]:
    """Return a rule's version and the digest of what it means: one more than before where the meaning has changed."""
    means = meaning(body)
    before = versions.get(rule_id)
    if before is None:
        return 1, means
    return int(before["version"]) + (before["meaning"] != means), means
