"""Mappings as Elasticsearch reads them: what a field is, and why some cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keytrail.cluster import Cluster
from keytrail.convert import Conversion, convert
from keytrail.errors import SchemaError
from keytrail.mapping import FieldType, IndexMapping, flat_settings
from keytrail.pack import Rule
from keytrail.schemas import Schema

KEYWORD = {"type": "keyword"}
DYNAMIC = {
    "dynamic_templates": [{"all": {"match_mapping_type": "*", "mapping": {"type": "keyword", "ignore_above": 9}}}]
}
STRINGS = {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}


def read(properties: dict[str, Any], settings: dict[str, Any] | None = None, **more: Any) -> IndexMapping:
    return IndexMapping({"settings": settings or {}, "mappings": {"properties": properties, **more}})


def known(mapping: IndexMapping, name: str) -> FieldType:
    found = mapping.field(name)
    assert found is not None
    return found


def converted(body: dict[str, Any], key: str, value: Any) -> Conversion:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": {key: value}, "condition": "one"},
    }
    schema = Schema("made", "made", "made", {}, {}, body, dict)
    return convert(Rule(Path("made.yml"), document, ""), schema)


def test_an_alias_is_the_field_that_it_leads_to() -> None:
    mapping = read({"a": KEYWORD, "b": {"type": "alias", "path": "a"}, "f": {"type": "flattened"}})
    assert known(mapping, "b") == known(mapping, "a")
    mapping = read({"f": {"type": "flattened"}, "g": {"type": "alias", "path": "f"}})
    assert (known(mapping, "g.k").name, known(mapping, "g.k").root) == ("f.k", "f")


@pytest.mark.parametrize(
    ("properties", "more", "name", "says"),
    [
        ({}, {"runtime": {"a": KEYWORD}}, "a", "runtime"),
        ({"a": KEYWORD}, {"runtime": {"a": KEYWORD}}, "a", "runtime"),
        ({"a": {"type": "nested", "properties": {"b": KEYWORD}}}, {}, "a.b", "nested"),
        ({"a": {"type": "nested"}}, {}, "a", "nested"),
        ({"a": {"type": "nested"}}, {}, "a.unknown", "nested"),
        ({"a": {"type": "object", "enabled": False}}, {}, "a.b", "not indexed"),
        ({"a": {"type": "constant_keyword"}}, {}, "a", "one constant"),
        ({"a": {"type": "keyword", "index": False}}, {}, "a", "index: false"),
        ({"a": {"type": "keyword", "null_value": "NULL"}}, {}, "a", "null_value"),
        ({"a": {"type": "keyword", "copy_to": "b"}, "b": KEYWORD}, {}, "b", "values of a are copied into it"),
        ({"a": {"type": "keyword", "copy_to": ["b"]}, "b": STRINGS}, {}, "b.keyword", "copied"),
        ({"a": {"type": "long", "coerce": False}}, {}, "a", "coerce"),
        ({"a": {"type": "scaled_float"}}, {}, "a", "scaled_float"),
        ({"a": {"type": "geo_point"}}, {}, "a", "geo_point"),
    ],
)
def test_what_no_query_can_answer_surely_is_a_problem(
    properties: dict[str, Any], more: dict[str, Any], name: str, says: str
) -> None:
    found = known(read(properties, **more), name)
    assert found.problem is not None
    assert says in found.problem[0]
    made = converted({"mappings": {"properties": properties, **more}}, f"{name}|exists", True)
    assert made.verdict == "refused"
    assert says in str(made.error)


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "keyword", "doc_values": False},
        {"type": "keyword", "copy_to": "other"},
        {"type": "wildcard"},
        {"type": "match_only_text", "fields": {"keyword": KEYWORD}},
        {"type": "keyword", "store": True, "eager_global_ordinals": True},
    ],
)
def test_what_does_not_matter_to_queries_is_no_problem(spec: dict[str, Any]) -> None:
    assert converted({"mappings": {"properties": {"a": spec}}}, "a", "x").verdict == "exact"


def test_types_under_other_names_answer_alike_and_are_remembered() -> None:
    mapping = read({"w": {"type": "wildcard", "ignore_above": 5}, "m": {"type": "match_only_text"}})
    assert (known(mapping, "w").type, known(mapping, "w").declared) == ("keyword", "wildcard")
    assert (known(mapping, "m").type, known(mapping, "m").declared) == ("text", "match_only_text")


@pytest.mark.parametrize(
    ("analysis", "normalizer"),
    [
        ({}, "lowercase"),
        ({"analysis": {"normalizer": {"lowercase": {"type": "custom", "filter": ["asciifolding"]}}}}, None),
        ({"index": {"analysis.normalizer.lowercase.filter": "lowercase"}}, "lowercase"),
        ({"index.analysis.normalizer.lowercase.filter": ["lowercase"]}, "lowercase"),
        ({"analysis": {"normalizer": {"lowercase": {"filter": ["lowercase", "trim"]}}}}, None),
        ({"analysis": {"normalizer": {"lowercase": {"filter": "lowercase", "char_filter": ["x"]}}}}, None),
        (
            {
                "analysis.normalizer.lowercase.filter": "lowercase",
                "analysis.filter.lowercase": {"type": "lowercase", "language": "turkish"},
            },
            None,
        ),
    ],
)
def test_a_normalizer_is_what_the_settings_make_of_it(analysis: dict[str, Any], normalizer: str | None) -> None:
    found = known(read({"a": {"type": "keyword", "normalizer": "lowercase"}}, analysis), "a").normalizer
    assert found == normalizer or (normalizer is None and found == "lowercase of this index")


def test_the_limits_of_an_index_hold_where_a_field_sets_none() -> None:
    fields = {"a": KEYWORD, "b": {"type": "keyword", "ignore_above": 5}, "t": {"type": "text"}}
    limited = read(fields, {"index": {"mapping": {"ignore_above": "100"}}})
    assert [known(limited, name).ignore_above for name in "abt"] == [100, 5, None]
    assert known(read(fields, {"index.mode": "logsdb"}), "a").ignore_above == 8191
    assert known(read(fields, {"index.mode": "standard"}), "a").ignore_above is None


def test_of_several_keyword_siblings_the_one_that_keeps_most_is_asked() -> None:
    parts = {"low": {"type": "keyword", "normalizer": "lowercase"}, "keyword": {"type": "keyword", "ignore_above": 9}}
    assert known(read({"a": {"type": "text", "fields": parts}}), "a").companions["keyword"] == "a.keyword"
    parts["raw"] = KEYWORD
    assert known(read({"a": {"type": "text", "fields": parts}}), "a").companions["keyword"] == "a.raw"


# Fields that are not there yet.


@pytest.mark.parametrize(
    ("more", "name", "found"),
    [
        (DYNAMIC, "new", "keyword"),
        ({**DYNAMIC, "dynamic": False}, "new", None),
        ({**DYNAMIC, "dynamic": "strict"}, "new", None),
        ({**DYNAMIC, "dynamic": "runtime"}, "new", None),
        (DYNAMIC, "closed.new", None),
        (DYNAMIC, "closed.open.new", "keyword"),
        (DYNAMIC, "leaf.new", None),
        ({}, "new", None),
    ],
)
def test_new_fields_follow_the_nearest_object(more: dict[str, Any], name: str, found: str | None) -> None:
    opened = {"type": "object", "dynamic": True}
    closed = {"dynamic": "false", "properties": {"a": KEYWORD, "open": opened}}
    made = read({"closed": closed, "leaf": KEYWORD}, **more).field(name)
    assert (None if made is None else made.type) == found


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ({"match_mapping_type": "string", "mapping": KEYWORD}, True),
        ({"match_mapping_type": ["string", "long"], "mapping": KEYWORD}, True),
        ({"match": "n*", "mapping": KEYWORD}, False),
        ({"path_match": ["o.*"], "mapping": KEYWORD}, None),
        ({"match_mapping_type": "long", "mapping": KEYWORD}, None),
        ({"match_mapping_type": "*", "unmatch": "new", "mapping": KEYWORD}, None),
        ({"match_mapping_type": "*", "unmatch_mapping_type": "string", "mapping": KEYWORD}, None),
        ({"match_pattern": "regex", "match": "^n", "mapping": KEYWORD}, None),
        ({"match_mapping_type": "*", "mapping": {"type": "{dynamic_type}"}}, None),
        ({"match_mapping_type": "string", "runtime": {}}, None),
        ({"match": "[n]ew", "mapping": KEYWORD}, None),
    ],
)
def test_a_template_makes_a_field_for_certain_or_by_its_first_value(template: Any, made: bool | None) -> None:
    found = read({}, dynamic_templates=[{"t": template}]).field("new")
    assert (None if found is None else found.uncertain) is made


def test_a_sub_field_that_a_template_makes_holds_the_values_of_its_field() -> None:
    mapping = read(
        {"o": {"properties": {}}}, dynamic_templates=[{"t": {"match_mapping_type": "string", "mapping": STRINGS}}]
    )
    found = known(mapping, "o.new.keyword")
    assert (found.type, found.source, found.ignore_above) == ("keyword", "o.new", 256)
    assert known(mapping, "o.keyword").source == "o.keyword"


def test_without_subobjects_a_key_may_have_dots() -> None:
    mapping = read({"o": {"subobjects": False, "properties": {"a.b": KEYWORD, "a": KEYWORD}}})
    assert known(mapping, "o.a.b").type == "keyword"
    assert mapping.is_object("o")


def test_what_counts_for_the_limit_of_fields() -> None:
    assert read({"o": {"properties": {"a": STRINGS}}, "n": {"type": "nested"}}).size() == 4


def test_settings_in_every_spelling() -> None:
    expected = {"mapping.total_fields.limit": 5}
    for settings in ({"index.mapping.total_fields.limit": 5}, {"index": {"mapping": {"total_fields.limit": 5}}}):
        assert flat_settings(settings) == expected
    assert flat_settings({"mapping": {"total_fields": {"limit": 5}}}) == expected


def test_what_is_no_mapping_is_an_error() -> None:
    with pytest.raises(SchemaError, match="no mappings"):
        IndexMapping({})
    with pytest.raises(SchemaError, match="neither a type nor properties"):
        read({"a": {"index": True}})


# The same on a real Elasticsearch.


def test_a_real_elasticsearch_agrees(cluster: Cluster) -> None:
    body = {
        "settings": {"analysis": {"normalizer": {"small": {"type": "custom", "filter": ["lowercase"]}}}},
        "mappings": {
            "dynamic": False,
            "properties": {
                "a": {"type": "keyword", "doc_values": False, "ignore_above": 5, "copy_to": "c"},
                "b": {"type": "alias", "path": "a"},
                "s": {"type": "keyword", "normalizer": "small"},
                "o": {"subobjects": False, "properties": {"x.y": KEYWORD}},
                "t": {"type": "text", "norms": False, "fields": {"keyword": {"type": "keyword", "ignore_above": 5}}},
                "c": {"type": "text"},
            },
        },
    }
    asked = {
        "alias": ("b", "One", {"1"}),
        "alias exists": ("b|exists", True, {"1", "2"}),
        "no doc values": ("a|endswith", "E", {"1"}),
        "normalizer": ("s|contains", "MID", {"1"}),
        "dots": ("o.x.y", "z", {"1"}),
        "sibling": ("t|startswith", "ab", {"1"}),
        "text exists": ("t|exists", True, {"1", "2"}),
    }
    with cluster.temporary_index(body) as index:
        documents: list[tuple[str, dict[str, Any]]] = [
            ("1", {"a": "one", "s": "aMIDb", "o": {"x": {"y": "Z"}}, "t": "abc"}),
            ("2", {"a": "too long", "t": "abc def"}),
            ("3", {}),
        ]
        assert cluster.load(index, documents) == {}
        queries = {}
        for name, (key, value, _) in asked.items():
            made = converted(body, key, value)
            assert made.query is not None, made.error
            queries[name] = made.query.body["query"]
        hits = cluster.search(index, queries)
    assert hits == {name: frozenset(expected) for name, (_, _, expected) in asked.items()}
