"""The proof: every rule over every fixture event, as the rule says it, as the embedded engine and a real node find it.

A check is one (rule, event, schema, engine). It agrees when the engine's answer is the reference's; when it is not,
either a named condition of an "exact if" is false for that very event, or it is a divergence, and the proof fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from keytrail import reference
from keytrail.cases import Case
from keytrail.convert import Conversion, convert
from keytrail.engine import compile_query, utf16_length
from keytrail.errors import ClusterError, KeytrailError
from keytrail.java_map import is_plain
from keytrail.pack import Rule
from keytrail.paths import exists, leaves, text, values, values_below
from keytrail.schemas import Schema, java
from keytrail.typed import is_plain_address, is_plain_number, is_plain_text
from keytrail.verdict import Condition

if TYPE_CHECKING:
    from keytrail.cluster import Cluster

Queries = Mapping[str, Mapping[str, Any]]
Hits = dict[str, frozenset[str]]


class Engine(Protocol):
    """Something that runs queries over documents. ``name`` is what reports call it."""

    name: str

    def hits(self, schema: Schema, queries: Queries, documents: Mapping[str, Mapping[str, Any]]) -> Hits:
        """Return, for each query's name, the names of the documents that it matches."""
        ...


class EmbeddedEngine:
    """The engine in this process."""

    name = "embedded"

    def hits(self, schema: Schema, queries: Queries, documents: Mapping[str, Mapping[str, Any]]) -> Hits:
        """Run each query over each document."""
        found = {}
        for name, body in queries.items():
            matches = compile_query(body["query"], schema.mapping)
            found[name] = frozenset(key for key, document in documents.items() if matches(document))
        return found


@dataclass
class ElasticsearchEngine:
    """A real Elasticsearch: the documents go into a temporary index with the schema's mapping."""

    cluster: Cluster
    name: str = "elasticsearch"
    refused: frozenset[str] = frozenset()

    def hits(self, schema: Schema, queries: Queries, documents: Mapping[str, Mapping[str, Any]]) -> Hits:
        """Load the documents and run the queries. A query that the server refuses is an error.

        A document is too, unless the schema says that its index refuses some; those are in ``refused`` then.
        """
        names = list(documents)
        with self.cluster.temporary_index(schema.body) as index:
            refused = self.cluster.load(index, ((str(n), documents[name]) for n, name in enumerate(names)))
            self.refused = frozenset(names[int(number)] for number in refused)
            if refused and schema.taken is None:
                number, reason = next(iter(refused.items()))
                raise ClusterError(f"{len(refused)} documents refused, the first {names[int(number)]!r}: {reason}")
            found = self.cluster.search(index, {name: body["query"] for name, body in queries.items()})
        return {name: frozenset(names[int(number)] for number in numbers) for name, numbers in found.items()}


@dataclass(frozen=True)
class Failure:
    """Something that does not hold: ``pair`` says who disagrees, ``what`` on what."""

    rule: str
    pair: str
    what: str
    path: str | None = None
    line: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as JSON has it."""
        return {"rule": self.rule, "pair": self.pair, "what": self.what, "path": self.path, "line": self.line}


@dataclass
class Report:
    """What the proof found. ``checks`` counts by (schema, engine); ``outside`` the checks whose condition is false.

    ``waiting`` are the rules that need a site profile and had none; ``blind`` leads from a rule's id to what it needs
    and the events lack.
    """

    conversions: list[Conversion] = field(default_factory=list)
    cases: int = 0
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    outside: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    blind: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing failed, and there was something to check."""
        return not self.failures and self.cases > 0 and self.checks.total() > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {
            "ok": self.ok,
            "cases": self.cases,
            "checks": [
                {"schema": key[0], "engine": key[1], "checks": count, "outside_condition": self.outside[key]}
                for key, count in sorted(self.checks.items())
            ],
            "verdicts": [made.as_dict() for made in self.conversions],
            "failures": [failure.as_dict() for failure in self.failures],
            "needs_profile": self.waiting,
            "blind": self.blind,
        }


@dataclass(frozen=True)
class Event:
    """A record of the corpus under its name: a fixture event, or a case."""

    name: str
    record: Mapping[str, Any]


def corpus(events: Mapping[str, Mapping[str, Any]], cases: Iterable[Case]) -> list[Event]:
    """Return every record that every rule is run over: each event, and each case of every rule."""
    found = [Event(name, record) for name, record in events.items()]
    found.extend(Event(f"{case.rule}: {case.name}", case.record) for case in cases)
    return found


def prove(
    rules: Sequence[Rule],
    cases: Sequence[Case],
    events: Mapping[str, Mapping[str, Any]],
    schemas: Sequence[Schema],
    engines: Sequence[Engine],
    progress: Callable[[str], None] = lambda text: None,
    claims: bool = True,
) -> Report:
    """Check the rules' own cases (if ``claims``), then every rule over the corpus in each schema and engine."""
    report = Report()
    rules = [rule for rule in rules if rule.kind == "rule"]  # correlations: correlation_proof
    if not rules:
        return report
    meanings = {rule.stem: reference.compile_rule(rule.document) for rule in rules}
    records = corpus(events, cases)
    expected = {
        stem: frozenset(event.name for event in records if meaning(event.record)) for stem, meaning in meanings.items()
    }
    if claims:
        _check_cases(rules, cases, meanings, report)
    for schema in schemas:
        conversions = [convert(rule, schema) for rule in rules]
        report.conversions.extend(conversions)
        for engine in engines:
            progress(f"{len(rules)} rules, {len(records)} events, schema {schema.name}, engine {engine.name}")
            _check_engine(conversions, records, expected, schema, engine, report)
    return report


