"""Every way's answers on one index, beside what the rules say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keytrail.cluster import Cluster
from keytrail.errors import ClusterError, UsageError
from keytrail.proof import holds
from keytrail.schemas import SCHEMAS, Schema, raw
from keytrail.schemas.live import live_schema, load_schema, read_cluster
from keytrail.trial import with_stand_ins
from keytrail.verdict import Strays

from benchmarks.fidelity.material import Events, Record, Rules
from benchmarks.fidelity.ways import Made, Way, speaks_esql, unanswered, ways

DYNAMIC = "dynamic"  # an index without a mapping, which makes its own fields


@dataclass(frozen=True)
class Setting:
    """What the index is like: a mapping by name or file, and what is changed of it.

    ``mapping`` is ``dynamic``, the name of a schema or a file. ``ignore_above`` goes for the strings of a dynamic index
    alone. ``count_refused`` counts an event that the index refuses as missed instead of leaving it out.
    """

    mapping: str = DYNAMIC
    date_detection: bool = True
    field_limit: int | None = None
    ignore_above: int | None = None
    count_refused: bool = False

    def layout(self) -> tuple[Schema | None, dict[str, Any], Callable[[Record], dict[str, Any]]]:
        """Return the schema (None where the index has to tell), the index's body, and from record to document.

        Raises :class:`UsageError` for what does not go together; those of :func:`keytrail.schemas.live.load_schema`.
        """
        if any(number is not None and number < 1 for number in (self.ignore_above, self.field_limit)):
            raise UsageError("--ignore-above and --field-limit need a number from 1 on")
        schema: Schema | None = None
        if self.mapping != DYNAMIC:
            schema = SCHEMAS.get(self.mapping) or load_schema(_existing(self.mapping), "compared")
        if schema is not None and self.ignore_above is not None:
            raise UsageError("--ignore-above goes with --mapping dynamic", hint="other mappings say it field by field")
        body = with_stand_ins(schema.body) if schema is not None else {"mappings": self._strings()}
        mappings, settings = dict(body["mappings"]), dict(body.get("settings") or {})
        if not self.date_detection:
            mappings["date_detection"] = False
        if self.field_limit is not None:
            settings["index.mapping.total_fields.limit"] = self.field_limit
        body = {"settings": settings, "mappings": mappings}
        if schema is not None:
            schema = replace(schema, body=body)
        return schema, body, raw.document if schema is None else schema.document

    def _strings(self) -> dict[str, Any]:
        if self.ignore_above is None:
            return {}
        spec = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": self.ignore_above}}}
        return {"dynamic_templates": [{"strings": {"match_mapping_type": "string", "mapping": spec}}]}


def _existing(name: str) -> str:
    if not Path(name).is_file():
        raise UsageError(
            f"there is no mapping {name!r}", hint=f"one of {DYNAMIC}, {', '.join(SCHEMAS)}, or a file with a mapping"
        )
    return name


@dataclass(frozen=True)
class Difference:
    """A rule on which a way strays: events missed and added, and how many of them a named condition foretells."""

    rule: str
    missed: int
    added: int
    foretold: int = 0

    @property
    def explained(self) -> bool:
        """A condition of the query is false for each of the events."""
        return self.foretold == self.missed + self.added


@dataclass
class Score:
    """How one way did. ``exact`` and ``matching`` count rules; the second those that an event matches."""

    way: str
    runs: bool
    ours: bool
    exact: int = 0
    matching: int = 0
    differences: list[Difference] = field(default_factory=list)
    unmapped: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)

    @property
    def missed(self) -> int:
        """How many events the queries do not find that the rules match."""
        return sum(one.missed for one in self.differences)

    @property
    def added(self) -> int:
        """How many events the queries find that the rules do not match."""
        return sum(one.added for one in self.differences)

    @property
    def explained(self) -> list[Difference]:
        """Where nothing but events for which a named condition is false makes the difference."""
        return [one for one in self.differences if one.explained]

    @property
    def broken(self) -> list[str]:
        """The rules on which one of ours is wrong without having said so."""
        return [one.rule for one in self.differences if not one.explained] + list(self.rejected) if self.ours else []

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "backend": self.way,
            "run": self.runs,
            "exact": self.exact,
            "exact_with_hits": self.matching,
            "wrong": len(self.differences) - len(self.explained),
            "condition_false": len(self.explained),
            "missed": self.missed,
            "false_hits": self.added,
            "no_such_field": self.unmapped,
            "refused": self.refused,
            "rejected": self.rejected,
            "unanswered": self.unanswered,
            "differences": [
                {"rule": one.rule, "missed": one.missed, "false_hits": one.added, "condition_false": one.foretold}
                for one in self.differences
            ],
        }


@dataclass
class Comparison:
    """What came of it. ``refused`` leads from the events that the index refuses to the reasons."""

    server: str
    setting: Setting
    fields: tuple[int, int]
    rules: Rules
    events: Events
    refused: dict[str, str]
    matching: int
    scores: list[Score]

    @property
    def neither(self) -> list[str]:
        """The rules for which no way that is run has a query."""
        run = [one for one in self.scores if one.runs]
        return [name for name in self.rules.rules if all(name in {**one.refused, **one.unmapped} for one in run)]

    @property
    def ok(self) -> bool:
        """Whether none of ours is wrong without having said so."""
        return not any(one.broken for one in self.scores)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        setting = self.setting
        return {
            "ok": self.ok,
            "elasticsearch": self.server,
            "mapping": setting.mapping,
            "date_detection": setting.date_detection,
            "field_limit": self.fields[1],
            "fields": self.fields[0],
            "ignore_above": setting.ignore_above,
            "refused_events_count_as_missed": setting.count_refused,
            "events": len(self.events.records),
            "refused_events": Counter(reason.split(":")[0] for reason in self.refused.values()),
            "rules": len(self.rules.rules),
            "rules_with_hits": self.matching,
            "left_out": self.rules.left_out,
            "unreadable": [str(error) for error in (*self.rules.bad, *self.events.bad)],
            "neither_converts": self.neither,
            "backends": [one.as_dict() for one in self.scores],
        }


def compare(
    cluster: Cluster,
    rules: Rules,
    events: Events,
    setting: Setting,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Load the events into a temporary index, ask it in every way, and compare with what the rules say.

    Errors: those of :meth:`Setting.layout` and of the cluster.
    """
    schema, body, document = setting.layout()
    ids = {str(number): name for number, name in enumerate(events.records)}
    with cluster.temporary_index(body) as index:
        progress(f"loading {len(ids):,} events")
        refused = cluster.load(index, ((key, document(events.records[name])) for key, name in ids.items()))
        there = read_cluster(cluster, index)
        live = live_schema(there, index)
        schema = live if schema is None else replace(schema, index=index)
        counted = {
            key: events.records[name] for key, name in ids.items() if setting.count_refused or key not in refused
        }
        truth = {
            name: frozenset(key for key, record in counted.items() if says(record))
            for name, says in rules.meanings.items()
        }
        held = [key for key in ids if key not in refused]
        scores = []
        for way in ways(schema, speaks_esql(cluster)):
            progress(f"{way.name}: {len(rules.rules)} rules")
            made = {name: way.make(rule) for name, rule in rules.rules.items()}
            answers = _answers(cluster, index, way, made, held)
            scores.append(_score(way, made, answers, truth, counted, schema))
    return Comparison(
        cluster.version,
        setting,
        (live.fullest[1], live.fullest[2]),
        rules,
        events,
        {ids[key]: reason for key, reason in refused.items()},
        sum(map(bool, truth.values())),
        scores,
    )


