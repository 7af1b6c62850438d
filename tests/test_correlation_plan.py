"""The plan of a correlation: its searches, its verdict by schema, and where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from keytrail.backend import pipeline
from keytrail.convert import Conversion, convert
from keytrail.correlation import Correlation
from keytrail.correlation_plan import PAGE
from keytrail.correlation_search import Counts, candidates
from keytrail.correlation_yaml import read
from keytrail.data import packaged
from keytrail.errors import Refused
from keytrail.pack import Rule, load_rules
from keytrail.schemas import SCHEMAS, Schema, get_schema
from keytrail.targets import QueryDslBackend
from keytrail.typed import BY_AWS
from keytrail.verdict import Strays
from sigma.collection import SigmaCollection

from tests.sequences import KEY, PLACE, RULES, USER, Sequence, by_engine, by_reference, sequences

KEYTRAIL, ECS, RAW = get_schema("keytrail"), get_schema("ecs"), get_schema("raw")
CORRELATIONS = [rule for rule in load_rules([packaged("rules")]).rules if rule.kind == "correlation"]
COUNT = {"type": "event_count", "rules": ["a"], "group-by": [USER], "timespan": "10m", "condition": {"gte": 3}}


def converted(
    given: Mapping[str, Any], schema: Schema = KEYTRAIL, target: str = "query-dsl", **detections: Any
) -> Conversion:
    """The conversion of a correlation; ``detections`` give its rules other selections."""
    rules = {
        name: {**RULES[name], "detection": {"selection": detections[name], "condition": "selection"}}
        if name in detections
        else RULES[name]
        for name in read({"correlation": given}).rules
    }
    bases = {name: Rule(Path(f"{name}.yml"), document, "") for name, document in rules.items()}
    return convert(Rule(Path("one.yml"), {"correlation": given}, "correlation:\n", references=bases), schema, target)


def body(made: Conversion) -> Mapping[str, Any]:
    assert made.query is not None, made.error
    found: Mapping[str, Any] = made.query.body
    return found


def test_candidates_are_counted_in_buckets_of_one_timespan_by_group() -> None:
    by = {**COUNT, "group-by": [USER, PLACE]}
    search = body(converted(by, ECS))["rules"]["a"]["candidates"]
    composite = search["aggs"]["buckets"]["composite"]
    place = "aws.cloudtrail.flattened.request_parameters.encryptionContext.aws:s3:arn"
    assert composite["sources"] == [
        {"group_0": {"terms": {"field": "aws.cloudtrail.user_identity.arn"}}},
        {"group_1": {"terms": {"field": place}}},
        {"bucket": {"date_histogram": {"field": "@timestamp", "fixed_interval": "600s"}}},
    ]
    assert composite["size"] == PAGE
    assert search["size"] == 0
    # A flattened key is aggregated wrongly unless the query says that it exists.
    assert {"exists": {"field": place}} in search["query"]["bool"]["filter"]
    assert {"exists": {"field": "@timestamp"}} in search["query"]["bool"]["filter"]


def test_values_are_counted_beside_the_buckets() -> None:
    given = {**COUNT, "type": "value_count", "condition": {"gte": 3, "field": KEY}}
    buckets = body(converted(given))["rules"]["a"]["candidates"]["aggs"]["buckets"]
    assert buckets["aggs"] == {"values": {"value_count": {"field": KEY}}}


def test_events_come_by_time_with_the_fields_that_decide() -> None:
    search = body(converted(COUNT, RAW))["rules"]["a"]["events"]
    assert search["sort"] == [{"eventTime": "asc"}, {"_shard_doc": "asc"}]
    assert search["_source"] == ["eventTime", "eventID", USER]
    assert body(converted(COUNT, RAW))["rules"]["a"]["group_fields"] == [f"{USER}.keyword"]


def test_silence_has_no_candidates_because_no_bucket_counts_it() -> None:
    plan = body(converted({**COUNT, "condition": {"lt": 1}}))
    assert set(plan["rules"]["a"]) == {"group_fields", "events"}
    assert len(plan["steps"]) == 3
    assert len(body(converted(COUNT))["steps"]) == 4


# -- verdicts -------------------------------------------------------------------------------------------------------


def kinds(made: Conversion) -> dict[tuple[str, str], Strays]:
    return {(condition.kind, condition.field): condition.strays for condition in made.conditions}


def test_the_conditions_of_rules_and_of_groups_are_the_plans() -> None:
    made = converted(COUNT, a={"userAgent|contains": "cli"})
    assert made.verdict == "exact if"
    assert kinds(made) == {("not_longer", "userAgent"): Strays.MISSES, ("not_longer", USER): Strays.MISSES}
    assert kinds(converted(COUNT, ECS))[("kept", USER)] is Strays.MISSES


def test_without_groups_and_conditions_the_plan_is_exact() -> None:
    assert converted({**COUNT, "group-by": []}).verdict == "exact"


def test_an_event_that_is_missed_looks_like_silence_or_hides_its_group() -> None:
    silent = {**COUNT, "condition": {"lt": 1}}
    assert set(kinds(converted(silent, a={"userAgent|contains": "cli"})).values()) == {Strays.BOTH}


def test_what_a_caller_could_have_taken_for_an_event_must_not_hide_silence() -> None:
    silent = {**COUNT, "condition": {"lt": 1}}
    by_map = {"requestParameters.note|contains": "cli"}  # in the string of a map, which a caller can make ambiguous
    assert converted(COUNT, ECS, a=by_map).verdict == "exact if"
    made = converted(silent, ECS, a=by_map)
    assert isinstance(made.error, Refused)
    assert "hide that there is none" in made.error.message
    made = converted(silent, a={"userAgent|contains|neq": "cli"})  # a long user agent passes for one without it
    assert isinstance(made.error, Refused)
    by_aws = converted(silent, ECS, a={"errorCode": None})
    assert kinds(by_aws)[("kept", "errorCode")] is Strays.MISSES
    assert next(one.breaker for one in by_aws.conditions if one.field == "errorCode") == BY_AWS


@pytest.mark.parametrize(
    ("given", "schema", "detections", "reason"),
    [
        ({**COUNT, "group-by": ["userIdentity"]}, KEYTRAIL, {}, "userIdentity"),
        ({**COUNT, "group-by": ["eventTime"]}, ECS, {}, "eventTime"),
        ({**COUNT, "group-by": ["nosuch.field"]}, ECS, {}, "nosuch.field"),
        ({**COUNT, "group-by": ["requestParameters.pendingWindowInDays"]}, RAW, {}, "pendingWindowInDays"),
        (COUNT, ECS, {"a": {"requestParameters.policy|endswith|neq": "x"}}, "the rule a that it names"),
    ],
)
def test_there_is_no_plan_where_the_index_cannot_tell(
    given: Mapping[str, Any], schema: Schema, detections: Mapping[str, Any], reason: str
) -> None:
    made = converted(given, schema, **detections)
    assert made.query is None
    assert made.error is not None
    assert reason in made.error.message


def test_a_field_whose_normalizer_makes_one_of_several_is_refused() -> None:
    lowered = {"type": "keyword", "normalizer": "lowercase"}
    properties = {"@timestamp": {"type": "date"}, "eventName": {"type": "keyword"}, "who": lowered}
    generated = Schema("generated", "", "", {}, {}, {"mappings": {"dynamic": False, "properties": properties}}, dict)
    made = converted({**COUNT, "group-by": ["who"]}, generated)
    assert isinstance(made.error, Refused)
    assert "normalizer" in made.error.message


@pytest.mark.parametrize("target", ["lucene", "esql"])
def test_only_query_dsl_has_a_plan(target: str) -> None:
    made = converted(COUNT, target=target)
    assert made.verdict == "refused"
    assert made.error is not None
    assert "query-dsl" in str(made.error)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_sigma_cli_gets_the_same_plans(schema: Schema) -> None:
    backend = QueryDslBackend(pipeline(schema), collect_errors=False)
    for rule in CORRELATIONS:
        ours = convert(rule, schema)
        if ours.query is None:
            with pytest.raises(Refused):
                backend.convert(rule.collection())
            continue
        # Rules in an order that pySigma's sort does not put right.
        theirs = backend.convert(SigmaCollection(list(reversed(rule.collection().rules))))
        assert ours.query.body in theirs


# -- candidates -------------------------------------------------------------------------------------------------------


def stretches(correlation: Correlation, counts: Counts) -> list[tuple[int, int]]:
    span = correlation.timespan
    return [(one.start // span, one.end // span) for one in candidates(correlation, counts)]


def test_two_neighbouring_buckets_bound_what_a_window_has() -> None:
    ten = read({"correlation": {**COUNT, "condition": {"gte": 10}}})
    span = ten.timespan
    counts: Counts = {("x",): {n * span: {"a": found} for n, found in {1: 4, 2: 5, 5: 4, 6: 6, 9: 10, 10: 1}.items()}}
    assert stretches(ten, counts) == [(5, 7), (9, 11)]
    assert [one.rules for one in candidates(ten, counts)] == [frozenset("a")] * 2


def test_what_is_together_in_neighbouring_buckets_is_a_candidate() -> None:
    both = read({"correlation": {**COUNT, "type": "temporal_ordered", "rules": ["a", "b"], "condition": None}})
    span = both.timespan
    counts: Counts = {("x",): {0: {"a": 1}, span: {"b": 1}, 3 * span: {"a": 9}, 5 * span: {"b": 9}}}
    assert stretches(both, counts) == [(0, 2)]


@given(sequences())
def test_no_hit_lies_outside_the_candidates(sequence: Sequence) -> None:
    correlation = sequence.correlation
    if not correlation.rising:
        return
    counts: Counts = {}
    span = correlation.timespan
    for name in correlation.rules:
        alone = {**sequence.document["correlation"], "type": "event_count", "rules": [name], "condition": {"gte": 1}}
        aliases = {alias: {name: fields[name]} for alias, fields in correlation.aliases.items()}
        document = {"correlation": {**alone, "aliases": aliases, "timespan": "1s"}}
        for record in sequence.records:  # one record at a time: where it counts, it is a hit of its own
            for hit in by_engine(Sequence(document, [record], sequence.searched), KEYTRAIL):
                bucket = counts.setdefault(hit.group, {}).setdefault(hit.start // span * span, {})
                bucket[name] = bucket.get(name, 0) + 3  # as many values as an event here can have
    found = list(candidates(correlation, counts))
    for hit in by_reference(sequence):
        assert any(one.group == hit.group and one.start <= hit.start and hit.end < one.end for one in found)
