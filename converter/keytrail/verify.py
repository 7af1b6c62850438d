"""Will the rules mean the same on a user's index? Its mapping is read, the rules are compiled for it and tried.

Nothing is written to the index itself: events are loaded into a temporary one with the same mapping.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from keytrail import reference, telemetry, trial
from keytrail.cases import Case
from keytrail.convert import Conversion, convert
from keytrail.errors import NeedsProfile, UnmappedField
from keytrail.holding import BROKEN, Holding, check_each, count
from keytrail.pack import Rule
from keytrail.proof import Event, corpus, holds
from keytrail.schemas import ecs_custom, keytrail
from keytrail.schemas.live import LiveSchema, live_schema, mapping_of, read_cluster
from keytrail.verdict import Condition

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

UNMAPPED, NEEDS_PROFILE, DIVERGES = "unmapped", "needs a profile", "diverges"
# What answers more than an index as it is, by the names that the index uses.
BETTER = {
    "ecs": (
        ecs_custom.SCHEMA,
        "schema ecs-custom answers it: 'keytrail schema ecs-custom --part pipeline' (and others)",
    ),
    "raw": (keytrail.SCHEMA, "schema keytrail answers it: 'keytrail schema keytrail --part template'"),
}
Records = Mapping[str, Mapping[str, Any]]


@dataclass
class Verified:
    """What was found of one rule. ``diverges`` are the events on which the query and the rule differ."""

    made: Conversion
    holdings: list[Holding] = field(default_factory=list)
    diverges: list[str] = field(default_factory=list)
    rejected: str | None = None
    blind: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """The verdict; ``unmapped`` or ``needs a profile`` for two kinds of none, ``diverges`` where it was wrong."""
        error = self.made.error
        if isinstance(error, UnmappedField):
            return UNMAPPED
        if isinstance(error, NeedsProfile):
            return NEEDS_PROFILE
        return DIVERGES if self.diverges or self.rejected else self.made.verdict

    @property
    def broken(self) -> list[Holding]:
        """The conditions that are not so in the index."""
        return [holding for holding in self.holdings if holding.state == BROKEN]

    @property
    def ok(self) -> bool:
        """The query means what the rule says as far as can be told, and there are events for it to see."""
        return self.outcome in ("exact", "exact if", NEEDS_PROFILE) and not self.broken and not self.blind

    def fixes(self, schema: LiveSchema) -> list[str]:
        """Return what would make the rule exact here: which field to map how."""
        if self.made.error is not None:
            return _fixes(self.made, schema)
        found = (_remedy(holding.condition, schema) for holding in self.broken)
        return list(dict.fromkeys(fix for fix in found if fix))

    def as_dict(self, schema: LiveSchema) -> dict[str, Any]:
        """Return it as JSON has it."""
        shape = self.made.as_dict()
        return {
            "rule_id": shape["rule_id"],
            "rule": shape["rule"],
            "outcome": self.outcome,
            "reason": self.rejected or shape.get("reason"),
            "conditions": [holding.as_dict() for holding in self.holdings],
            "diverges": self.diverges,
            "blind": self.blind,
            "fixes": self.fixes(schema),
        }


@dataclass
class Verification:
    """What was found of all rules, and of the index."""

    server: str
    schema: LiveSchema
    events: int
    tried: trial.Trial
    rules: list[Verified]
    telemetry: dict[str, tuple[telemetry.Kind, ...]]

    @property
    def ok(self) -> bool:
        """Every rule is, and there was something to check."""
        return bool(self.rules) and self.events > len(self.tried.refused) and all(one.ok for one in self.rules)

    @property
    def outcomes(self) -> Counter[str]:
        """How many rules have each outcome."""
        return Counter(one.outcome for one in self.rules)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        schema = self.schema
        index, used, limit = schema.fullest
        return {
            "ok": self.ok,
            "elasticsearch": self.server,
            "index": schema.index,
            "indices": list(schema.indices),
            "naming": schema.naming,
            "like": schema.title,
            "fields": {"index": index, "used": used, "limit": limit},
            "conflicts": {name: problem[0] for name, problem in schema.unusable.items()},
            "tried_on": self.tried.engine,
            "notes": self.tried.notes,
            "events": self.events,
            "refused_events": self.tried.refused,
            "telemetry": {
                word: [{"events_of": kind.name, "events": kind.events, "why": kind.why} for kind in kinds]
                for word, kinds in self.telemetry.items()
            },
            "outcomes": dict(self.outcomes),
            "rules": [one.as_dict(schema) for one in self.rules],
        }


def verify(
    cluster: Cluster,
    pattern: str,
    rules: Sequence[Rule],
    cases: Sequence[Case],
    events: Records,
    prove_on: Cluster | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Verify ``rules`` against the indices behind ``pattern``.

    Parameters: the fixtures ``cases`` and ``events`` are what the queries are tried on, in a temporary index of
    ``prove_on`` or else of ``cluster``. Errors: those of :mod:`keytrail.schemas.live` and of the cluster.
    """
    progress(f"reading the mapping of {pattern}")
    schema = live_schema(read_cluster(cluster, pattern), pattern)
    records = corpus(events, cases)
    verified = [Verified(convert(rule, schema)) for rule in rules]
    progress(f"trying {len(rules)} rules on {len(records)} events")
    tried = _try(verified, records, schema, prove_on or cluster)
    progress(f"asking {pattern} whether the conditions hold")
    holdings = check_each([one.made for one in verified], schema, cluster)
    kinds = telemetry.survey(rules, schema, lambda query: count(cluster, pattern, query)[0])
    for one, found in zip(verified, holdings, strict=True):
        one.holdings = found
        one.blind = telemetry.blind(one.made.rule, kinds)
    return Verification(trial.version(cluster), schema, len(records), tried, verified, kinds)


