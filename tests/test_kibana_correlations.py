"""Correlations as Kibana's rules, run as Kibana runs them: at intervals, over what each run looks back at."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail.cases import load_events
from keytrail.cluster import Cluster
from keytrail.correlation import Correlation
from keytrail.correlation_reference import episodes
from keytrail.data import packaged
from keytrail.errors import Refused
from keytrail.kibana import over_alerts
from keytrail.kibana.body import check
from keytrail.kibana.detection import DetectionRule, Options, detection_rule, detection_rules
from keytrail.pack import Rule, load_rules
from keytrail.proof import holds
from keytrail.schemas import SCHEMAS, Schema, get_schema
from keytrail.sequence_cases import SequenceCase, load_sequences, moved
from keytrail.times import DAY, iso, milliseconds

from tests.sequences import Sequence, conversion, sequences

RULES = {rule.stem: rule for rule in load_rules([packaged("rules")]).rules}
# Rules that a node takes a second to compile stand here as what they are about: hundreds of runs ask for them.
SLOW = ("key_policy_denies_cloudtrail", "key_policy_open_to_everyone")
EVENTS = load_events(packaged("fixtures") / "events")
CASES = [moved(case, 3 * DAY * n) for n, case in enumerate(load_sequences(packaged("fixtures") / "cases", EVENTS))]
# Those by role differ from the others in the field that they group by alone.
CORRELATIONS = [rule for rule in RULES.values() if rule.kind == "correlation" and not rule.stem.endswith("_by_role")]
MINUTE = 60_000
GRID = 5 * MINUTE
LATE = 30 * MINUTE
ECS, KEYTRAIL = get_schema("ecs"), get_schema("keytrail")


def quick(rule: Rule) -> Rule:
    stand_in = {"selection": {"eventName": "PutKeyPolicy", "errorCode": None}, "condition": "selection"}
    named = {
        name: replace(base, document={**base.document, "detection": stand_in}) if name in SLOW else base
        for name, base in rule.references.items()
    }
    return replace(rule, references=named)


def document(schema: Schema, record: Mapping[str, Any]) -> dict[str, Any]:
    """A document as the index holds it, which has arrived at once."""
    made = dict(schema.document(record))
    if schema.integration:
        made["event"] = {**made["event"], "ingested": made.get("@timestamp")}
    return made


def found_by(cluster: Cluster, index: str, body: Mapping[str, Any], now: int) -> set[tuple[str, ...]]:
    """The groups for which a run at ``now`` raises an alert."""
    back = int(body["from"].removeprefix("now-").removesuffix("m")) * MINUTE
    time = body.get("timestamp_override", "@timestamp")
    within = {"range": {time: {"gte": iso(now - back), "lte": iso(now), "format": "strict_date_optional_time"}}}
    if body["type"] == "esql":
        _, _, rest = body["query"].partition("\n")
        query = f"FROM {index}\n{rest}".replace("NOW()", f'TO_DATETIME("{iso(now)}")')
        answer = cluster.client.esql.query(query=query, filter=within)
        groups = body["alert_suppression"]["group_by"]
        places = [[column["name"] for column in answer["columns"]].index(name) for name in groups]
        return {tuple(row[place] for place in places) for row in answer["values"]}
    threshold = body["threshold"]
    (counted,) = threshold["cardinality"]
    sources = [{f"g{n}": {"terms": {"field": name}}} for n, name in enumerate(threshold["field"])]
    # Kibana asks the count of a bucket in a script, which a bare node does not run.
    answer = cluster.client.search(
        index=index,
        size=0,
        query={"bool": {"filter": [within, *(pill["query"] for pill in body["filters"])]}},
        aggs={
            "groups": {
                "composite": {"size": 1000, "sources": sources},
                "aggs": {"n": {"cardinality": {"field": counted["field"]}}},
            }
        },
    )
    buckets = answer["aggregations"]["groups"]["buckets"]
    return {tuple(one["key"].values()) for one in buckets if one["n"]["value"] >= counted["value"]}


def runs(case: SequenceCase, correlation: Correlation) -> Iterator[int]:
    """When a rule runs: at the first point of its schedule after each event, and when that has been silent enough."""
    times = {milliseconds(record.get("eventTime")) or 0 for record in case.records}
    late = 0
    if not correlation.rising:
        late = LATE
        times |= {time + 1 + correlation.timespan for time in times}
    yield from sorted({-(-time // GRID) * GRID + late for time in times if time <= case.searched.end})


def groups(correlation: Correlation, rule: Rule, case: SequenceCase, least: int = 0) -> set[tuple[str, ...]]:
    bases = {name: base.document for name, base in rule.references.items()}
    found = episodes(correlation, bases, case.records, case.searched)
    return {one.group for one in found if one.end - one.start >= least}


@pytest.mark.parametrize("name", ["keytrail", "ecs"])
def test_runs_find_what_the_correlation_means(cluster: Cluster, name: str) -> None:
    schema = get_schema(name)
    found, _ = detection_rules(map(quick, CORRELATIONS), schema, Options())
    rules = {one.rule.stem: one for one in found}
    seen: Counter[str] = Counter()
    with cluster.temporary_index(schema.body) as index:
        numbered = enumerate(record for case in CASES for record in case.records)
        refused = cluster.load(index, ((str(n), document(schema, record)) for n, record in numbered))
        assert schema.taken is not None or not refused
        for case in CASES:
            if case.rule in rules:
                check_case(cluster, index, rules[case.rule], case, schema, seen)
    assert seen["hit"] > 8
    assert seen["no hit"] > 8
    assert seen["outside a condition"] <= 3


def check_case(
    cluster: Cluster, index: str, one: DetectionRule, case: SequenceCase, schema: Schema, seen: Counter[str]
) -> None:
    correlation = one.rule.correlation
    silent = not correlation.rising
    hits = set().union(*(found_by(cluster, index, one.body, now) for now in runs(case, correlation)))
    known = [part for part in one.conditions if part.kind not in ("aligned", "arrived", "known", "once", "taken")]
    if any(not holds(part, schema, record) for part in known for record in case.records):
        seen["outside a condition"] += 1
        return
    # A silence is found when it lasts an interval longer, in a group that is known by its own events.
    told = {(value,) for record in case.records for value in [context(record)] if value} if silent else None
    meant = groups(correlation, one.rule, case, correlation.timespan + GRID if silent else 0)
    assert (meant if told is None else meant & told) <= hits, case.name
    # What a run finds beside that lies within its look-back, though not within the timespan.
    back = int(one.body["from"].removeprefix("now-").removesuffix("m")) * MINUTE
    wider = correlation if silent else replace(correlation, timespan=back)
    assert hits <= groups(wider, one.rule, case), case.name
    seen["hit" if hits else "no hit"] += 1


def context(record: Mapping[str, Any]) -> str | None:
    found = ((record.get("requestParameters") or {}).get("encryptionContext") or {}).get("aws:cloudtrail:arn")
    return found if isinstance(found, str) else None


# -- each kind of rule ----------------------------------------------------------------------------------------------


def correlated(stem: str, **changes: Any) -> Rule:
    """A correlation of the pack with something in it changed."""
    rule = RULES[stem]
    said = {key: value for key, value in {**rule.document["correlation"], **changes}.items() if value is not None}
    return replace(rule, document={**rule.document, "correlation": said})


def test_groups_are_fields_that_the_index_can_be_grouped_by() -> None:
    raw = get_schema("raw")
    threshold = detection_rule(RULES["bulk_log_decrypt"], raw, Options())
    assert threshold.body["threshold"]["field"] == ["userIdentity.arn.keyword"]
    assert any(part.field == "userIdentity.arn" for part in threshold.conditions)
    query = detection_rule(RULES["key_opened_then_log_read"], raw, Options()).body["query"]
    assert "BY `resources.ARN.keyword`" in query


def test_a_finding_is_one_alert_for_as_long_as_runs_see_it() -> None:
    body = detection_rule(RULES["key_opened_then_log_read"], ECS, Options()).body
    assert body["from"] == "now-65m"
    assert body["alert_suppression"]["duration"] == {"value": 65, "unit": "m"}
    assert body["alert_suppression"]["group_by"] == ["aws.cloudtrail.resources.arn"]
    check(body)


def test_an_alert_shows_how_many_events_of_each_rule_there_were() -> None:
    query = detection_rule(RULES["key_attack_stops_delivery"], KEYTRAIL, Options()).body["query"]
    assert "seen_trail_key_disabled = COUNT(*) WHERE (" in query
    assert "| WHERE ((seen_trail_key_disabled > 0 OR " in query


def test_more_values_than_elasticsearch_counts_are_a_condition() -> None:
    few, many = (
        correlated("bulk_log_decrypt", condition={"gte": number, "field": "eventID"}) for number in (3000, 3001)
    )
    kinds = [[part.kind for part in detection_rule(one, ECS, Options()).conditions] for one in (few, many)]
    assert ["counted" in found for found in kinds] == [False, True]


@pytest.mark.parametrize(
    ("rule", "name", "why"),
    [
        (RULES["trail_digests_silent"], "ecs", "does not read"),
        (RULES["key_attack_stops_delivery"], "ecs", "has no query"),
        (correlated("trail_digests_silent", condition={"eq": 3}), "keytrail", "fewer events than a number"),
        (correlated("trail_digests_silent", **{"group-by": None}), "keytrail", "no row"),
        (correlated("bulk_log_decrypt", condition={"gt": 1, "lt": 9, "field": "eventID"}), "keytrail", "fewer events"),
        (
            correlated(
                "key_opened_then_log_read",
                condition="key_access_changed and (encrypted_log_file_read and key_access_changed)",
            ),
            "keytrail",
            "two steps",
        ),
    ],
)
def test_what_no_rule_of_kibana_says_is_refused(rule: Rule, name: str, why: str) -> None:
    found, (refused,) = detection_rules([rule], get_schema(name), Options())
    assert not found
    assert why in str(refused.error)
    assert refused.error is not None
    assert refused.error.path == str(rule.path)


# -- over the alerts of other rules ---------------------------------------------------------------------------------


def test_where_esql_cannot_ask_the_events_the_alerts_of_the_rules_are_asked(cluster: Cluster) -> None:
    rule = RULES["key_attack_stops_delivery"]
    body, conditions = over_alerts.together(rule, get_schema("ecs-custom"), Options(space="test"))
    assert "alerts" in [part.kind for part in conditions]
    ids = {name: base.id for name, base in rule.references.items()}
    alerts = [
        ("both", ids["trail_key_disabled"]),
        ("both", ids["delivery_cannot_use_key"]),
        ("attack alone", ids["trail_key_disabled"]),
        ("attack alone", ids["key_policy_denies_cloudtrail"]),
        ("failure alone", ids["delivery_cannot_use_key"]),
        ("another rule", "x"),
        (None, ids["trail_key_disabled"]),
        (None, ids["delivery_cannot_use_key"]),
    ]
    keyword = {"type": "keyword"}
    mapping = {"mappings": {"properties": {"cloud.region": keyword, "kibana.alert.rule.rule_id": keyword}}}
    with cluster.temporary_index(mapping) as index:
        documents = (
            (str(n), {"kibana.alert.rule.rule_id": name, **({"cloud.region": region} if region else {})})
            for n, (region, name) in enumerate(alerts)
        )
        assert not cluster.load(index, documents)
        answer = cluster.client.esql.query(query=body["query"].replace(".alerts-security.alerts-test", index))
    names = [column["name"] for column in answer["columns"]]
    assert [dict(zip(names, row, strict=True))["cloud.region"] for row in answer["values"]] == ["both"]


def test_alerts_are_not_those_of_rules_that_a_correlation_narrows_for_itself() -> None:
    rule = RULES["key_attack_stops_delivery"]
    given = {**rule.document, "keytrail": {"allow": ["readers"]}}
    with pytest.raises(Refused, match="narrows"):
        over_alerts.together(replace(rule, document=given, site="example"), get_schema("ecs-custom"), Options())


# -- any correlation ------------------------------------------------------------------------------------------------


@given(sequences(), st.sampled_from(list(SCHEMAS)))
@settings(max_examples=60)
def test_any_correlation_is_a_rule_that_kibana_takes_or_refused(sequence: Sequence, name: str) -> None:
    rule = conversion(sequence, get_schema(name)).rule
    found, refused = detection_rules([rule], get_schema(name), Options())
    for one in found:
        check(one.body)
        assert json.loads(json.dumps(one.body)) == one.body
        assert one.verdict == "exact if"  # no rule of Kibana slides a window
    assert len(found) + len(refused) == 1
    assert all(isinstance(one.error, Refused) for one in refused)
