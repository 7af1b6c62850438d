"""What can go wrong in a hunt over an index, and that none of it is passed over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from click.testing import CliRunner, Result
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.data import packaged
from keytrail.errors import ClusterError, SchemaError, UsageError
from keytrail.hunt import Window, instant
from keytrail.index_hunt import IndexHunt
from keytrail.load import load
from keytrail.pack import load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema

from tests.between import Answer, Asked, between, failed

KEYTRAIL = get_schema("keytrail")
RULES = load_rules([packaged("rules")]).rules
SAMPLE = str(packaged("fixtures") / "sample")
HITS = 102
Json = dict[str, Any]


def lost(line: bytes) -> None:
    pytest.fail(f"refused: {line!r}")


@pytest.fixture(scope="module")
def sample(cluster: Cluster) -> Iterator[str]:
    """An index with the sample's events."""
    with cluster.temporary_index(KEYTRAIL.body) as index:
        load(cluster, index, KEYTRAIL, Reader([SAMPLE]), aside=lost)
        yield index


@pytest.fixture
def names(cluster: Cluster) -> Iterator[Callable[[str], str]]:
    """Names of indices that are gone in the end."""
    start = f"trouble-{os.urandom(6).hex()}"
    yield lambda end: f"{start}-{end}"
    for name in cluster.client.indices.get_settings(index=f"{start}-*", expand_wildcards="all").body:
        cluster.client.indices.delete(index=name)


def hunted(url: str, index: str, *more: str) -> Result:
    return CliRunner().invoke(main, ["hunt", "--elasticsearch", url, "--index", index, "--format", "json", *more])


def hits(result: Result) -> int:
    return len(json.loads(result.stdout)["hits"])


# What answers.


def of(part: str, answer: Answer, first: int = 1, last: int = 99) -> Callable[[Asked], Answer | None]:
    """Answer the first requests of a kind, by a part of their path, with something else."""
    seen = 0

    def instead(asked: Asked) -> Answer | None:
        nonlocal seen
        seen += part in asked.path
        return answer if part in asked.path and first <= seen <= last else None

    return instead


def each(asked: Asked, body: Json, change: Callable[[Json], object]) -> Json:
    """Change each answer of a request with many searches."""
    for one in body["responses"] if "_msearch" in asked.path else ():
        if "error" not in one:
            change(one)
    return body


