"""What can happen to an index, a proxy or a run while files are loaded, and that no record is lost by it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from keytrail.cases import load_events
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.data import packaged
from keytrail.load import create_index
from keytrail.schemas import get_schema

from tests.between import Answer, Asked, between, failed

EVENT = load_events(packaged("fixtures") / "events")["disable_key"]
KEYTRAIL = get_schema("keytrail")


@pytest.fixture
def index(cluster: Cluster) -> Iterator[str]:
    name = f"troubled-{os.urandom(8).hex()}"
    yield name
    cluster.client.options(ignore_status=404).indices.delete(index=name)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Six files of 700 records; the sixth record of each is one that the index refuses."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for file in range(6):
        records = [{**EVENT, "eventID": f"{file:08}-0000-0000-0000-{number:012}"} for number in range(700)]
        records[5]["awsRegion"] = {"no": "text"}
        (folder / f"{file}.json").write_text(json.dumps({"Records": records}))
    return folder


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["load", *map(str, words)])


def count(cluster: Cluster, index: str) -> int:
    cluster.client.indices.refresh(index=index)
    return int(cluster.client.count(index=index)["count"])


def third_bulk(what: Callable[[], Answer | None]) -> Callable[[Asked], Answer | None]:
    """What happens when the third request with documents comes."""
    seen = 0

    def instead(asked: Asked) -> Answer | None:
        nonlocal seen
        seen += "_bulk" in asked.path
        return what() if "_bulk" in asked.path and seen == 3 else None

    return instead


def refused_in(path: Path) -> list[str]:
    return sorted(str(json.loads(line)["eventID"]) for line in path.read_text().splitlines())


def test_an_index_that_is_deleted_on_the_way_is_noticed_and_its_files_are_not_done(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    def delete() -> None:
        cluster.client.indices.delete(index=index)

    journal = ("--journal", tmp_path / "journal", "--aside", tmp_path / "aside")
    with between(cluster.url, third_bulk(delete)) as url:
        stopped = run(logs, "--elasticsearch", url, "--index", index, *journal)
    assert stopped.exit_code == 2
    assert f"the index {index} was deleted while records were loaded into it" in stopped.stderr
    cluster.client.indices.delete(index=index)
    again = run(logs, "--elasticsearch", cluster.url, "--index", index, *journal)
    assert again.exit_code == 2
    assert "is about what was there before under the same name, and is gone" in again.stderr
    assert not cluster.client.indices.exists(index=index)
    (tmp_path / "journal").unlink()
    (tmp_path / "aside").unlink()
    assert run(logs, "--elasticsearch", cluster.url, "--index", index, *journal).exit_code == 1
    assert count(cluster, index) == 4194


def test_a_journal_says_nothing_of_an_index_that_was_made_anew(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    words = (logs / "0.json", "--elasticsearch", cluster.url, "--index", index, "--journal", tmp_path / "journal")
    assert run(*words, "--aside", tmp_path / "aside").exit_code == 1
    cluster.client.indices.delete(index=index)
    create_index(cluster, index, KEYTRAIL)
    again = run(*words, "--aside", tmp_path / "more")
    assert again.exit_code == 2
    assert "hint: remove it, and everything is done anew" in again.stderr


def test_the_same_command_goes_on_after_a_stop_and_keeps_aside_what_is_missing(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    words = (logs, "--index", index, "--journal", tmp_path / "journal", "--aside", aside)
    with between(cluster.url, third_bulk(lambda: failed(500, "internal"))) as url:
        stopped = run(*words, "--elasticsearch", url)
    assert stopped.exit_code == 2
    assert f"3 records were refused until then, kept in {aside}" in stopped.stderr
    again = run(*words, "--elasticsearch", cluster.url)
    assert again.exit_code == 1
    assert refused_in(aside) == [f"{file:08}-0000-0000-0000-{5:012}" for file in range(6)]
    assert count(cluster, index) == 4194
    third = run(*words, "--elasticsearch", cluster.url)
    assert (third.exit_code, len(refused_in(aside))) == (0, 6)


def test_what_a_run_that_is_killed_has_kept_aside_is_there(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    aside, journal = tmp_path / "aside", tmp_path / "journal"

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    with between(cluster.url, third_bulk(kill)) as url:
        words = ("load", logs, "--elasticsearch", url, "--index", index, "--aside", aside, "--journal", journal)
        process = subprocess.Popen([sys.executable, "-m", "keytrail", *map(str, words)])
        assert process.wait(60) == -signal.SIGKILL
    done = len(journal.read_text().splitlines()) - 1
    assert done == 2
    assert len(refused_in(aside)) >= done


def test_a_line_that_was_cut_off_by_the_kill_spoils_none_that_comes_after_it(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    words = (logs, "--elasticsearch", cluster.url, "--index", index, "--journal", tmp_path / "journal")
    assert run(logs / "0.json", *words[1:], "--aside", aside).exit_code == 1
    whole = aside.read_bytes()
    aside.write_bytes(whole + whole[:100])
    assert run(*words, "--aside", aside).exit_code == 1
    lines = aside.read_bytes().splitlines(keepends=True)
    assert (lines[0], lines[1], len(lines)) == (whole, whole[:100] + b"\n", 7)


def test_what_is_too_large_together_is_sent_in_parts(cluster: Cluster, index: str, logs: Path, tmp_path: Path) -> None:
    def proxy(asked: Asked) -> Answer | None:
        """Take 20 kB, as a proxy in front of Elasticsearch may, and not the 100 MB that it takes itself."""
        return Answer(413, b"<html>too large</html>", "text/html") if len(asked.body) > 20_000 else None

    large = [{**EVENT, "eventID": "large", "userAgent": "x" * 30_000}, {**EVENT, "eventID": "small"}]
    (logs / "7.json").write_text(json.dumps({"Records": large}))
    aside = tmp_path / "aside"
    with between(cluster.url, proxy) as url:
        found = run(logs, "--elasticsearch", url, "--index", index, "--aside", aside, "--format", "json")
    assert (json.loads(found.stdout)["taken"], json.loads(found.stdout)["refused"]) == (4195, 7)
    assert "large" in refused_in(aside)
    assert count(cluster, index) == 4195


@pytest.mark.parametrize("trouble", ["closed", "no write index", "no pipeline"])
def test_what_is_wrong_with_the_index_is_no_fault_of_the_records(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path, trouble: str
) -> None:
    settings = {"index.default_pipeline": "not-there"} if trouble == "no pipeline" else {}
    cluster.client.indices.create(index=index, settings=settings)
    name = index
    if trouble == "closed":
        cluster.client.indices.close(index=index)
    if trouble == "no write index":
        name = f"alias-of-{index}"
        cluster.client.indices.put_alias(index=index, name=name, is_write_index=False)
    words = (logs, "--elasticsearch", cluster.url, "--index", name, "--journal", tmp_path / "journal")
    stopped = run(*words, "--aside", tmp_path / "aside")
    assert stopped.exit_code == 2
    assert f"could not load {logs / '0.json'}, record 1" in stopped.stderr
    assert not (tmp_path / "aside").exists()
    assert len((tmp_path / "journal").read_text().splitlines()) == 1


def test_two_runs_that_make_the_same_index_are_both_fine(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    def made_in_between(asked: Asked) -> None:
        if asked.method == "PUT":
            create_index(cluster, index, KEYTRAIL)

    with between(cluster.url, made_in_between) as url:
        found = run(logs / "0.json", "--elasticsearch", url, "--index", index, "--aside", tmp_path / "aside")
    assert found.exit_code == 1
    assert "699 new" in found.stdout
    assert "created the index" not in found.stderr


# No node that can be started here has data streams, or processors for a pipeline: what they answer is put in.
@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ({"result": "noop", "status": 200}, "dropped by a pipeline of the index"),
        ({"failure_store": "used", "_index": ".fs-x-000001"}, "put into the failure store of the data stream"),
    ],
)
def test_a_document_that_is_taken_and_not_in_the_index_is_refused(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path, answered: dict[str, Any], said: str
) -> None:
    def change(asked: Asked, body: Any) -> Any:
        if "_bulk" in asked.path:
            body["items"][3]["create"].update(answered)
        return body

    aside = tmp_path / "aside"
    with between(cluster.url, change=change) as url:
        found = run(logs / "0.json", "--elasticsearch", url, "--index", index, "--aside", aside)
    assert found.exit_code == 1
    assert f"record 4: {said}" in found.stderr
    assert "698 new, 0 there already, 2 refused" in found.stdout
    assert len(refused_in(aside)) == 2


def test_an_index_that_gives_documents_other_ids_is_named(
    cluster: Cluster, index: str, logs: Path, tmp_path: Path
) -> None:
    def change(asked: Asked, body: Any) -> Any:
        if "_bulk" in asked.path:
            body["items"][0]["create"]["_id"] = "another"
        return body

    with between(cluster.url, change=change) as url:
        found = run(logs / "0.json", "--elasticsearch", url, "--index", index, "--aside", tmp_path / "aside")
    assert found.exit_code == 2
    assert "has given a document an id of its own, 'another'" in found.stderr


@pytest.mark.parametrize("name", ["", " ", "a,b"])
def test_a_name_that_is_no_index_is_refused(cluster: Cluster, logs: Path, name: str) -> None:
    found = run(logs, "--elasticsearch", cluster.url, "--index", name)
    assert found.exit_code == 2
    assert "is not one index" in found.stderr


def test_what_is_between_passes_on_what_it_does_not_spoil(cluster: Cluster) -> None:
    with between(cluster.url) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        connection.request("GET", "/_cluster/health")
        found: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
    assert found["status"] in ("green", "yellow")