def _check_cases(
    rules: Sequence[Rule], cases: Sequence[Case], meanings: Mapping[str, reference.Predicate], report: Report
) -> None:
    """What each case claims of its rule, against what the rule means."""
    stems = {rule.stem: rule for rule in rules}
    found: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        if case.rule not in stems:
            continue
        report.cases += 1
        found[case.rule, case.match] += 1
        if meanings[case.rule](case.record) is not case.match:
            claim = "a match" if case.match else "no match"
            what = f"the case {case.name!r} claims {claim}, the rule{_narrowed(stems[case.rule])} says otherwise"
            report.failures.append(Failure(case.rule, "case and rule", what, str(case.path), case.line))
    for stem, rule in stems.items():
        for match, kind in ((True, "matching case"), (False, "near miss")):
            if not found[stem, match]:
                failure = Failure(stem, "case and rule", f"the rule has no {kind}", str(rule.path), rule.line)
                report.failures.append(failure)


def _narrowed(rule: Rule) -> str:
    return f", narrowed by {', '.join(rule.filters)}," if rule.filters else ""


def _check_engine(
    conversions: Sequence[Conversion],
    records: Sequence[Event],
    expected: Mapping[str, frozenset[str]],
    schema: Schema,
    engine: Engine,
    report: Report,
) -> None:
    usable = {made.rule.stem: made for made in conversions if made.query is not None}
    for made in conversions:
        if made.verdict == "error" and made.error is not None:
            where = f"rule and schema {schema.name}"
            failure = Failure(made.rule.stem, where, made.error.message, made.error.path, made.error.line)
            if failure not in report.failures:
                report.failures.append(failure)
    queries = {stem: made.query.body for stem, made in usable.items() if made.query is not None}
    taken = [event for event in records if schema.taken is None or schema.taken[1](event.record)]
    documents = {event.name: schema.document(event.record) for event in taken}
    try:
        hits = engine.hits(schema, queries, documents)
    except KeytrailError as error:
        report.failures.append(Failure("", f"{engine.name} and schema {schema.name}", str(error)))
        return
    report.checks[schema.name, engine.name] += len(queries) * len(records)
    by_name = {event.name: event.record for event in records}
    for stem, made in usable.items():
        for name in sorted(hits[stem] ^ expected[stem]):
            refused = name in getattr(engine, "refused", ())
            if refused or any(not holds(condition, schema, by_name[name]) for condition in made.conditions):
                report.outside[schema.name, engine.name] += 1
                continue
            says = "a match" if name in expected[stem] else "no match"
            what = f"schema {schema.name}, event {name!r}: the rule says {says}, {engine.name} says otherwise"
            report.failures.append(Failure(stem, f"rule and {engine.name}", what, str(made.rule.path), made.rule.line))


def _respelled(field: str, record: Mapping[str, Any]) -> bool:
    """Tell whether the record has a field of that name in another case."""
    return any(path != field and path.lower() == field.lower() for path, _ in leaves(record))


def holds(condition: Condition, schema: Schema, record: Mapping[str, Any]) -> bool:
    """Tell whether a named condition is so for one record."""
    limit = condition.limit or 0
    if condition.kind in _RECORD_CONDITIONS:
        return _RECORD_CONDITIONS[condition.kind](condition, schema, record)
    if condition.kind in _MAP_CONDITIONS:
        return _MAP_CONDITIONS[condition.kind](record.get(condition.field), limit)
    test = _VALUE_CONDITIONS[condition.kind]
    return all(test(text(value), limit) for value in values(record, condition.field))


def _known_keys(condition: Condition, schema: Schema, record: Mapping[str, Any]) -> bool:
    if not exists(record, condition.field):
        return True
    document = schema.document(record)
    known = (name for name in schema.mapping.known() if name.startswith(f"{condition.index_field}."))
    return any(exists(document, name) for name in known)


_RECORD_CONDITIONS: dict[str, Callable[[Condition, Schema, Mapping[str, Any]], bool]] = {
    "taken": lambda condition, schema, record: schema.taken is None or schema.taken[1](record),
    "copied": lambda condition, schema, record: (
        not exists(record, condition.field) or exists(schema.document(record), condition.index_field)
    ),
    "own_place": lambda condition, schema, record: schema.shared[condition.field][1](record),
    "kept": lambda condition, schema, record: (
        not schema.dropped & set(map(text, values_below(record, condition.field)))
    ),
    "learnt": lambda condition, schema, record: True,  # of an index, not of an event
    "one_spelling": lambda condition, schema, record: not _respelled(condition.field, record),
    "not_empty": lambda condition, schema, record: "" not in values_below(record, condition.field),
    "known_keys": _known_keys,
    "no_object": lambda condition, schema, record: (
        bool(values(record, condition.field)) or not exists(record, condition.field)
    ),
}
_MAP_CONDITIONS: dict[str, Callable[[object, int], bool]] = {
    "plain_map": lambda node, limit: is_plain(node),
    "map_not_longer": lambda node, limit: java.length(java.text(node)) <= limit,
    "kept_whole": lambda node, limit: java.length(java.text(node)) < limit,
}
_VALUE_CONDITIONS: dict[str, Callable[[str, int], bool]] = {
    "not_longer": lambda value, limit: utf16_length(value) <= limit,
    "plain_case": lambda value, limit: not {"\u212a", "\u0130"} & set(value),
    "plain_truth": lambda value, limit: value in ("true", "false"),
    "whole_number": lambda value, limit: is_plain_number(value) and "." not in value,
    "plain_number": lambda value, limit: is_plain_number(value),
    "plain_address": lambda value, limit: is_plain_address(value),
    "first_value": lambda value, limit: is_plain_text(value),
}