def _answers(
    cluster: Cluster, index: str, way: Way, made: Mapping[str, Made], held: list[str]
) -> dict[str, frozenset[str] | ClusterError]:
    """The answer to each rule: a rule's queries together, or the first error among them."""
    if way.run is None:
        return {}
    keyed = {(name, n): query for name, one in made.items() for n, query in enumerate(one.queries)}
    found = way.run(cluster, index, {f"{name}#{n}": query for (name, n), query in keyed.items()}, held)
    answers: dict[str, frozenset[str] | ClusterError] = {}
    for name, n in keyed:
        hits, before = found[f"{name}#{n}"], answers.get(name, frozenset())
        if not isinstance(before, ClusterError):
            answers[name] = hits if isinstance(hits, ClusterError) else before | hits
    return answers


def _score(
    way: Way,
    made: Mapping[str, Made],
    answers: Mapping[str, frozenset[str] | ClusterError],
    truth: Mapping[str, frozenset[str]],
    records: Mapping[str, Record],
    schema: Schema,
) -> Score:
    score = Score(way.name, way.run is not None, any(one.conversion is not None for one in made.values()))
    for name, one in made.items():
        if one.refusal is not None:
            (score.unmapped if one.unmapped else score.refused)[name] = one.refusal
            continue
        hits = answers.get(name)
        if isinstance(hits, ClusterError):
            (score.unanswered if unanswered(hits) else score.rejected)[name] = hits.message
        elif hits == truth[name]:
            score.exact += 1
            score.matching += bool(hits)
        elif hits is not None:
            missed, added = truth[name] - hits, hits - truth[name]
            foretold = sum(_foretold(one, schema, records[key], key in missed) for key in missed | added)
            score.differences.append(Difference(name, len(missed), len(added), foretold))
    return score


def _foretold(made: Made, schema: Schema, record: Record, missed: bool) -> bool:
    """Whether a condition that the query names is false for the event, and strays in that very way."""
    ways = {Strays.BOTH, Strays.MISSES if missed else Strays.ADDS}
    conditions = made.conversion.conditions if made.conversion is not None else ()
    return any(part.strays in ways and not holds(part, schema, record) for part in conditions)