LIES: dict[str, Callable[[Asked, Any], Any]] = {
    "a list": lambda asked, body: [1, 2],
    "nothing": lambda asked, body: None if "_search" in asked.path else body,
    "one answer too few": lambda asked, body: (
        {"responses": body["responses"][1:]} if "_msearch" in asked.path else body
    ),
    "no hits": lambda asked, body: each(asked, body, lambda one: one.pop("hits")),
    "no sort": lambda asked, body: each(asked, body, lambda one: [hit.pop("sort") for hit in one["hits"]["hits"]]),
    "no source": lambda asked, body: each(
        asked, body, lambda one: [hit.update(_source=None) for hit in one["hits"]["hits"]]
    ),
    "no total": lambda asked, body: (
        {**body, "hits": {"total": None, "hits": []}} if "/_search" in asked.path and "hits" in body else body
    ),
    "no settings": lambda asked, body: {} if "_settings" in asked.path else body,
    "no mapping": lambda asked, body: {"x": {"mappings": []}} if "_mapping" in asked.path else body,
    "no point in time": lambda asked, body: {} if asked.path.endswith("5m") else body,
    "a failed shard": lambda asked, body: (
        {**body, "_shards": {"total": 1, "successful": 0, "failed": 1}} if "/_search" in asked.path else body
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_elasticsearch_would_not_give_is_a_named_error(cluster: Cluster, sample: str, lie: str) -> None:
    with between(cluster.url, change=LIES[lie]) as url:
        found = hunted(url, sample)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "answer", [Answer(200, b"<html>", "text/html"), Answer(302, b""), Answer(200, b'{"a":' * 10**5)]
)
def test_a_server_that_is_no_elasticsearch_is_a_named_error(cluster: Cluster, sample: str, answer: Answer) -> None:
    for place in ("_mapping", "_msearch"):
        with between(cluster.url, of(place, answer)) as url:
            found = hunted(url, sample)
        assert found.exit_code == 2
        assert found.stderr.startswith("error: could not")


@pytest.mark.parametrize("times", [1, 99])
def test_a_search_that_the_cluster_is_too_busy_for_is_asked_again_and_no_rule_is_refused_for_it(
    cluster: Cluster, sample: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keytrail.cluster.WAITS", (0, 0))
    left = times

    def busy(one: Json) -> None:
        error = {"type": "search_phase_execution_exception", "reason": "all shards failed"}
        one.clear()
        one.update(error=error, status=429)

    def change(asked: Asked, body: Any) -> Any:
        nonlocal left
        if "_msearch" in asked.path and left and "responses" in body:
            left -= 1
            busy(body["responses"][-1])
        return body

    with between(cluster.url, change=change) as url:
        found = hunted(url, sample)
    if times == 1:
        assert (found.exit_code, hits(found)) == (0, HITS)
    else:
        assert found.exit_code == 2
        assert "Elasticsearch is too busy: search_phase_execution_exception" in found.stderr


def test_a_small_node_is_not_asked_more_at_once_than_it_has_memory_for(servers: Mapping[str, Cluster]) -> None:
    """Version 9 counts the memory that expressions take, and those of the pack together are too much for the node."""
    with servers["9"].temporary_index(KEYTRAIL.body) as index:
        load(servers["9"], index, KEYTRAIL, Reader([SAMPLE]), aside=lost)
        hunt = IndexHunt.prepare(servers["9"], index, RULES)
        assert len(list(hunt.run())) == HITS
        assert not [why for why in hunt.refused.values() if "Elasticsearch" in why]


def test_a_query_that_there_is_no_memory_for_refuses_its_rule_and_nothing_else(
    cluster: Cluster, sample: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keytrail.cluster.WAITS", (0, 0))

    def change(asked: Asked, body: Any) -> Any:
        for place, query in enumerate(asked.body.splitlines()[1::2]) if "_msearch" in asked.path else ():
            if b"ReEncrypt" in query:
                error = {"type": "circuit_breaking_exception", "reason": "Data too large"}
                body["responses"][place] = {"error": error, "status": 429}
        return body

    with between(cluster.url, change=change) as url:
        found = hunted(url, sample)
    refused = [line for line in found.stderr.splitlines() if "circuit_breaking_exception: Data too large" in line]
    assert (found.exit_code, hits(found)) == (1, HITS - 1)
    assert refused
    assert all("Elasticsearch rejects the query" in line for line in refused)


def test_a_point_in_time_that_is_lost_ends_the_hunt_and_refuses_no_rule(cluster: Cluster, sample: str) -> None:
    def change(asked: Asked, body: Any) -> Any:
        gone = {"error": {"type": "search_context_missing_exception", "reason": "gone"}, "status": 404}
        return {"responses": [gone] * len(body["responses"])} if "_msearch" in asked.path else body

    with between(cluster.url, change=change) as url:
        found = hunted(url, sample)
    assert found.exit_code == 2
    assert "search_context_missing_exception" in found.stderr
    assert "refused" not in found.stderr


def test_what_cannot_be_asked_about_the_index_is_not_taken_for_known(cluster: Cluster, sample: str) -> None:
    assert len(json.loads(hunted(cluster.url, sample).stdout)["blind"]) == 4
    with between(cluster.url, of(f"/{sample}/_search", failed(503, "no_shard_available_action_exception"))) as url:
        found = hunted(url, sample)
    assert found.exit_code == 2
    assert "no_shard_available_action_exception" in found.stderr


def test_a_rejected_query_of_a_correlation_refuses_it_and_nothing_else(cluster: Cluster, sample: str) -> None:
    hunt = IndexHunt.prepare(cluster, sample, RULES)
    rule, plan, _ = next(one for one in hunt._correlations if one[0].stem == "key_and_trail_tampered")
    for searches in plan["rules"].values():
        searches["candidates"]["query"] = {"range": {"@timestamp": {"gte": "no time"}}}
    found = list(hunt.run())
    assert len(found) == HITS - 1
    assert "Elasticsearch rejects a query: " in hunt.refused[rule.id]
    assert rule.id not in hunt.counts


# What is left behind.


def open_contexts(cluster: Cluster) -> int:
    nodes = cluster.client.nodes.stats(metric="indices", index_metric="search")["nodes"]
    return sum(node["indices"]["search"]["open_contexts"] for node in nodes.values())


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "the reader goes"])
def test_a_hunt_that_ends_early_leaves_no_point_in_time_open(cluster: Cluster, sample: str, ending: str) -> None:
    import signal

    before = open_contexts(cluster)
    words = ("hunt", "--elasticsearch", cluster.url, "--index", sample, "--format", "ndjson")
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["rule"]
    assert open_contexts(cluster) > before
    if ending == "the reader goes":
        process.stdout.close()
    else:
        process.send_signal(getattr(signal, ending))
    said = process.stderr.read().decode()
    assert process.wait(60) == {"SIGINT": 130, "SIGTERM": 143}.get(ending, 0)
    assert "Traceback" not in said
    assert open_contexts(cluster) == before
    process.stderr.close()
    process.stdout.close()


# The command, with each hit written at once and a pause behind it, so that it is surely ended in the middle.
SLOW = """
import sys, time
from keytrail.cli import main
from keytrail.commands import _outputs
for style in _outputs.STYLES.values():
    def slowly(self, hit, take=style.take):
        take(self, hit)
        sys.stdout.flush()
        time.sleep(0.1)
    style.take = slowly
main()
"""


# What is behind a name.


def test_a_closed_index_behind_a_pattern_is_told_and_the_others_are_searched(
    cluster: Cluster, names: Callable[[str], str]
) -> None:
    for end in ("open", "closed"):
        cluster.client.indices.create(index=names(end), body=dict(KEYTRAIL.body))
        load(cluster, names(end), KEYTRAIL, Reader([SAMPLE]), aside=lost)
    cluster.client.indices.close(index=names("closed"))
    found = hunted(cluster.url, names("*"))
    assert (found.exit_code, hits(found)) == (2, HITS)
    assert f"error: the index {names('closed')} is closed: it is not searched" in found.stderr
    assert json.loads(found.stdout)["read"]["bad"] == 1
    without = hunted(cluster.url, f"{names('*')},-{names('closed')}")
    assert (without.exit_code, hits(without)) == (0, HITS)


@pytest.mark.parametrize("what", ["comes", "goes"])
def test_an_index_that_comes_or_goes_once_the_rules_are_compiled_is_noticed(
    cluster: Cluster, names: Callable[[str], str], what: str
) -> None:
    for end in ("1", "2"):
        cluster.client.indices.create(index=names(end), body=dict(KEYTRAIL.body))
    hunt = IndexHunt.prepare(cluster, names("*"), RULES[:2])
    if what == "comes":
        cluster.client.indices.create(index=names("3"))
    else:
        cluster.client.indices.delete(index=names("2"))
    with pytest.raises(ClusterError, match=f"{names('3' if what == 'comes' else '2')} came or went meanwhile"):
        list(hunt.run())


def test_an_alias_with_a_routing_has_fewer_shards_and_is_hunted_in(
    cluster: Cluster, names: Callable[[str], str]
) -> None:
    body = {**KEYTRAIL.body, "settings": {**KEYTRAIL.body["settings"], "index.number_of_shards": 3}}
    cluster.client.indices.create(index=names("1"), body=body)
    cluster.client.indices.put_alias(index=names("1"), name=names("alias"), routing="one")
    load(cluster, names("alias"), KEYTRAIL, Reader([SAMPLE]), aside=lost)
    assert hits(hunted(cluster.url, names("alias"))) == HITS


@pytest.mark.parametrize(
    "kept",
    [
        {"enabled": False},
        {"excludes": ["userIdentity*"]},
        {"excludes": ["userIdentity"]},
        {"includes": ["event*", "@timestamp"]},
    ],
)
def test_an_index_that_does_not_give_back_what_is_needed_is_refused(
    cluster: Cluster, names: Callable[[str], str], kept: Json
) -> None:
    body = {**KEYTRAIL.body, "mappings": {**KEYTRAIL.body["mappings"], "_source": kept}}
    cluster.client.indices.create(index=names("1"), body=body)
    with pytest.raises(UsageError, match=r"does not keep .*_source"):
        IndexHunt.prepare(cluster, names("1"), RULES)


def test_an_index_that_gives_back_what_is_needed_is_hunted_in(cluster: Cluster, names: Callable[[str], str]) -> None:
    body = {
        **KEYTRAIL.body,
        "mappings": {**KEYTRAIL.body["mappings"], "_source": {"excludes": ["message", "tlsDetails"]}},
    }
    cluster.client.indices.create(index=names("1"), body=body)
    load(cluster, names("1"), KEYTRAIL, Reader([SAMPLE]), aside=lost)
    assert hits(hunted(cluster.url, names("1"))) == HITS


def test_the_time_of_an_event_is_when_it_happened_and_not_when_it_came(
    cluster: Cluster, names: Callable[[str], str]
) -> None:
    text = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}
    properties = dict.fromkeys(("eventName", "eventSource", "errorCode"), text)
    body = {"mappings": {"properties": {**properties, "eventTime": {"type": "date"}, "@timestamp": {"type": "date"}}}}
    cluster.client.indices.create(index=names("1"), body=body)
    event = load_events(packaged("fixtures") / "events")["disable_key"]
    times = [f"2026-11-20T{hour:02}:00:00Z" for hour in (11, 9, 10)]
    came = {"@timestamp": "2026-11-26T00:00:00Z"}
    documents = {time: {**event, **came, "eventID": time, "eventTime": time} for time in times}
    assert cluster.load(names("1"), documents.items()) == {}
    found = IndexHunt.prepare(cluster, names("1"), [rule for rule in RULES if rule.stem == "trail_key_disabled"])
    window = Window(instant("2026-11-20T10:00:00Z"), instant("2026-11-21"))
    assert [hit.as_dict().get("event_time") for hit in found.run()] == sorted(times)
    assert [hit.as_dict().get("event_time") for hit in found.run(window)] == sorted(times)[1:]


def test_an_index_whose_events_have_no_time_is_refused(cluster: Cluster, names: Callable[[str], str]) -> None:
    body = json.loads(json.dumps(KEYTRAIL.body))
    cluster.client.indices.create(index=names("good"), body=body)
    body["mappings"]["properties"]["@timestamp"] = {"type": "keyword"}
    cluster.client.indices.create(index=names("bad"), body=body)
    for pattern in (names("bad"), names("*")):
        with pytest.raises(SchemaError, match="@timestamp is no date in"):
            IndexHunt.prepare(cluster, pattern, RULES)


def test_an_event_time_that_is_a_date_in_one_of_two_indices_is_not_asked(
    cluster: Cluster, names: Callable[[str], str]
) -> None:
    body = json.loads(json.dumps(KEYTRAIL.body))
    cluster.client.indices.create(index=names("1"), body=body)
    body["mappings"]["properties"]["eventTime"] = {"type": "date"}
    cluster.client.indices.create(index=names("2"), body=body)
    load(cluster, names("1"), KEYTRAIL, Reader([SAMPLE]), aside=lost)
    assert IndexHunt.prepare(cluster, names("2"), RULES).schema.time == "eventTime"
    assert hits(hunted(cluster.url, names("*"))) == HITS
