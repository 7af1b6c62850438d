"""``keytrail verify``: on an index that made its own fields, an ECS one, one in conflict; and what can go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail import telemetry, trial
from keytrail.cases import load_cases, load_events
from keytrail.cli import main
from keytrail.cluster import Cluster, connect
from keytrail.errors import ClusterError
from keytrail.holding import _BREACHES
from keytrail.pack import Rule, load_rules
from keytrail.proof import _MAP_CONDITIONS, _RECORD_CONDITIONS, _VALUE_CONDITIONS
from keytrail.schemas import SCHEMAS, ecs, ecs_custom
from keytrail.schemas.live import live_schema, read_cluster
from keytrail.verify import Verification, verify

ROOT = Path(__file__).parents[1]
ALL = load_events(ROOT / "fixtures" / "events")
# A few kinds of events: an index learns the fields of each new kind one by one, which takes its time.
KINDS = ("DisableKey", "PutKeyPolicy", "GenerateDataKey", "Decrypt", "DeleteObject", "PutObject")
EVENTS = {name: record for name, record in ALL.items() if record["eventName"] in KINDS}
STEMS = ("trail_key_disabled", "log_file_sealed", "key_policy_without_cloudtrail", "log_objects_deleted", "sse_c_write")
CASES = [case for case in load_cases(ROOT / "fixtures" / "cases", ALL) if case.rule in STEMS]
RULES = [rule for rule in load_rules([ROOT / "rules"]).rules if rule.stem in STEMS]
TEXT = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}
Documents = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def indices(cluster: Cluster) -> Iterator[Cluster]:
    """The indices that users have, with the fixture events: they must be as before after each verification."""
    named: dict[str, tuple[Mapping[str, Any], Documents]] = {
        "verify-dynamic": ({}, EVENTS),
        "verify-ecs": (ecs.SCHEMA.body, {name: ecs.document(record) for name, record in EVENTS.items()}),
        "verify-conflict-1": ({}, EVENTS),
        "verify-conflict-2": ({"mappings": {"properties": {"eventName": {"type": "text"}, "userAgent": TEXT}}}, {}),
        "verify-empty": ({}, {}),
        "verify-closed": ({"mappings": {"properties": {"eventName": TEXT}}}, {}),
    }
    clean = cluster.client.options(ignore_status=404).indices
    try:
        for name, (body, documents) in named.items():
            clean.delete(index=name)
            cluster.client.indices.create(index=name, body=dict(body))
            assert cluster.load(name, documents.items()) == {}
        cluster.client.indices.close(index="verify-closed")
        yield cluster
    finally:
        for name in named:
            clean.delete(index=name)


def left_over(cluster: Cluster) -> list[str]:
    return sorted(cluster.client.indices.get(index="keytrail-*"))


def verified(cluster: Cluster, pattern: str, **more: Any) -> Verification:
    before = cluster.client.indices.get(index=pattern).body
    found = verify(cluster, pattern, RULES, CASES, EVENTS, **more)
    assert cluster.client.indices.get(index=pattern).body == before
    assert left_over(cluster) == []
    assert not any(one.diverges or one.rejected for one in found.rules)
    assert all(rule["outcome"] for rule in found.as_dict()["rules"])
    return found


def of(found: Verification, stem: str) -> dict[str, Any]:
    (one,) = (one.as_dict(found.schema) for one in found.rules if one.made.rule.stem == stem)
    return one


def states(found: Verification, stem: str) -> dict[str, str]:
    return {part["kind"]: part["state"] for part in of(found, stem)["conditions"]}


def test_an_index_that_made_its_own_fields(indices: Cluster) -> None:
    found = verified(indices, "verify-dynamic")
    assert found.schema.naming == "raw"
    assert (of(found, "trail_key_disabled")["outcome"], of(found, "trail_key_disabled")["blind"]) == ("exact if", [])
    assert states(found, "log_file_sealed")["not_longer"] == "holds"
    policy = of(found, "key_policy_without_cloudtrail")
    (broken,) = (part for part in policy["conditions"] if part["state"] == "broken")
    assert (broken["kind"], broken["limit"]) == ("not_longer", 256)
    assert broken["documents"] == sum(
        len(str((record.get("requestParameters") or {}).get("policy", ""))) > 256
        for record in EVENTS.values()
        if record["eventName"] == "PutKeyPolicy" and "errorCode" not in record
    )
    assert set(broken["examples"]) <= set(EVENTS)
    assert any('{"policy": {"type": "keyword"' in fix for fix in policy["fixes"])
    assert states(found, "trail_key_disabled")["taken"] == "cannot be tested by a query"
    assert all("document_parsing_exception" in reason for reason in found.tried.refused.values())
    assert not found.ok


def test_an_ecs_index(indices: Cluster) -> None:
    found = verified(indices, "verify-ecs")
    assert found.schema.naming == "ecs"
    assert found.tried.refused == {}
    policy = of(found, "key_policy_without_cloudtrail")
    assert policy["outcome"] == "refused"
    assert "ecs-custom" in policy["fixes"][-1]
    # Two policies are too long for the map's string, and no key policy is an event of the sealing of files.
    assert states(found, "log_file_sealed")["map_not_longer"] == "holds"
    assert states(found, "log_objects_deleted")["map_not_longer"] == "broken"
    assert states(found, "log_file_sealed")["kept_whole"] == "holds"
    assert states(found, "log_file_sealed")["kept"] == "cannot be tested by a query"
    assert of(found, "sse_c_write")["blind"] == []


def test_two_indices_with_different_types(indices: Cluster) -> None:
    found = verified(indices, "verify-conflict-*")
    assert found.as_dict()["conflicts"] == {
        "eventName.keyword": "the indices keep it in different ways: "
        "keyword in verify-conflict-1; no such sub-field in verify-conflict-2"
    }
    for stem in STEMS:
        one = of(found, stem)
        assert one["outcome"] == "refused"
        assert "verify-conflict-2" in one["reason"]
        assert one["fixes"][0].startswith("give it one type in all of them")


def test_documents_from_before_the_pipeline_break_the_condition_on_copies(cluster: Cluster) -> None:
    with cluster.temporary_index(ecs_custom.SCHEMA.body) as index:
        documents = {name: ecs_custom.document(record) for name, record in EVENTS.items()}
        documents["put_key_policy"] = ecs.document(EVENTS["put_key_policy"])
        cluster.load(index, documents.items())
        found = verify(cluster, index, RULES, CASES, EVENTS)
    assert states(found, "log_file_sealed")["copied"] == "holds"
    policy = of(found, "key_policy_without_cloudtrail")
    broken = [(part["kind"], part["examples"]) for part in policy["conditions"] if part["state"] == "broken"]
    assert set(map(str, broken)) == {str(("copied", ["put_key_policy"]))}


def test_rules_whose_events_are_not_there_are_blind(cluster: Cluster) -> None:
    with cluster.temporary_index(SCHEMAS["keytrail"].body) as index:
        kept = {name: record for name, record in EVENTS.items() if record["eventSource"] == "kms.amazonaws.com"}
        reads = {name: record for name, record in kept.items() if record.get("readOnly")}
        cluster.load(index, ((name, SCHEMAS["keytrail"].document(record)) for name, record in reads.items()))
        found = verify(cluster, index, RULES, CASES, EVENTS)
    assert of(found, "trail_key_disabled")["blind"] == ["management events that write"]
    assert of(found, "sse_c_write")["blind"] == ["data events of s3.amazonaws.com"]
    assert not found.ok


def test_an_index_that_leaves_fields_out_is_not_taken_for_one_without_the_events(cluster: Cluster) -> None:
    keyword = {"type": "keyword"}
    body = {"mappings": {"dynamic": False, "properties": {"eventName": keyword, "eventSource": keyword}}}
    with cluster.temporary_index(body) as index:
        cluster.load(index, EVENTS.items())
        found = verify(cluster, index, RULES, CASES, EVENTS)
    assert of(found, "trail_key_disabled")["outcome"] == "unmapped"
    assert of(found, "trail_key_disabled")["blind"] == []
    (kind, _) = found.telemetry["kms-management"]
    assert kind.events is None
    assert "leaves new fields out" in str(kind.why)


def test_an_index_without_room_for_a_text_is_full(cluster: Cluster) -> None:
    with cluster.temporary_index({}) as index:
        cluster.load(index, EVENTS.items())
        used = live_schema(read_cluster(cluster, index), index).fullest[1]
        cluster.client.indices.put_settings(index=index, settings={"index.mapping.total_fields.limit": used + 1})
        found = verify(cluster, index, RULES, CASES, EVENTS)
    assert states(found, "trail_key_disabled")["taken"] == "broken"
    assert any("Limit of total fields" in reason for reason in found.tried.refused.values())


def test_an_index_that_is_all_right(cluster: Cluster) -> None:
    with cluster.temporary_index(SCHEMAS["keytrail"].body) as index:
        cluster.load(index, ((name, SCHEMAS["keytrail"].document(record)) for name, record in EVENTS.items()))
        found = verify(cluster, index, RULES, CASES, EVENTS)
        words = ["verify", "trail_key_disabled", "--elasticsearch", cluster.url, "--index", index]
        result = CliRunner().invoke(main, words)
    assert found.ok
    assert result.exit_code == 0, result.output
    assert "1 rules: 1 exact; 0 with a broken condition, 0 blind" in result.output


def test_what_json_holds(indices: Cluster) -> None:
    words = [
        "verify",
        "--elasticsearch",
        indices.url,
        "--index",
        "verify-dynamic",
        "--format",
        "json",
        "log_file_sealed",
    ]
    result = CliRunner().invoke(main, words)
    shown = json.loads(result.stdout)
    assert result.exit_code == (0 if shown["ok"] else 1)
    assert shown["indices"] == ["verify-dynamic"]
    assert shown["tried_on"].startswith("Elasticsearch ")
    assert shown["fields"]["limit"] == 1000
    assert set(shown["telemetry"]) == {"kms-read"}
    assert [rule["rule"] for rule in shown["rules"]] == ["log_file_sealed"]
    assert shown["rules"][0]["fixes"] == []


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("verify-none", "no such index [verify-none]"),
        ("verify-none-*", "no index matches 'verify-none-*'"),
        ("verify-empty", "verify-empty has no fields yet"),
        ("", "the name of the index is empty"),
        ("verify-closed", "the index verify-closed is closed"),
    ],
)
def test_an_index_that_cannot_be_verified(indices: Cluster, index: str, says: str) -> None:
    result = CliRunner().invoke(main, ["verify", "--elasticsearch", indices.url, "--index", index])
    assert result.exit_code == 2
    assert says in result.output
    assert left_over(indices) == []


@pytest.mark.parametrize(("url", "says"), [("http://127.0.0.1:9", "cannot be reached"), ("nonsense", "no URL")])
def test_a_wrong_url(url: str, says: str) -> None:
    result = CliRunner().invoke(main, ["verify", "--elasticsearch", url, "--index", "x"])
    assert result.exit_code == 2
    assert says in result.output


# Where no temporary index can be made.


def test_without_the_permission_the_embedded_engine_takes_over(indices: Cluster) -> None:
    def block(on: bool | None) -> None:
        indices.client.cluster.put_settings(persistent={"cluster.blocks.read_only": on})

    try:
        block(True)
        found = verify(indices, "verify-ecs", RULES, CASES, EVENTS)
    finally:
        block(None)
    assert found.tried.engine == "the embedded engine"
    assert "lets no temporary index be made" in found.tried.notes[0]
    assert "--prove-on" in found.tried.notes[-1]
    assert of(found, "trail_key_disabled")["outcome"] == "exact if"
    assert found.events == len(EVENTS) + len(CASES)


def test_another_elasticsearch_can_be_named(indices: Cluster) -> None:
    with connect(indices.url, anonymous=True).client as client:
        found = verified(indices, "verify-ecs", prove_on=Cluster(client, "http://another"))
    assert found.tried.engine.endswith("http://another")


def test_types_that_a_server_lacks_are_not_proven_there(cluster: Cluster) -> None:
    body = {"mappings": {"properties": {"a": {"type": "wildcard"}, "b": {"type": "constant_keyword", "value": "x"}}}}
    schema = SCHEMAS["keytrail"]
    mapped = {**schema.body["mappings"]["properties"], **body["mappings"]["properties"]}
    made = type(schema)("made", "", "made", {}, {}, {"mappings": {"properties": mapped}}, dict)
    found = trial.on_cluster(cluster, made, {"q": {"wildcard": {"a": {"value": "x*"}}}}, {"1": {"a": "xy"}})
    if found.notes:  # a whole Elasticsearch has them all
        assert "wildcard" in found.notes[0]
        assert "constant_keyword, wildcard are not proven there" in found.notes[1]
    assert found.hits == {"q": frozenset({"1"})}
    assert left_over(cluster) == []


def test_the_temporary_index_goes_when_something_fails(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Cluster, index: str, documents: object) -> dict[str, str]:
        assert left_over(cluster) == [index]
        raise ClusterError("the disk is full")

    monkeypatch.setattr(Cluster, "load", failing)
    with pytest.raises(ClusterError, match="the disk is full"):
        trial.on_cluster(cluster, SCHEMAS["keytrail"], {}, {"1": {}})
    assert left_over(cluster) == []


# Stopped.

STOPPED = """
import os, signal, sys
from keytrail import trial
from keytrail.cli import main
from keytrail.cluster import Cluster
number, again = int(sys.argv.pop(1)), sys.argv.pop(1) == "again"
search, delete = Cluster.search_each, trial._delete
def stopped_search(*args):
    print("searching", sorted(args[0].client.indices.get(index="keytrail-*")), flush=True)
    os.kill(os.getpid(), number)
    return search(*args)
