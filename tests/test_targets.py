"""Lucene and ES|QL as they are written down: names, values, precedence, and what each cannot ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from keytrail.cli import main
from keytrail.convert import convert
from keytrail.esql import source
from keytrail.pack import Rule
from keytrail.schemas import SCHEMAS, Schema
from keytrail.verdict import Query

FIELDS: dict[str, dict[str, Any]] = {
    "kw": {"type": "keyword"},
    "low": {"type": "keyword", "normalizer": "lowercase"},
    "flat": {"type": "flattened"},
    "ip": {"type": "ip"},
    "long": {"type": "long"},
    "bool": {"type": "boolean"},
    "words": {"type": "text"},
    "a b:c/(d)": {"type": "keyword"},
    "OR": {"type": "keyword"},
    "x*": {"type": "keyword"},
}
MADE = Schema("made", "made", "logs-*", {}, {}, {"mappings": {"dynamic": False, "properties": FIELDS}}, dict)
ECS = SCHEMAS["ecs"]


def converted(
    target: str, *lines: dict[str, Any], condition: str = "1 of them", schema: Schema = MADE
) -> tuple[str, list[str]]:
    """The query of a rule, one selection for each of ``lines``, or its refusal; and the kinds of its conditions."""
    detection: dict[str, Any] = {f"s{number}": line for number, line in enumerate(lines)}
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {**detection, "condition": condition},
    }
    made = convert(Rule(Path("made.yml"), document, ""), schema, target)
    if made.query is None:
        return str(made.error), []
    assert isinstance(made.query, Query)
    return made.query.body, [one.kind for one in made.query.conditions]


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("kw", "a-7", "kw:/[Aa]\\-7/"),
        ("kw", "7 7", 'kw:"7 7"'),
        ("kw|cased", 'A"\\\\b', 'kw:"A\\"\\\\b"'),
        ("kw", "", 'kw:""'),
        ("kw|startswith", "10.", "kw:10.*"),
        ("kw|startswith|cased", "a*b/", "kw:/a.*b\\/.*/"),
        ("kw|startswith|cased", "a b:", "kw:a\\ b\\:*"),
        ("kw|contains", "x", "kw:/.*[Xx].*/"),
        ("kw", "7?7", "kw:/7.7/"),
        ("kw|endswith", "7\\\\", "kw:/(.*7\\\\)/"),
        ("kw|re", "^a/b", "kw:/a\\/b.*/"),
        ("kw|contains", "@", "kw:/.*\\@.*/"),
        ("kw", "é1", "kw:/[Éé]1/"),
        ("kw|exists", True, '(_exists_:kw OR _ignored:"kw")'),
        ("kw", None, '(NOT (_exists_:kw OR _ignored:"kw"))'),
        ("low", "Abc", 'low:"abc"'),
        ("low", "Σ", "low:/[σς]/"),
        ("long", 7, 'long:"7"'),
        ("long|gt", -7, "long:{-7 TO *]"),
        ("long|lte", 7, "long:[* TO 7]"),
        ("bool", True, 'bool:"true"'),
        ("ip|cidr", "10.0.0.0/8", 'ip:"10.0.0.0/8"'),
        ("ip", "x", "(NOT *:*)"),
        ("words|exists", True, "_exists_:words"),
        ("flat.k", "7", 'flat.k:"7"'),
        ("flat.k", "on", 'flat.k:("ON" OR "On" OR "oN" OR "on")'),
        ("flat.k|startswith|cased", "Ab", "flat.k:Ab*"),
        ("a b:c/(d)", "7", 'a\\ b\\:c\\/\\(d\\):"7"'),
        ("OR", "7", '\\OR:"7"'),
    ],
)
def test_lucene(key: str, value: Any, wanted: str) -> None:
    assert converted("lucene", {key: value})[0] == wanted


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("flat.k", "a long value", "case cannot be ignored on a key of a flattened field"),
        ("x*", "7", "cannot be a field's name here"),
        ("kw|contains", "a long value " * 30, "characters"),
        ("kw|re", "a.{20}b", "complex"),
        ("kw|contains", "a" + "?" * 20 + "b", "complex"),
        ("words", "x", "the index holds words"),
    ],
)
@pytest.mark.parametrize("target", ["lucene", "esql"])
def test_what_cannot_be_asked_is_refused(target: str, key: str, value: Any, reason: str) -> None:
    assert reason in converted(target, {key: value})[0]


def test_precedence_is_never_left_to_the_parser() -> None:
    lines = ({"kw": "1"}, {"kw": ["2", "3"], "low": "4"}, {"kw|startswith": "5"})
    text, _ = converted("lucene", *lines, condition="s0 or s1 and not (s2 or not s0)")
    assert text == '(kw:"1" OR (kw:("2" OR "3") AND low:"4" AND (NOT (kw:5* OR (NOT kw:"1")))))'


def test_the_values_of_a_field_stand_together() -> None:
    text, _ = converted("lucene", {"kw": ["1", "2"]}, {"kw": "3"}, {"long": [1, None]})
    assert text == '(kw:("1" OR "2" OR "3") OR long:"1" OR (NOT (_exists_:long OR _ignored:"long")))'


def test_a_key_whose_case_is_to_be_ignored_is_looked_for_in_the_java_map() -> None:
    field = "requestParameters.name"
    text, kinds = converted("lucene", {field: "a-long-name"}, schema=ECS)
    assert text.startswith("aws.cloudtrail.request_parameters:/\\{")
    assert {"plain_map", "map_not_longer"} <= set(kinds)
    _, native = converted("query-dsl", {field: "a-long-name"}, schema=ECS)
    assert not {"plain_map", "map_not_longer"} & set(native)
    refused, _ = converted("lucene", {field: "a-long-name"}, condition="not s0", schema=ECS)
    assert "under 'not' the query would miss events unless requestParameters is plain" in refused


def test_esql_joins_what_query_strings_ask() -> None:
    lines = ({"kw|cased": "a\\*b"}, {"kw": "1", "long|gt": 2}, {"kw|exists": True})
    text, _ = converted("esql", *lines, condition="s2 and (s0 or s1) and not s0")
    assert text == (
        'FROM logs-* METADATA _id, _index, _version\n| WHERE QSTR("""(_exists_:kw OR _ignored:\\"kw\\")""")\n'.replace(
            '\\"', '"'
        )
        + '    AND (QSTR("kw:\\"a*b\\"") OR (QSTR("kw:\\"1\\"") AND QSTR("long:{2 TO *]")))\n'
        '    AND NOT QSTR("kw:\\"a*b\\"")'
    )


def test_esql_of_nothing() -> None:
    assert converted("esql", {"ip": "x"})[0].endswith("| WHERE false")


@pytest.mark.parametrize(
    ("value", "string"),
    [
        ("7\n7", '"kw:\\"7\\n7\\""'),
        ('"""', '"kw:\\"\\\\\\"\\\\\\"\\\\\\"\\""'),
        ("\t\r", '"kw:\\"\\t\\r\\""'),
    ],
)
def test_strings_of_esql(value: str, string: str) -> None:
    assert converted("esql", {"kw": value})[0].endswith(f"QSTR({string})")


def test_many_conditions_become_one_query_string() -> None:
    lines = [{"kw": str(number), "long": number} for number in range(200)]
    text, _ = converted("esql", *lines)
    assert text.count("QSTR(") == 1


@pytest.mark.parametrize(
    ("index", "written"),
    [
        ("logs-aws.cloudtrail-*", "logs-aws.cloudtrail-*"),
        ("remote:logs-*", '"remote:logs-*"'),
        ("a,b", '"a,b"'),
        ("-x", '"-x"'),
    ],
)
def test_the_index_is_quoted_where_it_must_be(index: str, written: str) -> None:
    assert source(index) == f"FROM {written} METADATA _id, _index, _version"


@pytest.mark.parametrize("target", ["lucene", "esql"])
def test_a_file_is_named_for_the_language_that_it_is_in(target: str, tmp_path: Path) -> None:
    arguments = ["convert", "trail_key_disabled", "--target", target]
    printed = CliRunner().invoke(main, arguments).stdout
    assert printed.strip()
    assert CliRunner().invoke(main, [*arguments, "-o", str(tmp_path)]).exit_code == 0
    assert (tmp_path / f"trail_key_disabled.{target}").read_text("utf-8").strip() == printed.strip()
