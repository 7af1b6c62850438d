"""What is read of a rule without pySigma is what pySigma reads."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from keytrail import automaton
from keytrail.data import packaged
from keytrail.generators import GENERATORS
from keytrail.pack import Rule, load_rules
from keytrail.schemas import SCHEMAS, Schema
from keytrail.targets import TARGETS
from keytrail.yamlload import documents, with_care

from benchmarks.measure_patterns import measured
from benchmarks.trees import by_pysigma, without
from tests.worlds import World, worlds

PACK = load_rules([packaged("rules")]).rules
SINGLE = [rule for rule in PACK if rule.kind == "rule"]


def made(detection: dict[str, Any], **more: Any) -> Rule:
    source = {"product": "aws", "service": "cloudtrail"}
    return Rule(Path("made.yml"), {"title": "made", "logsource": source, "detection": detection, **more}, "")


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_the_pack_has_the_same_trees(schema: Schema) -> None:
    for rule in SINGLE:
        tree = without(rule, schema)
        if tree is not None:
            assert tree == by_pysigma(rule, schema), rule.stem


def test_the_whole_pack_is_plain() -> None:
    assert [rule.stem for rule in SINGLE if rule.plain is None] == []


@settings(max_examples=12, deadline=None)
@given(worlds())
def test_random_rules_have_the_same_trees(world: World) -> None:
    for document in world.rules:
        rule = Rule(Path("made.yml"), document, "")
        tree = without(rule, world.schema)
        if tree is not None:
            assert tree == by_pysigma(rule, world.schema)


VALUES = st.one_of(
    st.text("ab*?\\%Éé .", max_size=6), st.integers(-9, 10**15), st.booleans(), st.none(), st.floats(-5, 5).map(float)
)
KEYS = st.builds(
    lambda field, modifiers: "|".join([field, *modifiers]),
    st.sampled_from(["eventName", "errorCode", "requestParameters.keyId"]),
    st.lists(
        st.sampled_from(
            ["contains", "startswith", "endswith", "cased", "all", "re", "i", "exists", "gte", "lt", "neq"]
        ),
        max_size=2,
        unique=True,
    ),
)
ITEMS = st.dictionaries(KEYS, st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3)), min_size=1, max_size=2)
NAMES = ("a_1", "a_2", "b")
CONDITIONS = st.recursive(
    st.sampled_from([*NAMES, "1 of a_*", "all of a_*", "any of them", "all of them"]),
    lambda part: st.one_of(
        part.map("not {}".format),
        part.map("({})".format),
        st.tuples(part, st.sampled_from(["and", "or"]), part).map(" ".join),
    ),
    max_leaves=6,
)
DETECTIONS = st.fixed_dictionaries({name: ITEMS | st.lists(ITEMS, min_size=1, max_size=2) for name in NAMES})


@settings(max_examples=120, deadline=None)
@given(DETECTIONS, CONDITIONS)
def test_odd_values_modifiers_and_conditions_have_the_same_trees(detections: dict[str, Any], condition: str) -> None:
    rule = made({**detections, "condition": condition})
    tree = without(rule, SCHEMAS["keytrail"])
    if tree is not None:
        assert tree == by_pysigma(rule, SCHEMAS["keytrail"])


PIECES = [*"ab()[]{},-^$*+?|\\.1&~:d", "\\d", "\\W", "[^", "{2}", "{1,}", "a-z", "[\\d-", "\\]"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_an_expression_that_is_taken_is_one_that_python_takes(expression: str) -> None:
    if made({"a": {"eventName|re": expression}, "condition": "a"}).plain is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its doubts about [[ and && are none of RE2's
            re.compile(expression)


ODD: dict[str, Any] = {
    "id": ["no id", 7], "level": ["worst", ["high"]], "status": ["new"], "tags": ["attack.t1", [7], ["attack"]],
    "date": ["soon", 2026], "modified": ["2026-13-01"], "related": [{"id": 1}, ["x"], "derived"], "title": ["x" * 300],
    "name": ["", 3], "author": [["me"]], "description": [7], "references": ["x"], "falsepositives": ["none"],
    "fields": ["eventName", [7]], "license": [1], "scope": ["x"], "taxonomy": ["", 7],
    "logsource": [{}, {"product": 7}, {"definition": "x"}, "aws"],
}  # fmt: skip


@pytest.mark.parametrize(("attribute", "value"), [(name, value) for name, given in ODD.items() for value in given])
def test_what_pysigma_refuses_is_not_taken(attribute: str, value: Any) -> None:
    rule = made({"a": {"eventName": "x"}, "condition": "a"}, **{attribute: value})
    assert by_pysigma(rule, SCHEMAS["keytrail"]) is None
    assert rule.plain is None


def test_the_same_file_is_read_the_same_in_one_pass_and_with_care() -> None:
    for path in sorted(packaged("rules").rglob("*.yml")):
        text = path.read_text(encoding="utf-8")
        assert list(documents(text, 10_000)) == list(with_care(text, 10_000))


BROKEN = ["a: &x 1\nb: *x", "a: 1\na: 2", "a: 012", "a: {b: [!!python/none x]}", "a: ["]
SOUND = ["a: !!str 1", "a: 'x'\nb: 2026-11-20", "a: |\n  x\n---\nb: ~", "a: 1.5\nb: [true, null, 'é']", "? a\n: b"]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_plain_yaml_is_told_with_its_place(text: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        list(documents(text, 100))
    assert caught.value.problem_mark is not None


@pytest.mark.parametrize("text", SOUND)
def test_values_are_those_of_the_careful_reader(text: str) -> None:
    assert [value for value, _ in documents(text, 100)] == list(yaml.safe_load_all(text))


def test_every_generator_is_a_target_for_sigma_cli() -> None:
    assert list(GENERATORS) == list(TARGETS)


def test_the_patterns_of_the_pack_are_measured_beforehand() -> None:
    """``make queries`` writes the table again."""
    assert json.loads(automaton.TABLE.read_bytes()) == measured()
