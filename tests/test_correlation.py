"""Correlations as they are read: every key, what is refused and where; the same as pySigma where that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from keytrail.correlation import Bound, Correlation, Every, Formula, Never, Seen, Some, holds, named, written
from keytrail.correlation_yaml import read
from keytrail.data import packaged
from keytrail.errors import RuleError
from keytrail.pack import Pack, load_rules, rewired
from sigma.collection import SigmaCollection
from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionNOT,
    CorrelationConditionOR,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaRuleReference,
)

from tests.sequences import RULES, correlations, readable

COUNT: dict[str, Any] = {"type": "event_count", "rules": ["a"], "group-by": ["x"], "timespan": "10m"}
ORDER: dict[str, Any] = {"type": "temporal_ordered", "rules": ["a", "b"], "timespan": "1h"}
ALL: dict[str, Any] = {**ORDER, "type": "temporal"}


def made(base: Mapping[str, Any], **changed: Any) -> Correlation:
    return read({"correlation": {**base, **{key.replace("_", "-"): value for key, value in changed.items()}}})


def test_every_key_is_read() -> None:
    aliases = {"who": {"a": "userIdentity.arn", "b": "requestParameters.user"}}
    found = made(
        {"type": "value_count", "rules": ["a", "b"], "timespan": "90s", "aliases": aliases, "generate": True},
        group_by=["who", "awsRegion"],
        condition={"gt": 2, "lte": 9, "field": "eventID"},
    )
    assert (found.type, found.rules, found.timespan, found.generate) == ("value_count", ("a", "b"), 90_000, True)
    assert found.bounds == (Bound("gt", 2), Bound("lte", 9))
    assert found.group_fields("a") == ("userIdentity.arn", "awsRegion")
    assert found.group_fields("b") == ("requestParameters.user", "awsRegion")
    assert found.value_fields("a") == ("eventID",)
    assert [found.counts(count) for count in (2, 3, 9, 10)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("timespan", "seconds"), [("1s", 1), ("10m", 600), ("03h", 10800), ("2d", 172800), ("1w", 604800), ("1M", 2629746)]
)
def test_a_timespan_is_a_number_and_a_unit(timespan: str, seconds: int) -> None:
    assert made(ALL, timespan=timespan).timespan == seconds * 1000


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        ("a and b", Every((Seen("a"), Seen("b")))),
        ("(a or b) and c", Every((Some((Seen("a"), Seen("b"))), Seen("c")))),
        ("a or b and c", Some((Seen("a"), Every((Seen("b"), Seen("c")))))),
        ("not a and b", Every((Never(Seen("a")), Seen("b")))),
        ("a AND not (b OR c)", Every((Seen("a"), Never(Some((Seen("b"), Seen("c"))))))),
        ("((a))", Seen("a")),
        (None, Every((Seen("a"), Seen("b")))),
    ],
)
def test_an_extended_condition_is_a_formula(condition: str | None, meant: Formula) -> None:
    rules = ["a", "b"] if condition is None else list(dict.fromkeys(named(meant)))
    assert made(ALL, rules=rules, condition=condition).formula == meant
    if condition is not None:
        assert made({**ALL, "rules": None}, condition=condition).rules == tuple(rules)
        assert made(ALL, rules=rules, condition=written(meant)).formula == meant


def test_a_count_of_rules_is_a_condition_of_temporal() -> None:
    found = made(ALL, rules=["a", "b", "c"], condition={"gte": 2})
    assert [found.present(set(rules)) for rules in ("", "a", "ab", "abc")] == [False, False, True, True]
    assert made(ORDER, condition={"gte": 2}).formula == Every((Seen("a"), Seen("b")))
    assert made(ORDER, condition={"eq": 2}).formula == made(ORDER).formula


@pytest.mark.parametrize(
    ("correlation", "rising"),
    [
        (made(COUNT, condition={"gte": 3}), True),
        (made(COUNT, condition={"gt": 0}), True),
        (made(COUNT, condition={"neq": 0}), True),
        (made(COUNT, condition={"lt": 1}), False),
        (made(COUNT, condition={"gte": 3, "lt": 9}), False),
        (made(COUNT, condition={"eq": 3}), False),
        (made(COUNT, condition={"neq": 3}), False),
        (made(ALL), True),
        (made(ALL, condition={"eq": 2}), True),
        (made(ALL, condition={"eq": 1}), False),
        (made(ALL, condition="a and not b"), False),
        (made(ORDER), True),
    ],
)
def test_a_condition_is_rising_when_more_events_cannot_unmake_it(correlation: Correlation, rising: bool) -> None:
    assert correlation.rising is rising


@pytest.mark.parametrize(
    ("given", "named_in_error", "field"),
    [
        ({**COUNT, "condition": {"gte": 1}, "group_by": ["x"]}, "'group_by'", "group_by"),
        ({**COUNT, "type": "value_sum", "condition": {"gte": 1}}, "value_sum", "type"),
        ({**COUNT, "rules": [], "condition": {"gte": 1}}, "names no rules", "rules"),
        ({**COUNT, "rules": ["a", "a"], "condition": {"gte": 1}}, "twice", "rules"),
        ({**COUNT, "rules": [7], "condition": {"gte": 1}}, "names", "rules"),
        ({**COUNT, "timespan": "5 minutes", "condition": {"gte": 1}}, "timespan", "timespan"),
        ({**COUNT, "timespan": "0m", "condition": {"gte": 1}}, "timespan", "timespan"),
        ({**COUNT, "timespan": None, "condition": {"gte": 1}}, "timespan", "timespan"),
        (COUNT, "condition of event_count", "condition"),
        ({**COUNT, "condition": "a"}, "condition of event_count", "condition"),
        ({**COUNT, "condition": {"gte": 0}}, "any count", "condition"),
        ({**COUNT, "condition": {"lt": 0}}, "no count", "condition"),
        ({**COUNT, "condition": {"gt": 5, "lt": 5}}, "no count", "condition"),
        ({**COUNT, "condition": {"gte": "many"}}, "whole number", "gte"),
        ({**COUNT, "condition": {"gte": True}}, "whole number", "gte"),
        ({**COUNT, "condition": {"atleast": 3}}, "atleast", "atleast"),
        ({**COUNT, "condition": {"gte": 3, "field": "x"}}, "no field", "condition"),
        ({**COUNT, "type": "value_count", "condition": {"gte": 3}}, "needs the field", "condition"),
        ({**COUNT, "type": "value_count", "condition": {"field": "x"}}, "compares with nothing", "condition"),
        ({**COUNT, "condition": {"gte": 1}, "generate": "yes"}, "generate", "generate"),
        ({**COUNT, "condition": {"gte": 1}, "aliases": {"who": {"b": "x"}}}, "'b'", "who"),
        ({**COUNT, "condition": {"gte": 1}, "aliases": {"who": {}}}, "no field in it", "who"),
        ({**COUNT, "condition": {"gte": 1}, "aliases": ["who"]}, "aliases", "aliases"),
        ({**ALL, "condition": "a and"}, "ends too early", "condition"),
        ({**ALL, "condition": "(a and b"}, "not closed", "condition"),
        ({**ALL, "condition": "a b"}, "goes on with 'b'", "condition"),
        ({**ALL, "condition": "a and c"}, "'c'", "condition"),
        ({**ALL, "condition": "a or a"}, "does not name the rule 'b'", "condition"),
        ({**ALL, "condition": "(" * 60 + "a" + ")" * 60}, "nested", "condition"),
        ({**ALL, "condition": {"gte": 3}}, "no count", "condition"),
        ({**ORDER, "condition": {"gte": 1}}, "which of the rules", "condition"),
        ({**ORDER, "condition": "a and not b"}, "no place in an order", "condition"),
    ],
)
def test_what_cannot_be_meant_is_an_error_with_its_key(given: Any, named_in_error: str, field: str) -> None:
    with pytest.raises(RuleError) as caught:
        read({"correlation": given})
    assert named_in_error in caught.value.message
    assert caught.value.field == field


def as_formula(node: Any) -> Formula:
    if isinstance(node, SigmaRuleReference):
        return Seen(node.reference)
    parts = tuple(map(as_formula, node.args))
    kinds: dict[type, Any] = {CorrelationConditionAND: Every, CorrelationConditionOR: Some}
    return Never(parts[0]) if isinstance(node, CorrelationConditionNOT) else kinds[type(node)](parts)


@given(correlations().filter(readable))
def test_pysigma_reads_the_same(document: dict[str, Any]) -> None:
    condition = document["correlation"].get("condition")
    if isinstance(condition, dict) and len(set(condition) - {"field"}) > 1:
        return  # a range, which pySigma 1.5.1 does not take
    found = read(document)
    theirs = SigmaCorrelationRule.from_dict(document)
    assert theirs.type is not None
    assert theirs.type.name.lower() == found.type
    assert theirs.timespan.seconds * 1000 == found.timespan
    assert tuple(theirs.group_by or ()) == found.group_by
    if isinstance(theirs.condition, SigmaCorrelationCondition):
        assert [rule.reference for rule in theirs.rules or ()] == list(found.rules)
        if found.formula is None:
            assert found.bounds == (Bound(theirs.condition.op.name.lower(), theirs.condition.count),)
    else:
        assert found.formula is not None
        for rules in (set("a"), set("ab"), set("bc"), set("abc"), set()):
            assert holds(as_formula(theirs.condition.parsed), rules) is holds(found.formula, rules)


# -- in a pack ----------------------------------------------------------------------------------------------------

BASE = """\
title: Base
id: {id}
{name}logsource: {{product: aws, service: cloudtrail}}
detection: {{selection: {{eventName: A}}, condition: selection}}
level: low
"""
CORRELATION = """\
title: Correlation
id: 0a6f7c5e-1111-4222-8333-444455556666
correlation:
    type: event_count
    rules:
        - {rule}
    group-by: [awsRegion]
    timespan: 1h
    condition: {{gte: 2}}