def stopped_delete(*args):
    if again:
        os.kill(os.getpid(), number)
    delete(*args)
Cluster.search_each, trial._delete = stopped_search, stopped_delete
main()
"""


@pytest.mark.parametrize("again", ["once", "again"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_when_it_is_stopped_the_temporary_index_goes(indices: Cluster, number: signal.Signals, again: str) -> None:
    words = [
        str(int(number)),
        again,
        "verify",
        "log_file_sealed",
        "--elasticsearch",
        indices.url,
        "--index",
        "verify-ecs",
    ]
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, *words],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=120,
    )
    assert "searching ['keytrail-" in done.stdout, done.stderr
    assert done.returncode == 128 + number, done.stderr
    assert "the temporary index is deleted" in done.stderr
    assert left_over(indices) == []


INTERRUPTED = """
import os, signal, time
from keytrail.cli import main
import keytrail.verify
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
# Where there are other threads, the signal can come to this one a little later.
keytrail.verify.live_schema = lambda *args: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60)
main()
"""


def test_ctrl_c_at_any_time_is_no_verdict(indices: Cluster) -> None:
    words = ["verify", "log_file_sealed", "--elasticsearch", indices.url, "--index", "verify-ecs"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *words], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.endswith("error: stopped\n")


# The vocabulary.


def test_the_telemetry_is_that_of_the_rules() -> None:
    text = (ROOT / "rules" / "README.md").read_text("utf-8")
    table = text.split("## Telemetry", 1)[1].split("## ", 1)[0]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert listed == set(telemetry.NEEDS)
    used = {word for rule in load_rules([ROOT / "rules"]).rules for word in telemetry.words(rule)}
    assert used <= listed


def test_a_word_that_is_not_known_is_not_guessed_at() -> None:
    rule = Rule(Path("mine.yml"), {"keytrail": {"telemetry": ["dns"]}}, "")
    found = telemetry.survey([rule], SCHEMAS["keytrail"], lambda query: 0)
    assert found["dns"][0].events is None
    assert telemetry.blind(rule, found) == []


def test_of_each_condition_it_is_known_whether_a_query_can_test_it() -> None:
    kinds = {*_RECORD_CONDITIONS, *_MAP_CONDITIONS, *_VALUE_CONDITIONS}
    assert kinds - set(_BREACHES) == {"taken", "first_value", "scripts"}
