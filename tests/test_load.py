"""Loading CloudTrail files into a real index: every record is in it, counted as there already, or kept aside."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.data import packaged
from keytrail.errors import UsageError
from keytrail.files import kept_aside
from keytrail.journal import Journal
from keytrail.load import Loaded, create_index, document_id, load
from keytrail.records import Reader
from keytrail.schemas import SCHEMAS, Schema, get_schema

EVENTS = load_events(packaged("fixtures") / "events")
KEYTRAIL = get_schema("keytrail")
ABOUT = {"keytrail": "journal 2", "index": "i", "schema": "raw"}
STRICT = {
    "mappings": {"dynamic": False, "properties": {"eventName": {"type": "keyword"}, "apiVersion": {"type": "long"}}}
}


@pytest.fixture
def index(cluster: Cluster) -> Iterator[str]:
    name = f"load-{uuid.uuid4().hex}"
    yield name
    cluster.client.options(ignore_status=404).indices.delete(index=name)


def record(number: int, **more: Any) -> dict[str, Any]:
    return {**EVENTS["disable_key"], "eventID": f"00000000-0000-0000-0000-{number:012}", **more}


def written(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    return path


def kept(cluster: Cluster, index: str) -> list[dict[str, Any]]:
    cluster.client.indices.refresh(index=index)
    hits = cluster.client.search(index=index, size=10_000)["hits"]["hits"]
    return [hit["_source"] for hit in hits]


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["load", *map(str, words)])


def lost(line: bytes) -> None:
    pytest.fail(f"refused: {line!r}")


def as_json(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_event_is_a_document_and_loading_again_changes_nothing(
    cluster: Cluster, index: str, schema: Schema, tmp_path: Path
) -> None:
    path = written(tmp_path, "events.json.gz", list(EVENTS.values()))
    assert create_index(cluster, index, schema)
    first = load(cluster, index, schema, Reader([str(path)]), aside=lost)
    distinct = {document_id(event) for event in EVENTS.values()}
    assert (first.records, first.taken) == (len(EVENTS), len(distinct))
    assert first.taken + first.there == first.records
    again = load(cluster, index, schema, Reader([str(path)]), aside=lost)
    assert (again.taken, again.there) == (0, len(EVENTS))
    assert not create_index(cluster, index, schema)
    assert len(kept(cluster, index)) == len(distinct)


def test_the_same_event_twice_is_one_document_and_another_event_of_its_id_is_not_lost(
    cluster: Cluster, index: str, tmp_path: Path
) -> None:
    event = record(1)
    turned = dict(reversed(list(event.items())))
    other = {**event, "awsRegion": "sa-east-1"}
    written(tmp_path / "logs", "a.json.gz", [event, turned])
    written(tmp_path / "logs", "b.json.gz", [event, other])
    result = run(tmp_path / "logs", "--elasticsearch", cluster.url, "--index", index, "--format", "json")
    assert result.exit_code == 0
    assert as_json(result)["taken"] == 2
    assert as_json(result)["there"] == 2
    assert sorted(found["awsRegion"] for found in kept(cluster, index)) == sorted(["sa-east-1", event["awsRegion"]])


def test_what_the_index_refuses_is_counted_named_and_kept_aside_and_can_be_loaded_elsewhere(
    cluster: Cluster, index: str, tmp_path: Path
) -> None:
    cluster.client.indices.create(index=index, body=STRICT)
    path = written(tmp_path, "logs.json.gz", [record(1), record(2, apiVersion="2014-11-01"), record(3)])
    aside = tmp_path / "out" / "refused.ndjson"
    result = run(path, "--elasticsearch", cluster.url, "--index", index, "--aside", aside)
    assert result.exit_code == 1
    assert f"{path}: record 2: document_parsing_exception" in result.stderr
    assert "3 records: 2 new, 0 there already, 1 refused" in result.stdout
    assert [json.loads(line)["eventID"] for line in aside.read_text().splitlines()] == [record(2)["eventID"]]
    refused = run(path, "--elasticsearch", cluster.url, "--index", index, "--aside", aside)
    assert refused.exit_code == 2
    assert "may hold what another run has kept" in refused.stderr
    cluster.client.indices.delete(index=index)
    again = run(aside, "--elasticsearch", cluster.url, "--index", index, "--aside", tmp_path / "more.ndjson")
    assert again.exit_code == 0
    assert "created the index" in again.stderr
    assert not (tmp_path / "more.ndjson").exists()


def test_an_index_that_takes_no_documents_stops_the_run_and_nothing_is_called_refused(
    cluster: Cluster, index: str, tmp_path: Path
) -> None:
    create_index(cluster, index, KEYTRAIL)
    cluster.client.indices.put_settings(index=index, settings={"index.blocks.write": True})
    path, aside, journal = written(tmp_path, "a.json.gz", [record(1)]), tmp_path / "refused", tmp_path / "journal"
    words = (path, "--elasticsearch", cluster.url, "--index", index, "--aside", aside, "--journal", journal)
    stopped = run(*words)
    assert stopped.exit_code == 2
    assert "cluster_block_exception" in stopped.stderr
    assert "run the same command again" in stopped.stderr
    assert not aside.exists()
    cluster.client.indices.put_settings(index=index, settings={"index.blocks.write": False})
    assert as_json(run(*words, "--format", "json"))["taken"] == 1


def test_a_journal_lets_a_run_go_on_with_the_files_that_are_left(cluster: Cluster, index: str, tmp_path: Path) -> None:
    folder, journal = tmp_path / "logs", tmp_path / "journal"
    words = (folder, "--elasticsearch", cluster.url, "--index", index, "--journal", journal, "--format", "json")
    written(folder, "a.json.gz", [record(1), record(2)])
    written(folder, "b.json.gz", [record(3)])
    assert as_json(run(*words))["taken"] == 3
    written(folder, "b.json.gz", [record(3), record(4)])
    written(folder, "c.json.gz", [record(5)])
    second = as_json(run(*words))
    assert (second["done_before"], second["taken"], second["there"]) == (1, 2, 1)
    third = run(*words)
    assert third.exit_code == 0
    assert (as_json(third)["done_before"], as_json(third)["records"]) == (3, 0)
    with journal.open("a") as file:
        file.write('{"path": "cut o')
    assert as_json(run(*words))["done_before"] == 3
    other = run(folder, "--elasticsearch", cluster.url, "--index", f"{index}-2", "--journal", journal)
    assert other.exit_code == 2
    assert "is no journal of this run" in other.stderr


@pytest.mark.parametrize("text", ["nonsense\n", f"{json.dumps(ABOUT)}\n[1]\n", "\x80\n"])
def test_a_file_that_is_no_journal_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"journal|read"):
        Journal(path, {"index": "i", "schema": "raw"})
    assert path.read_bytes() == text.encode("latin-1")


def test_bad_input_among_good_is_reported_and_the_rest_is_loaded(cluster: Cluster, index: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.json.gz", [record(1), record(2)])
    (tmp_path / "b.json.gz").write_bytes(path.read_bytes()[:-20])
    (tmp_path / "c.json").write_text('{"Records": [{"eventName": "x"}]}')
    result = run(tmp_path, "--elasticsearch", cluster.url, "--index", index, "--format", "json")
    assert result.exit_code == 2
    assert as_json(result)["taken"] == 2
    assert as_json(result)["bad"] == 2
    assert "b.json.gz" in result.stderr
    assert "c.json" in result.stderr
    nothing = run(tmp_path / "none", "--elasticsearch", cluster.url, "--index", index)
    assert nothing.exit_code == 2


def test_what_was_kept_aside_before_a_failure_is_there(tmp_path: Path) -> None:
    path = tmp_path / "aside"
    with pytest.raises(RuntimeError), kept_aside(path) as keep:
        keep(b"one\n")
        raise RuntimeError
    assert path.read_bytes() == b"one\n"
    assert [file.name for file in tmp_path.iterdir()] == ["aside"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", max_size=3), JSON, max_size=4), st.randoms())
def test_an_id_follows_from_what_a_record_says_not_from_how_it_is_written(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert document_id(dict(items)) == document_id(json.loads(json.dumps(value, indent=3)))
    assert document_id({**value, "one more": 1}) != document_id(value)


@pytest.mark.parametrize("given_id", ["../x", "", "a" * 600, 7, None, "id with blanks", "é"])
def test_an_event_id_that_is_none_does_not_get_into_the_documents_id(given_id: object) -> None:
    assert len(document_id({"eventID": given_id})) == 32


def test_progress_is_told(cluster: Cluster, index: str, tmp_path: Path) -> None:
    path = written(tmp_path, "a.json.gz", [record(number) for number in range(2500)])
    create_index(cluster, index, KEYTRAIL)
    seen: list[int] = []

    def take(loaded: Loaded) -> None:
        seen.append(loaded.taken)

    loaded = load(cluster, index, KEYTRAIL, Reader([str(path)]), aside=lost, progress=take)
    assert loaded.taken == 2500
    assert seen[-1] == 2500
    assert seen == sorted(seen)
