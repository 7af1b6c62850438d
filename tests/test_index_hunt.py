"""Hunting in a real index finds what hunting in the files finds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from keytrail.cases import load_cases, load_events
from keytrail.cluster import Cluster
from keytrail.convert import convert
from keytrail.correlation_hunt import CorrelationHit
from keytrail.data import packaged
from keytrail.hunt import AnyHit, Hit, Hunt, Window
from keytrail.index_hunt import EVER, IndexHunt
from keytrail.index_record import record_of
from keytrail.load import load
from keytrail.pack import load_rules
from keytrail.proof import corpus, holds
from keytrail.records import Reader
from keytrail.report.facts import facts
from keytrail.schemas import SCHEMAS, Schema, get_schema
from keytrail.summary import Summary
from keytrail.times import milliseconds

KEYTRAIL = get_schema("keytrail")
RULES = load_rules([packaged("rules")]).rules
START = datetime(2026, 11, 20, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """Every event and case of the fixtures, with an eventID of its own where it has one, and a time of its own."""
    fixtures = packaged("fixtures")
    events = load_events(fixtures / "events")
    found = []
    for number, event in enumerate(corpus(events, load_cases(fixtures / "cases", events))):
        record = dict(event.record)
        if isinstance(record.get("eventID"), str):
            record["eventID"] = f"{number:08}-0000-0000-0000-000000000000"
        if isinstance(record.get("eventTime"), str):
            record["eventTime"] = (START + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
        found.append(record)
    return found


@pytest.fixture(scope="module")
def logs(records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("logs") / "corpus.ndjson"
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


class Loaded(NamedTuple):
    """An index with the events that it takes, as a hunt is made ready for it, and those that it refuses."""

    name: str
    hunt: IndexHunt
    found: list[AnyHit]
    refused: set[str]


@contextmanager
def index_of(cluster: Cluster, schema: Schema, logs: str) -> Iterator[Loaded]:
    with cluster.temporary_index(schema.body) as index:
        aside: list[bytes] = []
        load(cluster, index, schema, Reader([logs]), aside=aside.append)
        hunt = IndexHunt.prepare(cluster, index, RULES)
        yield Loaded(index, hunt, list(hunt.run()), {str(json.loads(line).get("eventID")) for line in aside})


@pytest.fixture(scope="module")
def ours(cluster: Cluster, logs: str) -> Iterator[Loaded]:
    with index_of(cluster, KEYTRAIL, logs) as loaded:
        yield loaded


def shown(hit: AnyHit) -> tuple[object, ...]:
    """What a hit says, but for where it stands."""
    said = hit.as_dict()
    if isinstance(hit, CorrelationHit):
        return said["rule"], tuple(said["event_ids"]), said["from"], said["to"], tuple(said["group"].items())
    return tuple(str(said[key]) for key in said if key not in ("path", "record", "document_id"))


def in_files(logs: str, window: Window = EVER) -> list[AnyHit]:
    return list(Hunt.prepare(RULES, KEYTRAIL).run(Reader([logs]), window))


def singles(hits: Iterable[AnyHit]) -> dict[tuple[object, ...], Hit]:
    return {shown(hit): hit for hit in hits if isinstance(hit, Hit)}


def test_the_same_hits_as_in_the_files(ours: Loaded, logs: str) -> None:
    meant = in_files(logs)
    assert {shown(hit) for hit in ours.found} == {shown(hit) for hit in meant}
    assert not ours.refused
    assert len({hit.rule.stem for hit in ours.found}) > 45
    assert any(isinstance(hit, CorrelationHit) for hit in ours.found)
    assert ours.hunt.counts.total() == len(ours.found)
    reader, files = Reader([logs]), Hunt.prepare(RULES, KEYTRAIL)
    assert len(list(files.run(reader))) == len(meant)
    ends = Summary.of(files, reader)
    assert (ours.hunt.summary().first, ours.hunt.summary().last) == (ends.first, ends.last) != (None, None)


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "keytrail"])
def test_in_other_indices_hits_differ_where_a_condition_does_not_hold_and_nowhere_else(
    cluster: Cluster, name: str, records: list[dict[str, Any]], logs: str
) -> None:
    schema = get_schema(name)
    by_id = {str(record.get("eventID")): record for record in records}
    with index_of(cluster, schema, logs) as loaded:
        there, meant = singles(loaded.found), singles(in_files(logs))
        conversions = {rule.id: convert(rule, loaded.hunt.schema) for rule in RULES}
        compared = 0
        for said in there.keys() | meant.keys():
            hit = there.get(said) or meant[said]
            event = str(hit.record.get("eventID"))
            if event in loaded.refused or hit.rule.id in loaded.hunt.refused or event == "None":
                continue
            conditions = conversions[hit.rule.id].conditions
            kept = all(holds(condition, loaded.hunt.schema, by_id[event]) for condition in conditions)
            assert (said in there) == (said in meant) or not kept, said
            compared += kept
        assert compared > 150


def test_hits_come_by_time_over_any_number_of_pages(cluster: Cluster, ours: Loaded) -> None:
    single = [rule for rule in RULES if rule.kind == "rule"][:12]
    paged = IndexHunt.prepare(cluster, ours.name, single)
    paged.page = 3
    found = list(paged.run())
    assert list(map(shown, found)) == [shown(hit) for hit in ours.found if hit.rule in single]
    assert len(found) > 30
    times = [str(hit.as_dict()["event_time"]) for hit in found]
    known = [time for time in times if time != "None"]
    assert known == sorted(known)


@pytest.mark.parametrize(("since", "until"), [(100, 200), (300.5, None), (None, 5)])
def test_a_window_holds_the_same_events(ours: Loaded, logs: str, since: float | None, until: float | None) -> None:
    window = Window(*(None if one is None else START + timedelta(seconds=one) for one in (since, until)))
    found = list(ours.hunt.run(window))
    assert {shown(hit) for hit in found} == {shown(hit) for hit in in_files(logs, window)}


@pytest.mark.parametrize("query", [{"range": {"@timestamp": {"gte": "no time"}}}, {"no such query": {}}])
def test_a_query_that_the_server_rejects_is_refused_by_name(cluster: Cluster, ours: Loaded, query: Any) -> None:
    hunt = IndexHunt.prepare(cluster, ours.name, RULES[:6])
    spoiled = hunt._asked[0]
    spoiled.query = query
    found = list(hunt.run())
    assert "Elasticsearch rejects the query" in hunt.refused[spoiled.rule.id]
    assert spoiled.rule.id not in hunt.counts
    assert found


def tampering(folder: Path) -> tuple[str, str]:
    """Two files whose events are an incident, of which each has one."""
    events = load_events(packaged("fixtures") / "events")
    who = events["disable_key"]["userIdentity"]
    found = []
    for minute, stem in enumerate(("disable_key", "stop_logging")):
        path = folder / f"{stem}.json"
        time = {"eventTime": f"2026-11-20T10:0{minute}:00Z", "eventID": stem, "userIdentity": who}
        path.write_text(json.dumps({"Records": [{**events[stem], **time}]}))
        found.append(str(path))
    return found[0], found[1]


def test_what_comes_while_a_hunt_runs_is_in_none_of_its_answers(cluster: Cluster, tmp_path: Path) -> None:
    first, second = tampering(tmp_path)
    with cluster.temporary_index(KEYTRAIL.body) as index:
        load(cluster, index, KEYTRAIL, Reader([first]), aside=print)
        hits = IndexHunt.prepare(cluster, index, RULES).run()
        assert next(hits).rule.stem == "trail_key_disabled"
        load(cluster, index, KEYTRAIL, Reader([second]), aside=print)
        cluster.client.indices.refresh(index=index)
        assert [hit.rule.stem for hit in hits if isinstance(hit, CorrelationHit)] == []
        both = {hit.rule.stem for hit in IndexHunt.prepare(cluster, index, RULES).run()}
        assert {"trail_key_disabled", "trail_stopped_or_deleted", "key_and_trail_tampered"} <= both


def test_a_rule_that_had_no_hit_is_not_asked_again_for_a_correlation(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.temporary_index(KEYTRAIL.body) as index:
        load(cluster, index, KEYTRAIL, Reader([tampering(tmp_path)[0]]), aside=print)
        cluster.client.indices.refresh(index=index)
        hunt = IndexHunt.prepare(cluster, index, RULES)
        before = searches(cluster, index)
        assert "trail_key_disabled" in {hit.rule.stem for hit in hunt.run()}
        single = sum(rule.kind == "rule" for rule in RULES)
        assert searches(cluster, index) - before < single + 20


def searches(cluster: Cluster, index: str) -> int:
    """How many searches the index has run."""
    found = cluster.client.indices.stats(index=index, metric="search")
    return int(found["_all"]["total"]["search"]["query_total"])


def test_rules_without_their_telemetry_are_blind(cluster: Cluster) -> None:
    with cluster.temporary_index(KEYTRAIL.body) as index:
        hunt = IndexHunt.prepare(cluster, index, RULES)
        assert list(hunt.run()) == []
        assert "the index has no" in next(iter(hunt.blind.values()))
        assert len(hunt.blind) > 40


def test_a_record_is_put_together_from_what_came_back() -> None:
    source: dict[str, Any] = {"@timestamp": "2026-11-20T10:00:00.000Z", "a": {"b.c": ["x", "y"]}, "d": {"e": None}}
    fields = {"eventTime": "@timestamp", "userIdentity.arn": "a.b.c", "errorCode": "d.e"}
    assert record_of(source, fields) == {"eventTime": "2026-11-20T10:00:00Z", "userIdentity": {"arn": ["x", "y"]}}
    own = {"eventTime": "2026-11-20T10:00:00.5+01:00"}
    assert record_of(own, {"eventTime": "eventTime"}) == own


ODD: list[dict[str, Any]] = [
    {"eventTime": "2026-11-20T10:00:00+05:30"},
    {"eventTime": "2026-11-20T10:00:00.123456789Z"},
    {"eventTime": "no time"},
    {"eventTime": None},
    {"eventID": None},
    {"eventID": None, "vpcEndpointId": "vpce-1"},
    {"eventID": 7},
    {"eventID": ""},
]


def test_what_has_no_event_id_or_an_odd_time_is_told_as_in_the_files(cluster: Cluster, tmp_path: Path) -> None:
    event = load_events(packaged("fixtures") / "events")["disable_key"]
    path = tmp_path / "odd.ndjson"
    path.write_text("\n".join(json.dumps({**event, **odd}) for odd in ODD))
    with cluster.temporary_index(KEYTRAIL.body) as index:
        load(cluster, index, KEYTRAIL, Reader([str(path)]), aside=print)
        found = [hit for hit in IndexHunt.prepare(cluster, index, RULES).run() if isinstance(hit, Hit)]
        meant = [hit for hit in in_files(str(path)) if isinstance(hit, Hit)]
        assert sorted(map(shown, found)) == sorted(map(shown, meant))
        nameless = {hit.as_dict()["alert_id"] for hit in found if not isinstance(hit.as_dict()["event_id"], str)}
        assert len(nameless) == 3
        places = {hit.place for hit in found}
        assert len(places) == len(found)
        assert all(place.startswith(f"{index}, document ") for place in places)


def test_a_report_of_an_index_names_the_same_keys_and_the_documents(ours: Loaded, logs: str) -> None:
    there = {hit.rule.stem: facts(hit).key for hit in ours.found if isinstance(hit, Hit)}
    assert there == {hit.rule.stem: facts(hit).key for hit in in_time(in_files(logs))}
    assert sum(key is not None for key in there.values()) > 30


def in_time(hits: Iterable[AnyHit]) -> list[Hit]:
    """The hits of single rules by their time, as an index gives them."""
    found = [hit for hit in hits if isinstance(hit, Hit)]
    return sorted(found, key=lambda hit: milliseconds(hit.record.get("eventTime")) or -1)


def test_only_the_needed_fields_come_back(cluster: Cluster, tmp_path: Path) -> None:
    events = load_events(packaged("fixtures") / "events")
    record = {**events["disable_key"], "requestParameters": {"keyId": "k", "unwanted": "x" * 5000}}
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"Records": [record]}))
    with cluster.temporary_index(KEYTRAIL.body) as index:
        load(cluster, index, KEYTRAIL, Reader([str(path)]), aside=print)
        (hit,) = [
            hit for hit in IndexHunt.prepare(cluster, index, RULES).run() if hit.rule.stem == "trail_key_disabled"
        ]
        assert not isinstance(hit, CorrelationHit)
        assert hit.record["requestParameters"] == {"keyId": "k"}
        assert hit.as_dict()["path"] == index
