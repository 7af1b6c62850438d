"""The parts of an index, planned and put: on a real Elasticsearch, pipelines on a stand-in, as it has none of those."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail import index_parts
from keytrail.cli import main
from keytrail.cluster import Cluster, connect
from keytrail.errors import ClusterError, UsageError
from keytrail.index_parts import COMPONENT, TEMPLATE, Part, parts, plan_part, plan_parts, read, take
from keytrail.schemas import get_schema
from keytrail.steps import CONFLICT, CREATE, SAME, UPDATE, Step

PROCESSOR = {"set": {"field": "labels.team", "value": "soc"}}


def template(name: str = "keytrail-test") -> Part:
    """The index template of schema keytrail, under another name and pattern, so that it meets nothing in a cluster."""
    (made,) = parts(get_schema("keytrail"))
    return replace(made, name=name, body={**made.body, "index_patterns": [f"{name}-*"]})


def component(name: str = "keytrail-test@custom") -> Part:
    return replace(parts(get_schema("ecs-custom"))[0], name=name)


def resealed(part: Part) -> Part:
    body = {key: value for key, value in part.body.items() if key != "_meta"}
    return index_parts._part(part.kind, part.name, body)


@contextmanager
def gone_after(cluster: Cluster, *made: Part) -> Iterator[None]:
    try:
        yield
    finally:
        for part in made:
            cluster.client.options(ignore_status=404).perform_request("DELETE", f"/{part.path}")


def step(cluster: Cluster, part: Part, drift: str | None = None) -> Step:
    return plan_part(part, read(cluster, part), drift)


def put(cluster: Cluster, part: Part, body: dict[str, Any]) -> None:
    index_parts._put(cluster, replace(part, body=body))


@pytest.mark.parametrize("made", [resealed(template()), component()], ids=[TEMPLATE, COMPONENT])
def test_a_part_is_created_changed_and_then_left_alone_on_a_real_elasticsearch(cluster: Cluster, made: Part) -> None:
    with gone_after(cluster, made):
        assert step(cluster, made).action == CREATE
        assert take(cluster, step(cluster, made)) == []
        assert step(cluster, made).action == SAME
        body = json.loads(json.dumps(made.body))
        body["template"].setdefault("settings", {})["index.refresh_interval"] = "30s"
        newer = resealed(replace(made, body=body))
        found = step(cluster, newer)
        assert found.action == UPDATE
        assert [line for one in found.changes for line in one.lines] == [
            '+ template.settings.index.refresh_interval "30s"'
        ]
        assert take(cluster, found) == []
        assert step(cluster, newer).action == SAME


def test_drift_of_a_template_is_shown_kept_or_overwritten_on_a_real_elasticsearch(cluster: Cluster) -> None:
    made = resealed(template())
    with gone_after(cluster, made):
        take(cluster, step(cluster, made))
        edited = {**made.body, "priority": 700}
        put(cluster, made, edited)
        kept = step(cluster, made)
        assert (kept.action, [line for one in kept.drift for line in one.lines]) == (
            SAME,
            ["- priority 500", "+ priority 700"],
        )
        newer = resealed(replace(made, body={**made.body, "version": 2}))
        assert step(cluster, newer).action == CONFLICT
        assert step(cluster, newer, "keep").action == SAME
        assert take(cluster, step(cluster, newer, "overwrite")) == []
        assert step(cluster, newer).action == SAME


def test_what_is_the_sites_own_is_never_overwritten_and_says_what_it_lacks(cluster: Cluster) -> None:
    made = component()
    with gone_after(cluster, made):
        own: dict[str, Any] = {"template": {"mappings": {"properties": {"mine": {"type": "keyword"}}}}}
        put(cluster, made, own)
        found = step(cluster, made, "overwrite")
        assert found.action == CONFLICT
        lacking = [line for one in found.changes for line in one.lines]
        assert any("request.properties.key_id" in line for line in lacking)
        assert not any("mine" in line for line in lacking)
        merged = json.loads(json.dumps(own))
        merged["template"]["mappings"]["properties"] |= made.body["template"]["mappings"]["properties"]
        put(cluster, made, merged)
        assert step(cluster, made).action == SAME


def test_a_part_that_changed_since_the_plan_is_not_written(cluster: Cluster) -> None:
    made = resealed(template())
    with gone_after(cluster, made):
        planned = step(cluster, made)
        put(cluster, made, {"index_patterns": ["keytrail-test-*"], "priority": 600})
        with pytest.raises(ClusterError, match="changed after the plan"):
            take(cluster, planned)


def test_the_shipped_parts_are_taken_by_a_real_elasticsearch(cluster: Cluster) -> None:
    schema = get_schema("keytrail")
    (made,) = parts(schema)
    with gone_after(cluster, made):
        result = CliRunner().invoke(main, ["plan", "--elasticsearch", cluster.url, "--schema", "keytrail"])
        assert result.exit_code == 3, result.output
        assert "+ create   index template _index_template/keytrail-cloudtrail" in result.output
        arguments = ["apply", "--elasticsearch", cluster.url, "--schema", "keytrail", "--yes"]
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert CliRunner().invoke(main, ["plan", *arguments[1:-1]]).exit_code == 0
        index = "keytrail-cloudtrail-try"
        cluster.client.indices.create(index=index)
        mapping = cluster.client.indices.get(index=index)[index]["mappings"]
        cluster.client.indices.delete(index=index)
        assert mapping["properties"]["sourceIPAddress"] == schema.body["mappings"]["properties"]["sourceIPAddress"]


# The bare node has no ingest pipelines: this stands in for GET and PUT of them, and answers as documented.


class Pipelines(BaseHTTPRequestHandler):
    held: dict[str, Any]
    puts: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1].replace("%40", "@")
        path = self.path.replace("%40", "@")
        found = self.held.get(path)
        if "_component_template" in path:
            listed = [{"name": name, "component_template": found}] if found else []
            self._say(200 if found else 404, {"component_templates": listed})
        else:
            stamped = {**found, "created_date_millis": 1, "modified_date_millis": 2} if found else None
            self._say(200 if found else 404, {name: stamped} if found else {})

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not {*body} <= {"description", "processors", "on_failure", "version", "_meta", "template", "deprecated"}:
            return self._say(400, {"error": {"type": "parse_exception", "reason": "unknown field"}, "status": 400})
        self.puts.append(self.path)
        self.held[self.path.replace("%40", "@")] = body
        return self._say(200, {"acknowledged": True})

    def _say(self, status: int, answer: Any) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (("x-elastic-product", "Elasticsearch"), ("content-type", "application/json")):
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def pipelines() -> Iterator[tuple[Cluster, type[Pipelines]]]:
    handler = type("Bound", (Pipelines,), {"held": {}, "puts": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    cluster = connect(f"http://127.0.0.1:{server.server_address[1]}", anonymous=True)
    yield cluster, handler
    cluster.client.close()
    server.shutdown()
    server.server_close()


def test_the_custom_pipeline_and_its_template_are_put_once(pipelines: tuple[Cluster, type[Pipelines]]) -> None:
    cluster, server = pipelines
    schema = get_schema("ecs-custom")
    assert [one.action for one in plan_parts(cluster, schema)] == [CREATE, CREATE]
    for one in plan_parts(cluster, schema):
        assert take(cluster, one) == []
    assert [path.split("/")[1] for path in server.puts] == ["_component_template", "_ingest"]
    assert [one.action for one in plan_parts(cluster, schema)] == [SAME, SAME]


def test_a_pipeline_of_the_sites_own_is_a_conflict_until_it_has_our_processors(
    pipelines: tuple[Cluster, type[Pipelines]],
) -> None:
    cluster, server = pipelines
    _, made = parts(get_schema("ecs-custom"))
    server.held[f"/{made.path}"] = {"processors": [PROCESSOR]}
    found = step(cluster, made)
    assert found.action == CONFLICT
    (change,) = found.changes
    assert len(change.lines) == len(made.body["processors"])
    server.held[f"/{made.path}"] = {"processors": [PROCESSOR, *made.body["processors"]]}
    assert step(cluster, made).action == SAME
    assert server.puts == []


def test_a_pipeline_waits_for_the_template_that_maps_its_fields(pipelines: tuple[Cluster, type[Pipelines]]) -> None:
    cluster, server = pipelines
    first, _ = parts(get_schema("ecs-custom"))
    server.held[f"/{first.path}"] = {"template": {"settings": {"index": {"refresh_interval": "30s"}}}}
    assert [one.action for one in plan_parts(cluster, get_schema("ecs-custom"))] == [CONFLICT, CONFLICT]


def test_schema_ecs_has_no_parts_of_its_own() -> None:
    with pytest.raises(UsageError, match="AWS integration's own"):
        parts(get_schema("ecs"))


def test_convert_writes_the_parts_as_apply_puts_them(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["convert", "--target", "index", "--schema", "ecs-custom"])
    assert json.loads(printed.output) == {part.path: part.body for part in parts(get_schema("ecs-custom"))}
    result = CliRunner().invoke(main, ["convert", "--target", "index", "--schema", "keytrail", "-o", str(tmp_path)])
    assert result.exit_code == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "_index_template.keytrail-cloudtrail.json"
    assert CliRunner().invoke(main, ["convert", "log_file_sealed", "--target", "index"]).exit_code == 2
