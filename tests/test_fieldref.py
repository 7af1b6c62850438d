"""References of fields: the one script, what it needs to be exact, and that OpenSearch and the engine read it alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keytrail import folding, reference, script
from keytrail.cluster import Cluster, has_no_scripts
from keytrail.convert import convert
from keytrail.engine import compile_query
from keytrail.errors import Refused, UnsupportedQuery
from keytrail.holding import BROKEN, HOLDS, check
from keytrail.mapping import IndexMapping
from keytrail.pack import Rule
from keytrail.proof import ElasticsearchEngine, Event, Report, _check_engine
from keytrail.schemas import Schema, live

FIELDS: dict[str, Any] = {
    "kw": {"type": "keyword"},
    "short": {"type": "keyword", "ignore_above": 5},
    "low": {"type": "keyword", "normalizer": "lowercase"},
    "words": {"type": "text"},
    "both": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
    "real": {"type": "double"},
    "whole": {"type": "long"},
    "truth": {"type": "boolean"},
    "ip": {"type": "ip"},
    "day": {"type": "date"},
    "bare": {"type": "keyword", "doc_values": False},
    "odd \"name'] ; return true": {"type": "keyword"},
}
UNPROVEN = {"flat": {"type": "flattened"}, "wild": {"type": "wildcard"}}
BODY = {"settings": {"number_of_replicas": 0}, "mappings": {"dynamic": False, "properties": FIELDS}}
FLAT = {"mappings": {"dynamic": False, "properties": {**FIELDS, **UNPROVEN}}}
SCHEMA = Schema("made", "made", "made", {}, {}, FLAT, dict, dropped=frozenset())
HOWS = {"equals": "", "contains": "|contains", "starts": "|startswith", "ends": "|endswith"}


def rule(line: Mapping[str, Any], condition: str = "one") -> Rule:
    document = {
        "title": "Made",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"one": dict(line), "condition": condition},
    }
    return Rule(Path("made.yml"), document, "")


@pytest.mark.parametrize(
    ("field", "other", "kinds"),
    [
        ("kw", "kw", ["scripts"]),
        ("kw", "short", ["not_longer", "scripts"]),
        ("short", "both", ["not_longer", "not_longer", "scripts"]),
        ("low", "kw", ["plain_case", "scripts"]),
        ("whole", "real", ["whole_number", "plain_number", "scripts"]),
        ("truth", "ip", ["plain_truth", "plain_address", "scripts"]),
    ],
)
def test_a_reference_is_exact_if_both_fields_hold_what_was_written(field: str, other: str, kinds: list[str]) -> None:
    made = convert(rule({f"{field}|fieldref": other}), SCHEMA)
    assert [condition.kind for condition in made.conditions] == kinds
    assert {condition.field for condition in made.conditions} <= {field, other}


@pytest.mark.parametrize(
    ("field", "other", "reason"),
    [
        ("kw", "words", "words, not the value"),
        ("kw", "flat.key", "flattened field is proven on no server"),
        ("flat.key", "kw", "flattened field is proven on no server"),
        ("kw", "flat", "no value of its own"),
        ("kw", "day", "cannot read its values"),
        ("kw", "bare", "cannot read its values"),
        ("kw", "wild", "cannot read its values"),
        ("kw", "nowhere", "no place"),
    ],
)
def test_what_no_script_can_read_is_refused(field: str, other: str, reason: str) -> None:
    assert reason in str(convert(rule({f"{field}|fieldref": other}), SCHEMA).error)


@pytest.mark.parametrize("target", ["lucene", "esql"])
def test_other_languages_refuse_with_their_reason(target: str) -> None:
    error = convert(rule({"kw|fieldref": "low"}), SCHEMA, target).error
    assert isinstance(error, Refused)
    assert {"lucene": "needs a script", "esql": "null for a list"}[target] in error.message


def test_under_not_a_reference_that_could_add_events_is_refused() -> None:
    assert "under 'not'" in str(convert(rule({"kw|fieldref": "whole"}, "not one"), SCHEMA).error)
    assert convert(rule({"kw|fieldref": "short"}, "not one"), SCHEMA).verdict == "exact if"


def test_nothing_of_a_rule_is_in_the_script() -> None:
    odd = "odd \"name'] ; return true"
    query = convert(rule({f"{odd}|fieldref|contains": "kw"}), SCHEMA).query
    assert query is not None
    ((clause,),) = (query.body["query"]["bool"]["filter"],)
    assert clause["script"]["script"]["source"] == script.SOURCE
    assert clause["script"]["script"]["params"] == {"field": odd, "other": "kw", "how": "contains"}


@pytest.mark.parametrize(
    "changed",
    [{"source": "return true"}, {"lang": "expression"}, {"params": {"field": "kw"}}, {"id": "stored"}],
)
def test_the_engine_knows_this_script_and_no_other(changed: dict[str, Any]) -> None:
    query = script.query("kw", "low", "equals")
    query["script"]["script"].update(changed)
    with pytest.raises(UnsupportedQuery, match="no script but"):
        compile_query(query, IndexMapping(BODY))


DOCUMENTS: list[dict[str, Any]] = [
    {"kw": "7", "real": 7.0, "whole": 7},
    {"kw": "-0.25", "real": -0.25},
    {"kw": "123456789012345", "real": 123456789012345, "whole": 123456789012345},
    {"kw": "0.00001", "real": 0.00001},
    {"kw": "0", "real": -0.0},
    {"kw": "true", "truth": True},
    {"kw": "2001:DB8::1", "ip": "2001:db8:0:0::1"},
    {"kw": ["x", "10.0.0.1"], "ip": ["1.1.1.1", "::ffff:10.0.0.1"]},
    {"kw": "xÉy", "low": "é"},
    {"kw": "Σας", "low": "ΣΑΣ"},
    {"kw": "\u212a", "low": "k"},
    {"kw": "ß", "low": "SS"},
    {"kw": "", "low": []},
    {"kw": "x", "low": ""},
    {"low": "x", "kw": [None]},
    {"kw": "abcdef", "short": ["abcdef", "cd"]},
    {"kw": "A\u0000\U0001f600b", "low": "\U0001f600B"},
    {"kw": "\U00010400x", "low": "\U00010428X"},
    {"both": "Two Words", "kw": "two words"},
]


def test_opensearch_and_the_engine_read_the_script_alike(servers: Mapping[str, Cluster]) -> None:
    documents = {str(number): document for number, document in enumerate(DOCUMENTS)}
    names = [*(name for name in FIELDS if name not in ("words", "both", "day", "bare")), "both.keyword", "none"]
    queries = {f"{one} {how} {two}": script.query(one, two, how) for one in names for two in names for how in HOWS}
    cluster = servers["opensearch-3"]
    with cluster.temporary_index(BODY) as index:
        assert cluster.load(index, documents.items()) == {}
        found = cluster.search(index, queries)
    mapping = IndexMapping(BODY)
    for name, query in queries.items():
        matches = compile_query(query, mapping)
        assert found[name] == {number for number, document in documents.items() if matches(document)}, name
    assert found["kw contains low"] >= {"8", "9", "13", "16", "17"}
    assert "10" not in found["kw equals low"]


def test_java_folds_every_letter_as_python_does(servers: Mapping[str, Cluster]) -> None:
    cased = {letter for family in folding._classes().values() for letter in family}
    documents = {
        str(number): {"kw": f"{number}:{letter}", "short": f"{number}:{folding.fold(letter)}"}
        for number, letter in enumerate(sorted(cased | set("\u212aıſİßŉǰΐKk")))
    }
    body = {**BODY, "mappings": {"properties": {"kw": FIELDS["kw"], "short": FIELDS["kw"]}}}
    cluster = servers["opensearch-3"]
    with cluster.temporary_index(body) as index:
        assert cluster.load(index, documents.items()) == {}
        found = cluster.search(index, {"same": script.query("kw", "short", "equals")})["same"]
    assert sorted(set(documents) - found) == []


@given(st.text(max_size=6), st.text(max_size=6), st.sampled_from(sorted(HOWS)))
def test_the_engine_says_what_the_rule_says(one: str, two: str, how: str) -> None:
    line = {f"kw|fieldref{HOWS[how]}": "low"}
    means = reference.compile_rule({"detection": {"one": line, "condition": "one"}})
    assert script.related([one], [two], how) is means({"kw": one, "low": two})


def test_a_server_without_painless_is_said_to_prove_nothing(cluster: Cluster) -> None:
    schema = replace(SCHEMA, body=BODY)
    made = [convert(rule({"kw|fieldref": "low"}), schema)]
    report = Report()
    records = [Event("one", {"kw": "a", "low": "A"})]
    _check_engine(made, records, {"made": frozenset({"one"})}, schema, ElasticsearchEngine(cluster), report)
    assert report.failures == []
    assert report.as_dict()["not_proven"] == {"elasticsearch": ["made"]}
    assert report.checks.total() == 0


def test_whether_a_cluster_runs_scripts_is_asked_of_it(servers: Mapping[str, Cluster]) -> None:
    condition = next(part for part in convert(rule({"kw|fieldref": "kw"}), SCHEMA).conditions if part.kind == "scripts")
    named = {**FIELDS, "eventName": FIELDS["kw"], "eventSource": FIELDS["kw"]}
    body = {"settings": BODY["settings"], "mappings": {"properties": named}}
    states = {}
    for version, cluster in servers.items():
        with cluster.temporary_index(body) as index:
            cluster.load(index, [("1", {"kw": "a"})])
            answer = cluster.search_each(index, {"q": script.query("kw", "low", "equals")})["q"]
            assert isinstance(answer, frozenset) or has_no_scripts(answer)
            schema = live.live_schema(live.read_cluster(cluster, index), index)
            states[version] = check(condition, schema, cluster).state
    assert states == {"8": BROKEN, "9": BROKEN, "opensearch-3": HOLDS}