def _try(verified: Sequence[Verified], records: Sequence[Event], schema: LiveSchema, cluster: Cluster) -> trial.Trial:
    """Run the queries on the events, and compare with what the rules say."""
    # A correlation is a plan of several queries, those of its rules, which are tried.
    usable = {one.made.rule.stem: one for one in verified if one.made.query and one.made.rule.kind != "correlation"}
    queries = {stem: one.made.query.body["query"] for stem, one in usable.items() if one.made.query is not None}
    documents = {event.name: schema.document(event.record) for event in records}
    tried = trial.on_cluster(cluster, schema, queries, documents)
    for stem, one in usable.items():
        one.rejected = tried.rejected.get(stem)
        if one.rejected is None:
            one.diverges = _divergences(one.made, tried.hits[stem], records, schema, tried)
    return tried


def _divergences(
    made: Conversion, hits: frozenset[str], records: Sequence[Event], schema: LiveSchema, tried: trial.Trial
) -> list[str]:
    """The events on which query and rule differ although every condition is so."""
    says = reference.compile_rule(made.rule.document)
    return [
        event.name
        for event in records
        if event.name not in tried.refused
        and says(event.record) is not (event.name in hits)
        and all(holds(condition, schema, event.record) for condition in made.conditions)
    ]


def _fixes(made: Conversion, schema: LiveSchema) -> list[str]:
    """What to map, and which schema of ours would answer the rule where this index does not."""
    error = made.error
    assert error is not None
    found = [] if error.hint is None else [error.hint]
    if isinstance(error, NeedsProfile):
        return found
    name = error.field if error.field in schema.unusable else None
    if name is None and schema.naming == "raw" and error.field and (error.hint or "").startswith(("map ", "add ")):
        known = schema.mapping.field(error.field)
        found = [f"map it as {json.dumps(mapping_of(known.source if known else error.field, keytrail.KEYWORD))}"]
    other, how = BETTER[schema.naming]
    if not isinstance(error, UnmappedField) and convert(made.rule, other).query is not None:
        found.append(how)
    return found


def _remedy(condition: Condition, schema: LiveSchema) -> str | None:
    if condition.kind in ("map_not_longer", "not_longer"):
        found = schema.mapping.field(condition.index_field)
        if condition.kind == "not_longer" and found is not None and schema.naming == "raw":
            return f"map it as {json.dumps(mapping_of(found.source, keytrail.KEYWORD))} in new indices, or reindex"
        if condition.kind == "not_longer":
            return f"map {condition.index_field} with a larger ignore_above, and roll over or reindex"
        return "the fields that rules ask for become keywords with schema ecs-custom"
    if condition.kind == "taken":
        return "raise index.mapping.total_fields.limit, or use the index template of 'keytrail schema keytrail'"
    if condition.kind == "copied":
        return "reindex older documents through the pipeline logs-aws.cloudtrail@custom"
    if condition.kind == "own_place":
        return "update the AWS integration" if "6.22" in condition.text else None
    return None