level: high
"""
ID = "0a6f7c5e-1111-4222-8333-4444555566{:02d}"


def pack(folder: Path, rule: str, *names: str) -> Pack:
    for number, name in enumerate(names):
        line = f"name: {name}\n" if name else ""
        (folder / f"base_{number}.yml").write_text(BASE.format(id=ID.format(number), name=line))
    (folder / "correlation.yml").write_text(CORRELATION.format(rule=rule))
    return load_rules([folder])


@pytest.mark.parametrize("rule", ["base", ID.format(0), ID.format(0).upper()])
def test_a_rule_is_named_by_its_name_or_its_id(tmp_path: Path, rule: str) -> None:
    found = pack(tmp_path, rule, "base", "")
    assert found.errors == []
    [correlation] = [one for one in found.rules if one.kind == "correlation"]
    assert {name: base.stem for name, base in correlation.references.items()} == {rule: "base_0"}
    assert len(correlation.collection().rules) == 2


@pytest.mark.parametrize(
    ("rule", "names", "problem"),
    [
        ("missing", ["base"], "'missing', which is not among the rules"),
        ("base_0", [""], "'base_0', which is not among the rules"),
        ("base", ["base", "base"], "base_0.yml and"),
        ("0a6f7c5e-1111-4222-8333-444455556666", ["base"], "a correlation: only rules"),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error_in_its_line(
    tmp_path: Path, rule: str, names: list[str], problem: str
) -> None:
    found = pack(tmp_path, rule, *names)
    assert [one.kind for one in found.rules] == ["rule"] * len(names)
    [error] = found.errors
    assert problem in error.message
    assert (error.path, error.line) == (str(tmp_path / "correlation.yml"), 6)


def test_a_wrong_key_is_an_error_in_its_line(tmp_path: Path) -> None:
    text = CORRELATION.format(rule="base").replace("timespan: 1h", "timespam: 1h")
    (tmp_path / "correlation.yml").write_text(text)
    [error] = load_rules([tmp_path]).errors
    assert "did you mean 'timespan'" in str(error)
    assert error.line == 8


def test_rules_that_are_changed_are_changed_for_their_correlations_too(tmp_path: Path) -> None:
    found = pack(tmp_path, "base", "base")
    changed = rewired(
        found.rules, lambda rules: [replace(rule, document={**rule.document, "level": "medium"}) for rule in rules]
    )
    [correlation] = [one for one in changed if one.kind == "correlation"]
    assert correlation.references["base"].level == "medium"
    alone = rewired([correlation], lambda rules: [replace(rule, site="here") for rule in rules])
    assert len(alone) == 1
    assert alone[0].references["base"].site == "here"


def test_stock_pysigma_reads_the_packs_correlations_with_their_rules() -> None:
    found = load_rules([packaged("rules")])
    paths: list[str | Path] = [rule.path for rule in found.rules]
    rules = SigmaCollection.load_ruleset(paths).rules
    theirs = [rule for rule in rules if isinstance(rule, SigmaCorrelationRule)]
    assert len(theirs) == sum(rule.kind == "correlation" for rule in found.rules) >= 11
    assert all(rule.generate for rule in theirs), "without it stock tools drop the rules that a correlation names"
    names = {str(rule.document.get("name")): rule for rule in found.rules if "name" in rule.document}
    assert all(rule.stem == name for name, rule in names.items()), "a name is the file's stem"


def test_the_generated_rules_are_rules() -> None:
    assert SigmaCollection.from_dicts(list(RULES.values())).rules
