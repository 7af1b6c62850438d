"""The proof of correlations: their cases as the rule says it, as the engine finds it, and as a real node does.

A check is one (correlation, case, schema, engine). It agrees when the hits are the reference's, all of them: the
groups, from when to when, and the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from keytrail import correlation_engine, correlation_reference, correlation_search
from keytrail.convert import Conversion, convert
from keytrail.correlation import Episode, Searched
from keytrail.correlation_engine import Event, Marker, Sorter
from keytrail.engine import compile_query
from keytrail.errors import ClusterError, KeytrailError
from keytrail.pack import Rule
from keytrail.proof import ElasticsearchEngine, Engine, Failure, Report, holds
from keytrail.schemas import Schema
from keytrail.sequence_cases import SequenceCase, moved
from keytrail.times import DAY, milliseconds

Plan = Mapping[str, Any]
Find = Callable[[Conversion, Plan, SequenceCase], list[Episode]]
# Cases lie apart in one index, at times of day that are edges of different buckets.
APART = 400 * DAY + 3_599_000


def prove_correlations(
    rules: Sequence[Rule],
    cases: Sequence[SequenceCase],
    schemas: Sequence[Schema],
    engines: Sequence[Engine],
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Check what the cases claim of their correlations, then each case in every schema on every engine."""
    report = Report()
    stems = {rule.stem: rule for rule in rules if rule.kind == "correlation"}
    own = [moved(case, number * APART) for number, case in enumerate(case for case in cases if case.rule in stems)]
    expected = {id(case): meaning(stems[case.rule], case) for case in own}
    _check_claims(stems, own, expected, report)
    for schema in schemas:
        conversions = [convert(rule, schema) for rule in stems.values()]
        report.conversions.extend(conversions)
        for engine in engines:
            progress(f"{len(stems)} correlations, {len(own)} cases, schema {schema.name}, engine {engine.name}")
            try:
                with _finder(engine, schema, own) as find:
                    _check_engine(conversions, own, expected, engine.name, find, report)
            except KeytrailError as error:
                report.failures.append(Failure("", f"{engine.name} and schema {schema.name}", str(error)))
    return report


def meaning(rule: Rule, case: SequenceCase) -> list[Episode]:
    """Return what the rule says of a case."""
    documents = {name: base.document for name, base in rule.references.items()}
    return correlation_reference.episodes(rule.correlation, documents, case.records, case.searched)


Expected = Mapping[int, Sequence[Episode]]


def _check_claims(stems: Mapping[str, Rule], cases: Sequence[SequenceCase], expected: Expected, report: Report) -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        report.cases += 1
        seen[case.rule, case.match] += 1
        found = expected[id(case)]
        groups = frozenset(episode.group for episode in found)
        claims = {
            f"the case {case.name!r} claims {'a hit' if case.match else 'no hit'}": bool(found) is case.match,
            f"the case {case.name!r} claims {case.hits} hits": case.hits in (None, len(found)),
            f"the case {case.name!r} claims hits in other groups": case.groups in (None, groups),
        }
        for claim, holds_true in claims.items():
            if not holds_true:
                shown = "; ".join(map(str, sorted(groups))) or "none"
                what = f"{claim}, the rule says {len(found)} (groups: {shown})"
                report.failures.append(Failure(case.rule, "case and rule", what, str(case.path), case.line))
                break
    for stem, rule in stems.items():
        for match, kind in ((True, "matching case"), (False, "near miss")):
            if not seen[stem, match]:
                failure = Failure(stem, "case and rule", f"the rule has no {kind}", str(rule.path), rule.line)
                report.failures.append(failure)


