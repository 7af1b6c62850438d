"""Limits: what the engine does not implement is a named error, and no input costs more than is bounded."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from keytrail import automaton, query_dsl
from keytrail.cluster import Cluster
from keytrail.engine import compile_query
from keytrail.errors import Refused, RuleError, UnsupportedQuery
from keytrail.lint import check_detections
from keytrail.mapping import IndexMapping
from keytrail.pack import load_rules

from benchmarks import limits

ROOT = Path(__file__).parents[1]
MAPPING = IndexMapping(
    {
        "mappings": {
            "properties": {
                "k": {"type": "keyword"},
                "t": {"type": "text"},
                "f": {"type": "flattened"},
                "ip": {"type": "ip"},
                "n": {"type": "long"},
                "x": {"type": "double"},
                "b": {"type": "boolean"},
                "d": {"type": "date"},
                "g": {"type": "geo_point"},
            }
        }
    }
)

# -- Query DSL that the engine does not implement -----------------------------------------------------------------

OTHER_KINDS = (
    *("boosting", "constant_score", "dis_max", "function_score", "hybrid", "wrapper", "pinned", "rule", "template"),
    *("combined_fields", "common", "intervals", "kql", "match", "match_bool_prefix", "match_phrase"),
    *("match_phrase_prefix", "multi_match", "query_string", "semantic", "simple_query_string"),
    *("geo_bounding_box", "geo_distance", "geo_grid", "geo_polygon", "geo_shape", "shape"),
    *("has_child", "has_parent", "nested", "parent_id"),
    *("span_containing", "span_field_masking", "span_first", "span_gap", "span_multi", "span_near", "span_not"),
    *("span_or", "span_term", "span_within"),
    *("distance_feature", "knn", "more_like_this", "percolate", "rank_feature", "script_score", "slice"),
    *("sparse_vector", "text_expansion", "weighted_tokens", "fuzzy", "ids", "terms_set", "type", "indices", "limit"),
    *("and", "or", "not", "filtered", "missing", "made_up", "", "Term", "BOOL"),
)


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_kind_of_query_that_is_not_implemented_is_a_named_error(kind: str) -> None:
    inners: tuple[dict[str, Any], ...] = ({}, {"k": "a"}, {"k": {"value": "a"}}, {"query": {"match_all": {}}})
    for inner in inners:
        with pytest.raises(UnsupportedQuery, match="no query"):
            compile_query({kind: inner}, MAPPING)
        with pytest.raises(UnsupportedQuery, match="no query"):
            compile_query({"bool": {"must_not": [{kind: inner}]}}, MAPPING)


OTHER_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"term": {"k": "a"}, "prefix": {"k": "a"}},
    {"bool": []},
    {"bool": {"must": {"term": {"k": "a"}}, "boost": 2}},
    {"bool": {"filter": [], "_name": "x"}},
    {"bool": {"filter": [], "adjust_pure_negative": True}},
    {"bool": {"should": [{"term": {"k": "a"}}], "minimum_should_match": "75%"}},
    {"bool": {"should": [{"term": {"k": "a"}}], "minimum_should_match": -1}},
    {"bool": {"should": [{"term": {"k": "a"}}], "minimum_should_match": True}},
    {"bool": {"filter": ["k:a"]}},
    {"bool": {"filter": [None]}},
    {"bool": {"mustNot": []}},
    {"match_all": {"boost": 2}},
    {"match_none": None},
    {"exists": {"field": "k", "boost": 2}},
    {"exists": {"fields": ["k"]}},
    {"script": {"script": {"source": "return true"}}},
    {"script": {"script": "return true"}},
    {"script": {}},
    {"exists": {}},
    {"exists": "k"},
    {"exists": {"field": "g"}},
    {"term": "k"},
    {"term": {}},
    {"term": {"k": "a", "b": True}},
    {"term": {"k": {"value": "a", "boost": 2}}},
    {"term": {"k": {"term": "a"}}},
    {"term": {"k": {"value": None}}},
    {"term": {"k": {"value": ["a"]}}},
    {"term": {"k": {"value": "a", "case_insensitive": "true"}}},
    {"term": {"n": {"value": "a"}}},
    {"term": {"n": {"value": 7.5}}},
    {"term": {"n": {"value": 1e30}}},
    {"term": {"n": {"value": 7, "case_insensitive": True}}},
    {"term": {"b": {"value": "yes"}}},
    {"term": {"ip": {"value": "10.0.0"}}},
    {"term": {"ip": {"value": "10.0.0.0/33"}}},
    {"term": {"ip": {"value": 7}}},
    {"term": {"d": {"value": "2026-11-20"}}},
    {"term": {"t": {"value": "a"}}},
    {"term": {"f": {"value": "a"}}},
    {"term": {"g": {"value": "a"}}},
    {"terms": {"k": "a"}},
    {"terms": {"k": {"index": "i", "id": "1", "path": "p"}}},
    {"terms": {"k": ["a"], "boost": 2}},
    {"terms": {"k": [None]}},
    {"terms": {"n": ["a"]}},
    {"prefix": {"k": {"value": "a", "rewrite": "constant_score"}}},
    {"prefix": {"k": {"value": 7}}},
    {"prefix": {"n": {"value": "7"}}},
    {"prefix": {"ip": {"value": "10."}}},
    {"wildcard": {"k": {"wildcard": "a*"}}},
    {"wildcard": {"k": {"value": None}}},
    {"wildcard": {"f.x": {"value": "a*"}}},
    {"wildcard": {"b": {"value": "t*"}}},
    {"regexp": {"k": "a.*"}},
    {"regexp": {"k": {"value": "a.*"}}},
    {"regexp": {"k": {"value": "a.*", "flags": "ALL"}}},
    {"regexp": {"k": {"value": "a.*", "flags": "NONE", "case_insensitive": True}}},
    {"regexp": {"k": {"value": "a.*", "flags": "NONE", "max_determinized_states": 5}}},
    {"regexp": {"k": {"value": '"a"', "flags": "NONE"}}},
    {"regexp": {"k": {"value": "a{1001}", "flags": "NONE"}}},
    {"regexp": {"k": {"value": "a{x}", "flags": "NONE"}}},
    {"regexp": {"k": {"value": "(a", "flags": "NONE"}}},
    {"regexp": {"f.x": {"value": "a", "flags": "NONE"}}},
    {"range": {"n": {}}},
    {"range": {"n": "7"}},
    {"range": {"n": {"from": 1, "to": 2}}},
    {"range": {"n": {"gt": 1, "boost": 2}}},
    {"range": {"n": {"gt": "now-1d"}}},
    {"range": {"n": {"gt": None}}},
    {"range": {"d": {"gt": "now-1d"}}},
    {"range": {"k": {"gt": "a"}}},
    {"range": {"ip": {"gt": "10.0.0.0"}}},
    {"range": {"f.x": {"gt": "a"}}},
    {"term": {"_ignored": {"value": "nowhere"}}},
    {"exists": {"field": "_ignored"}},
)


@pytest.mark.parametrize("query", OTHER_OPTIONS, ids=json.dumps)
def test_an_option_or_value_that_is_not_implemented_is_a_named_error(query: dict[str, Any]) -> None:
    if query == {"exists": {"field": "_ignored"}}:
        assert compile_query(query, MAPPING)({"k": "a"}) is False
        return
    with pytest.raises(UnsupportedQuery):
        compile_query(query, MAPPING)


def test_a_query_nests_as_deep_as_in_elasticsearch() -> None:
    assert compile_query(limits._nested(29), MAPPING)({"k": "a"})
    with pytest.raises(UnsupportedQuery, match="29 deep"):
        compile_query(limits._nested(30), MAPPING)


# -- hostile input ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> dict[str, limits.Figures]:
    """What each hostile input cost, measured in processes of their own."""
    command = [sys.executable, "-m", "benchmarks.limits", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT, check=True)
    return {found["name"]: limits.Figures(**found) for found in json.loads(done.stdout)}


@pytest.mark.parametrize("name", [*limits.RULES, *limits.EVENTS])
def test_hostile_input_ends_soon_and_with_a_name(name: str, figures: dict[str, limits.Figures]) -> None:
    found = figures[name]
    assert found.survived, found
    assert found.outcome
    assert found.seconds < 45, found
    assert found.megabytes < 500, found


def test_hostile_rules_are_refused_for_the_reason_that_they_are_hostile(figures: dict[str, limits.Figures]) -> None:
    reasons = {
        "wildcard *a and 30 ?": "Refused: the pattern is too complex",
        "regex a.{200}": "Refused: the pattern is too complex",
        "regex ((x{255}){255}){255}": "Refused: the pattern has 16,581,377 characters",
        "10,000 values": "more than 5,000 values",
        "condition nested 1,000 deep": "RuleError: the condition is nested more than 50 deep",
        "condition nested 45 deep, and in or": "Refused: the rule nests 45 boolean queries",
        "1,000 nots": "RuleError: the condition is nested more than 50 deep",
        "windash with 30 dashes": "RuleError: 30 dashes",
        "aliases (billion laughs)": "RuleError: YAML aliases are not taken in a rule",
        "YAML nested 100,000 deep": "RuleError: exceeded maximum nesting depth",
        "a file over 1 MB": "RuleError: larger than 1,000,000 bytes",
        "30,000 selections": "RuleError: more than 50,000 parts",
        "half a character": "RuleError: found invalid Unicode character escape code",
        "an event nested 100,000 deep": "RecordError: not valid JSON: nested more than 100 levels deep",
    }
    assert {name: reason in figures[name].outcome for name, reason in reasons.items()} == dict.fromkeys(reasons, True)
    assert figures["regex ((a*)*)*b"].outcome == "exact if"
    assert "exact" in figures["1,000 selections"].outcome


@pytest.mark.parametrize(
    "condition", ["(" * 50 + "a" + ")" * 50, "not " * 50 + "a", "not (" * 25 + "a" + ")" * 25, "not a and " * 500 + "a"]
)
def test_conditions_up_to_the_limit_are_taken(condition: str, tmp_path: Path) -> None:
    check_detections(["a"], [condition])
    (tmp_path / "deep.yml").write_text(f"{limits.RULE}  a: {{eventName: a}}\n  condition: {condition}\n", "utf-8")
    assert load_rules([tmp_path]).errors == []


@pytest.mark.parametrize("condition", ["(" * 51 + "a" + ")" * 51, "not " * 51 + "a", "not (" * 26 + "a" + ")" * 26])
def test_conditions_beyond_it_are_not(condition: str) -> None:
    with pytest.raises(RuleError, match="nested more than 50 deep"):
        check_detections(["a"], [condition])


# -- patterns -----------------------------------------------------------------------------------------------------


def test_a_pattern_costs_a_bounded_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    determined = automaton._Builder._determined

    def counted(self: Any, given: Any) -> Any:
        nonlocal most
        try:
            return determined(self, given)
        finally:
            most = max(most, self.steps)

    monkeypatch.setattr(automaton._Builder, "_determined", counted)
    for expression in (".*a.{200}", "((a*)*)*b", "(a|b)*a(a|b){20}", "(x{0,30}){30}", "a?" * 200 + "a" * 200):
        automaton.measured_regexp(expression)
    for wildcard in ("*a" + "?" * 30, "*a" * 450, "a*" * 450, "?" * 900, "*" + "a" * 890):
        automaton.measured_wildcard(wildcard)
    assert automaton.MOST_STEPS < most < 2 * automaton.MOST_STEPS


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("*abc*", None),
        ("*arn:aws:iam::*:role/*", None),
        ("*a??????????", None),
        ("*a????????????", "too complex"),
        ("*" * 901, "901 characters"),
        ("*" + "1" * 200 + "*", None),
        ("*" + "1" * 250 + "*", "too complex"),
        ("\\*" * 500, None),
        ("a\\", None),
    ],
)
def test_wildcards(value: str, problem: str | None) -> None:
    found = automaton.of_wildcard(value).problem
    assert (found is None) if problem is None else (found is not None and problem in found)


@pytest.mark.parametrize(
    "expression",
    [
        r".*arn:aws:kms:[^:]*:[0-9]{12}:key/.*",
        r".*(a|b|c).{8}.*",
        r"[^\{\}]*\{[^\{\}]*\}.*",
        "x{0,255}",
        "",
        "a|()|b",
        "[a-]|[]]|[^]]",
    ],
)
def test_expressions_that_are_taken(expression: str) -> None:
    assert automaton.of_regexp(expression).problem is None
    automaton.check(expression)


@pytest.mark.parametrize(
    "expression",
    [".*a.{200}", "((x{255}){255}){255}", "((((){255}){255}){255}){255}", "(" * 101 + "a", "a{999999}", "a{x}"],
)
def test_expressions_that_are_refused(expression: str) -> None:
    with pytest.raises(Refused):
        automaton.check(expression)


def test_parts_are_made_deterministic_for_themselves() -> None:
    """As a whole the expression is harmless, but Lucene 9 works on its parts first, and gives up."""
    assert automaton.of_regexp(".*(([a-z]+|[a-z]?)[^é]{20}|a+)").problem is not None


def test_memory_is_counted_over_a_query() -> None:
    clauses = [{"wildcard": {"k": {"value": f"*{number:04d}{'abcdefghij' * 20}*"}}} for number in range(900)]
    with pytest.raises(Refused, match="bytes of a node's heap"):
        query_dsl._check_patterns({"bool": {"should": clauses}})


# -- a real node --------------------------------------------------------------------------------------------------


def test_a_node_takes_the_largest_queries_that_are_written(cluster: Cluster) -> None:
    with cluster.temporary_index(limits.BODY) as index:
        cluster.load(index, [("1", {"k": "a" * 3_000, "d": 1.5})])
        found = {name: limits._taken(cluster, index, query) for name, query in limits.at_the_limit().items()}
    assert found == dict.fromkeys(found, None)


def test_a_node_refuses_what_is_twice_as_large(cluster: Cluster) -> None:
    """So the limits are not there for nothing. (The clauses of a large node are not twice as many as ours.)"""
    with cluster.temporary_index(limits.BODY) as index:
        queries = {
            "nesting": limits._nested(50),
            "prefix": {"prefix": {"k": {"value": "a" * 1_800}}},
            "term": {"term": {"k": {"value": "a" * 65_532}}},
            "wildcard": limits._wild(f"*{'a' * 442}*"),
            "wildcard of ?": limits._wild("*a" + "?" * 20),
            "regexp": {"regexp": {"k": {"value": ".*a.{22}", "flags": "NONE"}}},
        }
        assert [name for name, query in queries.items() if limits._taken(cluster, index, query) is None] == []


def test_a_node_takes_what_the_automaton_says_it_takes(cluster: Cluster) -> None:
    """Random patterns, many of them near the limits: none that is written may be refused by a node."""
    chance = random.Random(11)
    queries: dict[str, dict[str, Any]] = {}
    while len(queries) < 150:
        if chance.random() < 0.6:
            value = chance.choice(["", ".*"]) + _expression(chance, 3) + chance.choice(["", ".*"])
            kind, options, cost = "regexp", {"flags": "NONE"}, automaton.of_regexp(value)
        else:
            value = "".join(chance.choice("*??abéж😀a") for _ in range(chance.choice([5, 20, 60, 120, 200])))
            kind, options, cost = "wildcard", {}, automaton.of_wildcard(value)
        if value and cost.problem is None:
            queries[value] = {kind: {"k": {"value": value, **options}}}
    with cluster.temporary_index(limits.BODY) as index:
        refused = {value: limits._taken(cluster, index, query) for value, query in queries.items()}
    assert {value: why for value, why in refused.items() if why is not None} == {}


def _expression(chance: random.Random, depth: int) -> str:
    kind = chance.random()
    if depth == 0 or kind < 0.35:
        atom = chance.choice([*"abcdéüж😀...", "[aA]", "[a-z]", "[0-9]", "[éÉ]", "[^a]", r"[^\{\}]", "[^é]", "[^\n]"])
        counts = ("*", "+", "?", "{2}", "{5}", "{12}", "{60}", "{200}", "{0,6}", "{1,30}", "{2,100}", "", "", "")
        return f"{atom}{chance.choice(counts)}"
    if kind < 0.7:
        return "".join(_expression(chance, depth - 1) for _ in range(chance.randint(2, 4)))
    if kind < 0.88:
        return "(" + "|".join(_expression(chance, depth - 1) for _ in range(chance.randint(2, 3))) + ")"
    return f"({_expression(chance, depth - 1)}){chance.choice(['*', '+', '?', '{2}', '{3}', '{0,4}', '{5}'])}"
