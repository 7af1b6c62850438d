"""Schemas of indices that exist: recognised, merged, and compiled for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail.cli import main
from keytrail.cluster import Cluster
from keytrail.convert import Conversion, convert
from keytrail.errors import KeytrailError, SchemaError, UsageError
from keytrail.pack import Rule
from keytrail.schemas import SCHEMAS, Schema, ecs_custom
from keytrail.schemas.live import LiveSchema, live_schema, load_schema, mapping_of, read_cluster, read_file

KEYWORD = {"type": "keyword"}
NAMES = {"eventName": KEYWORD, "eventSource": KEYWORD}
PIPELINES = {"index.default_pipeline": "x", "index.lifecycle.name": "y", "index.number_of_shards": "5"}


def body(properties: Mapping[str, Any], settings: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"settings": settings or {}, "mappings": {"properties": {**NAMES, **properties}, **more}}


def schema(*bodies: dict[str, Any]) -> LiveSchema:
    return live_schema({f"i{number}": one for number, one in enumerate(bodies, 1)}, "i*")


def converted(key: str, value: Any, made: Schema) -> Conversion:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": {key: value}, "condition": "one"},
    }
    return convert(Rule(Path("made.yml"), document, ""), made)


def error(key: str, value: Any, made: Schema) -> KeytrailError:
    found = converted(key, value, made).error
    assert found is not None
    return found


# Which names.


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_index_of_each_schema_is_recognised(name: str) -> None:
    known = SCHEMAS[name]
    live = schema(dict(known.body))
    assert live.naming == ("ecs" if name.startswith("ecs") else "raw")
    assert live.document is (ecs_custom.SCHEMA.document if name == "ecs-custom" else known.document)
    assert live.time == known.time
    assert (live.taken is None) is (known.taken is None)
    for key, value in (("eventName", "DisableKey"), ("requestParameters.policy|contains", "x"), ("errorCode", None)):
        one, two = converted(key, value, live), converted(key, value, known)
        assert one.query is not None
        assert two.query is not None
        assert one.query.body == two.query.body


def test_a_site_may_have_some_of_the_copies() -> None:
    custom: dict[str, Any] = json.loads(json.dumps(ecs_custom.SCHEMA.body))
    del custom["mappings"]["properties"]["keytrail"]["properties"]["request"]["properties"]["key"]
    live = schema(custom)
    assert live.index_name("requestParameters.policy") == "keytrail.request.policy"
    assert live.index_name("requestParameters.key").startswith("aws.cloudtrail.flattened.")


def test_what_is_not_cloudtrail_is_an_error() -> None:
    with pytest.raises(SchemaError, match=r"neither eventName and eventSource nor event\.action"):
        live_schema({"other": {"mappings": {"properties": {"message": KEYWORD}}}}, "other")
    with pytest.raises(SchemaError, match="CloudTrail's own names in i1 and ECS in i2"):
        schema(body({}), dict(SCHEMAS["ecs"].body))


# What is there, and what is not.


def test_a_field_that_no_event_has_had_is_named_with_the_remedy() -> None:
    found = error("requestParameters.policy|contains", "x", schema(body({})))
    assert type(found).__name__ == "UnmappedField"
    assert "no event in the index has had it" in str(found)
    policy = {"type": "keyword", "ignore_above": 10922}
    assert found.hint is not None
    assert json.loads(found.hint.split("_mapping ")[1]) == mapping_of("requestParameters.policy", policy)


@pytest.mark.parametrize(("dynamic", "says"), [("false", "leaves new fields out"), ("strict", "refuses events")])
def test_an_index_that_makes_no_fields_says_so(dynamic: str, says: str) -> None:
    assert says in str(error("userAgent", "x", schema(body({}, dynamic=dynamic))))


def test_a_template_that_leaves_no_doubt_makes_a_field() -> None:
    template = {"match_mapping_type": "*", "mapping": KEYWORD}
    assert converted("userAgent", "x", schema(body({}, dynamic_templates=[{"t": template}]))).verdict == "exact if"
    template["match_mapping_type"] = "string"
    made = converted("userAgent", "x", schema(body({}, dynamic_templates=[{"t": template}])))
    assert type(made.error).__name__ == "UnmappedField"


def test_only_what_decides_on_values_is_kept_of_an_index() -> None:
    settings = {**PIPELINES, "index.analysis.normalizer.n.filter": "lowercase", "index.mapping.total_fields.limit": "7"}
    live = schema(body({}, settings, _source={"enabled": False}, _meta={}, date_detection=False))
    kept = {"index.analysis.normalizer.n.filter": "lowercase", "index.mapping.total_fields.limit": "7"}
    assert live.body["settings"] == kept
    assert set(live.body["mappings"]) == {"properties", "date_detection"}
    assert live.fullest == ("i1", 2, 7)


def test_logsdb_keeps_8191_characters_where_a_field_sets_no_limit() -> None:
    live = schema(body({}, {"index.mode": "logsdb"}))
    found = live.field("eventName")
    assert found is not None
    assert found.ignore_above == 8191
    assert "index.mode" not in live.body["settings"]


# Several indices.


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        (KEYWORD, {"type": "long"}, "keyword in i1; long in i2"),
        (KEYWORD, {"type": "keyword", "normalizer": "lowercase"}, "keyword in i1; keyword, normalizer lowercase in i2"),
        (KEYWORD, {"properties": {"x": KEYWORD}}, "keyword in i1; an object in i2"),
        (KEYWORD, {"type": "keyword", "index": False}, "keyword in i1; keyword (the index keeps it"),
        (KEYWORD, {"type": "alias", "path": "eventName"}, "keyword in i1; keyword, alias of eventName in i2"),
        ({"type": "flattened"}, {"type": "nested"}, "flattened in i1; nested"),
    ],
)
def test_a_field_in_two_types_is_refused_by_name(one: dict[str, Any], two: dict[str, Any], says: str) -> None:
    live = schema(body({"f": one}), body({"f": two}))
    assert list(live.unusable) == ["f"]
    found = error("f", "x", live)
    assert says in str(found)
    assert found.hint is not None
    assert "one type in all of them" in found.hint
    assert says in str(error("f.x", "x", live))
    assert converted("eventName", "x", live).query is not None


def test_a_sub_field_that_an_index_lacks_cannot_be_used() -> None:
    text = {"type": "text", "fields": {"keyword": KEYWORD}}
    live = schema(body({"f": text}), body({"f": {"type": "text"}}))
    assert "keyword in i1; no such sub-field in i2" in str(error("f", "x", live))
    assert converted("f|exists", True, live).query is not None


def test_a_field_that_one_index_leaves_out_cannot_be_used() -> None:
    live = schema(body({"f": KEYWORD}), body({}, dynamic=False))
    assert "keyword in i1; not indexed (dynamic: false) in i2" in str(error("f", "x", live))
    assert converted("f", "x", schema(body({"f": KEYWORD}), body({}))).query is not None


def test_types_that_answer_alike_are_no_conflict_and_the_shortest_limit_counts() -> None:
    live = schema(
        body({"f": {"type": "wildcard", "ignore_above": 9}}), body({"f": {"type": "keyword", "ignore_above": 5}})
    )
    assert live.unusable == {}
    assert [part.limit for part in converted("f|contains", "x", live).conditions] == [5, None]


def test_fields_of_all_indices_are_there() -> None:
    live = schema(body({"o": {"properties": {"a": KEYWORD}}}), body({"o": {"properties": {"b": KEYWORD}}}))
    assert converted("o.a", "x", live).query is not None
    assert converted("o.b", "x", live).query is not None


def test_templates_that_differ_make_no_fields() -> None:
    template = [{"t": {"match_mapping_type": "*", "mapping": KEYWORD}}]
    assert schema(body({}, dynamic_templates=template), body({})).field("new") is None
    assert schema(body({}, dynamic_templates=template), body({}, dynamic_templates=template)).field("new") is not None


# Files.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda made: {"one": made},
        lambda made: {"one": {"mappings": made["mappings"]}},
        lambda made: made,
        lambda made: made["mappings"],
    ],
    ids=["GET index", "GET mapping", "body", "mapping"],
)
def test_a_saved_mapping(wrap: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(wrap(body({}))))
    assert load_schema(str(path), None).name == "one"
    assert load_schema(str(path), "logs-*").index == "logs-*"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "5",
        '{"a": 1}',
        '{"mappings": 5}',
        '{"properties": {"a": 5}}',
        '{"properties": 5}',
        "[" * 9999,
    ],
)
def test_a_file_without_a_mapping_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(SchemaError):
        load_schema(str(path), None)


def test_what_cannot_be_read_or_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_file(tmp_path / "none.json")
    with pytest.raises(UsageError, match="which index"):
        load_schema("http://localhost:1", None)
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"a": body({}), "b": body({})}))
    with pytest.raises(UsageError, match="has 2 indices"):
        load_schema(str(path), None)


def test_convert_compiles_for_a_saved_mapping(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"mine": body({"errorCode": KEYWORD, "eventType": {"type": "long"}})}))
    result = CliRunner().invoke(main, ["convert", "key_deleted", "--mapping-from", str(path), "--format", "json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["schema"] == "mine"
    assert CliRunner().invoke(main, ["convert", "key_deleted", "--index", "mine"]).exit_code == 2


def test_convert_compiles_for_a_live_mapping(cluster: Cluster) -> None:
    with cluster.temporary_index(SCHEMAS["keytrail"].body) as index:
        words = ["convert", "trail_key_disabled", "--mapping-from", cluster.url, "--index", index, "--format", "json"]
        result = CliRunner().invoke(main, words)
        bodies = read_cluster(cluster, index)
    assert result.exit_code == 0, result.output
    (made,) = json.loads(result.stdout)
    assert (made["schema"], made["verdict"]) == (index, "exact")
    assert live_schema(bodies, index).fullest[2] == 4000