def _check_engine(
    conversions: Sequence[Conversion],
    cases: Sequence[SequenceCase],
    expected: Expected,
    engine: str,
    find: Find,
    report: Report,
) -> None:
    for made in conversions:
        if made.query is None:
            if made.verdict == "error" and made.error is not None:
                where = f"rule and schema {made.schema.name}"
                failure = Failure(made.rule.stem, where, made.error.message, made.error.path, made.error.line)
                if failure not in report.failures:
                    report.failures.append(failure)
            continue
        for case in cases:
            if case.rule == made.rule.stem:
                report.checks[made.schema.name, engine] += 1
                _compare(made, case, expected[id(case)], find(made, made.query.body, case), engine, report)


def _compare(
    made: Conversion,
    case: SequenceCase,
    expected: Sequence[Episode],
    found: Sequence[Episode],
    engine: str,
    report: Report,
) -> None:
    if list(expected) == list(found):
        return
    if any(not holds(condition, made.schema, record) for condition in made.conditions for record in case.records):
        report.outside[made.schema.name, engine] += 1
        return
    what = f"schema {made.schema.name}, case {case.name!r}: the rule says {_shown(expected)}"
    what += f", {engine} says {_shown(found)}"
    report.failures.append(Failure(made.rule.stem, f"rule and {engine}", what, str(case.path), case.line))


def _shown(episodes: Sequence[Episode]) -> str:
    return "; ".join(f"{one.group} {one.start} to {one.end}, {one.events} events" for one in episodes) or "no hit"


@contextmanager
def _finder(engine: Engine, schema: Schema, cases: Sequence[SequenceCase]) -> Iterator[Find]:
    """Yield what finds the hits of a plan in a case: in this process, or in an index that holds all cases."""
    if not isinstance(engine, ElasticsearchEngine):
        yield in_process
        return
    with engine.cluster.temporary_index(schema.body) as index:
        documents = (
            (f"{number}-{place}", schema.document(record))
            for number, case in enumerate(cases)
            for place, record in enumerate(case.records)
        )
        refused = engine.cluster.load(index, documents)
        if refused and schema.taken is None:
            raise ClusterError(f"{len(refused)} documents refused, the first: {next(iter(refused.values()))}")

        yield _Shared(engine, index, cases)


class _Shared:
    """Finds the hits in an index that holds all cases, each at its time: one search does for most of them."""

    def __init__(self, engine: ElasticsearchEngine, index: str, cases: Sequence[SequenceCase]) -> None:
        self._cluster = engine.cluster
        self._index = index
        self._whole = Searched(cases[0].searched.start, cases[-1].searched.end) if cases else None
        self._found: dict[str, list[Episode]] = {}

    def __call__(self, made: Conversion, plan: Plan, case: SequenceCase) -> list[Episode]:
        when = case.searched
        times = [milliseconds(record.get("eventTime")) for record in case.records]
        if not made.rule.correlation.rising or any(time is not None and time > when.end for time in times):
            return self._search(made, plan, when)
        if made.rule.stem not in self._found:
            self._found[made.rule.stem] = self._search(made, plan, self._whole)
        return [one for one in self._found[made.rule.stem] if when.start <= one.start <= when.end]

    def _search(self, made: Conversion, plan: Plan, when: Searched | None) -> list[Episode]:
        correlation = made.rule.correlation
        return correlation_search.search(self._cluster, self._index, correlation, plan, made.schema, when)


def in_process(made: Conversion, plan: Plan, case: SequenceCase) -> list[Episode]:
    """Return the hits of a plan in a case: its queries by the embedded engine, its windows by the streaming one."""
    schema, correlation = made.schema, made.rule.correlation
    documents = [schema.document(record) for record in case.records if schema.taken is None or schema.taken[1](record)]
    sorter = Sorter()
    for name, searches in plan["rules"].items():
        matches = compile_query(searches["events"]["query"], schema.mapping)
        marker = Marker(correlation, name, schema)
        for number, document in enumerate(documents):
            if matches(document):
                sorter.add(marker.marks(Event(schema, document, str(number))))
    return list(correlation_engine.episodes(correlation, sorter.sorted(), case.searched))
