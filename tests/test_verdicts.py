"""Which questions an index can answer: the verdict by field type, value and negation, and who can break a condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from keytrail import folding
from keytrail.convert import convert
from keytrail.errors import Refused, RuleError
from keytrail.lint import check_detections
from keytrail.pack import Rule
from keytrail.regex import to_lucene
from keytrail.resolved import Regex
from keytrail.schemas import SCHEMAS, Schema
from keytrail.verdict import Query

FIELDS: dict[str, dict[str, Any]] = {
    "kw": {"type": "keyword"},
    "short": {"type": "keyword", "ignore_above": 5},
    "low": {"type": "keyword", "normalizer": "lowercase"},
    "words": {"type": "text"},
    "both": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
    "flat": {"type": "flattened"},
    "ip": {"type": "ip"},
    "long": {"type": "long"},
    "bool": {"type": "boolean"},
}
SCHEMA = Schema("made", "made", "made", {}, {}, {"mappings": {"dynamic": False, "properties": FIELDS}}, dict)


def converted(key: str, value: Any, condition: str = "one", schema: Schema = SCHEMA) -> Query | str:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": {key: value}, "condition": condition},
    }
    made = convert(Rule(Path("made.yml"), document, ""), schema)
    return made.query if made.query is not None else str(made.error)


def kinds(query: Query | str) -> list[str]:
    assert isinstance(query, Query), query
    return [condition.kind for condition in query.conditions]


@pytest.mark.parametrize(
    ("key", "value", "condition_kinds"),
    [
        ("kw", "Value", []),
        ("kw|contains", "x", []),
        ("short", "abc", []),
        ("short|contains", "x", ["not_longer"]),
        ("short|exists", True, []),
        ("both|startswith", "x", ["not_longer"]),
        ("flat.a|startswith", "x", ["one_spelling"]),
        ("flat.a", "x", ["one_spelling"]),
        ("low|contains", "x", ["plain_case"]),
        ("ip|cidr", "10.0.0.0/8", []),
        ("ip", "10.0.0.1", ["plain_address"]),
        ("long|gt", 7, ["whole_number"]),
        ("bool", True, ["plain_truth"]),
    ],
)
def test_what_is_answered_and_on_what_condition(key: str, value: Any, condition_kinds: list[str]) -> None:
    assert kinds(converted(key, value)) == condition_kinds


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("words", "x", "words"),
        ("words|contains", "x", "words"),
        ("flat.a|contains", "x", "beginnings"),
        ("flat", "x", "an object"),
        ("flat.a|gt", 7, "as text"),
        ("kw|gt", 7, "as text"),
        ("kw|cidr", "10.0.0.0/8", "address"),
        ("flat.a|fieldref", "kw", "proven on no server"),
        ("kw|fieldref", "words", "words"),
        ("kw|hour", 7, "part of a time"),
        ("low|cased", "x", "case"),
        ("short", "longer than five", "longer"),
        ("long|contains", "7", "wildcard"),
        ("kw|contains", "ÄÖÜÄÖÜ", "ways to write"),
        ("kw|re", "a(?!b)", "lookaround"),
    ],
)
def test_what_is_refused_with_its_reason(key: str, value: Any, reason: str) -> None:
    refused = converted(key, value)
    assert isinstance(refused, str), refused
    assert reason in refused


def test_under_not_a_condition_that_misses_turns_into_one_that_adds() -> None:
    query = converted("short|contains", "x", "not one")
    assert isinstance(query, Query)
    assert [condition.strays.value for condition in query.conditions] == ["adds"]


def test_under_not_a_condition_that_adds_is_refused() -> None:
    assert "under 'not'" in str(converted("low|contains", "x", "not one"))
    assert kinds(converted("low|contains", "x", "not not one")) == ["plain_case"]


def test_a_condition_names_who_can_break_it() -> None:
    query = converted("requestParameters.policy|contains", "x", schema=SCHEMAS["keytrail"])
    assert isinstance(query, Query)
    assert "whoever makes the call" in query.conditions[0].breaker


def test_a_value_of_the_wrong_type_matches_nothing_rather_than_fails() -> None:
    query = converted("long", "abc")
    assert isinstance(query, Query)
    assert "match_none" in str(query.body)


def test_what_the_ecs_pipeline_drops_cannot_be_asked_for() -> None:
    assert "does not keep" in str(converted("errorCode", "", schema=SCHEMAS["ecs"]))
    assert "does not keep" in str(converted("errorCode", "none", schema=SCHEMAS["ecs"]))


def test_two_fields_that_share_a_place_are_refused() -> None:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {
            "one": {"userIdentity.userName": "a", "userIdentity.sessionContext.sessionIssuer.userName": "b"},
            "condition": "one",
        },
    }
    made = convert(Rule(Path("made.yml"), document, ""), SCHEMAS["ecs"])
    assert isinstance(made.error, Refused)
    assert "user.name" in str(made.error)


@pytest.mark.parametrize(
    ("names", "condition", "named"),
    [
        (["sel"], "sel and 1 of filter_*", "selects nothing"),
        (["notable"], "notable", "not able"),
        (["sel"], "sel and other", "other"),
        (["sel"], "(" * 60 + "sel" + ")" * 60, "nested"),
        (["_hidden"], "1 of them", "selects nothing"),
    ],
)
def test_conditions_that_pysigma_would_misread(names: list[str], condition: str, named: str) -> None:
    with pytest.raises(RuleError, match=named):
        check_detections(names, [condition])


@pytest.mark.parametrize(
    ("pattern", "lucene"),
    [
        ("^a.b$", "a[^\n]b"),
        ("(^a|b$)", "a.*|.*b"),
        (r"\d+", ".*[0-9]+.*"),
        ("(?i)kms", ".*[Kk\u212a][Mm][Ss\u017f].*"),
        ("a@b", r".*a\@b.*"),
        ("[^/]+", ".*[^/]+.*"),
    ],
)
def test_regular_expressions_in_lucenes_notation(pattern: str, lucene: str) -> None:
    assert to_lucene(Regex(pattern)) == lucene


@pytest.mark.parametrize(
    "pattern", [r"\bx", "(?=x)", "a^b", "(a)\\1", "x{999}", "[[:alpha:]]", "x++", "(" * 60 + ")" * 60]
)
def test_regular_expressions_that_lucene_cannot_say(pattern: str) -> None:
    with pytest.raises(Refused):
        to_lucene(Regex(pattern))


def test_folding_keeps_ascii_apart() -> None:
    assert folding.fold("K") == "k" != folding.fold("\u212a")
    assert folding.variants("é") == ("É", "é")
    assert folding.variants("\u212a") == ("\u212a",)
    assert {folding.fold(letter) for letter in "σςΣ"} == {"σ"}
