"""Filters as exception lists: when they say the same, and what becomes of them in a space."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from keytrail.cases import load_cases, load_events
from keytrail.data import packaged
from keytrail.deploy import Deployment
from keytrail.engine import compile_query
from keytrail.errors import KeytrailError, Refused
from keytrail.filters import Filter, read_filter, today
from keytrail.kibana.exceptions import excepted, split
from keytrail.kibana.lists import Excepted, bodies
from keytrail.kibana.plan import Choices, Wanted
from keytrail.pack import Rule, load_rules
from keytrail.schemas import SCHEMAS, get_schema
from keytrail.steps import CONFLICT, CREATE, DELETE, SAME, UPDATE

from tests.test_kibana_plan import EXCEPTION, TAG, Space, body, space

__all__ = ["space"]  # the fixture

EVENTS = load_events(packaged("fixtures") / "events")
RECORDS = [*EVENTS.values()]
RECORDS += [case.record for case in load_cases(packaged("fixtures") / "cases", EVENTS)]
RULES = load_rules([packaged("rules")]).rules


@functools.cache
def documents(schema: str) -> list[dict[str, Any]]:
    return list(map(SCHEMAS[schema].document, RECORDS))


ACCOUNT = {"recipientAccountId": "111122223333"}


def made(
    selection: Any = None, condition: str = "not own", rules: Any = "any", reason: str = "it is ours", **more: Any
) -> Filter:
    document = {
        "title": "Our own account",
        "id": "7e0c1a52-6f0e-4c77-9d0e-2f2d8f2b7a11",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "filter": {"rules": rules, "own": selection or ACCOUNT, **more, "condition": condition},
        "keytrail": {"owner": "soc", "reason": reason, "expires": today() + timedelta(days=30)},
    }
    return read_filter(Rule(Path("own_account.yml"), document, ""))


def as_query(items: Any) -> dict[str, Any]:
    """What Kibana makes of exceptions (on keyword fields, where a phrase is a term)."""
    kinds = {"match": "term", "wildcard": "wildcard"}

    def one(entry: Mapping[str, Any]) -> dict[str, Any]:
        if entry["type"] == "match_any":
            return {"terms": {entry["field"]: entry["value"]}}
        return {kinds[entry["type"]]: {entry["field"]: {"value": entry["value"]}}}

    return {"bool": {"should": [{"bool": {"filter": list(map(one, entries))}} for entries in items]}}


SAYS: Mapping[str, Filter] = {
    "a number": made(),
    "two fields": made({"recipientAccountId": "111122223333", "eventName|cased": "GenerateDataKey"}),
    "several values": made({"eventName|cased": ["Decrypt", "GenerateDataKey", "GetObject"]}),
    "a beginning": made({"eventName|startswith|cased": "Get"}),
    "an end": made({"eventSource|endswith|cased": ".amazonaws.com", "recipientAccountId": "111122223333"}),
    "alternatives": made([{"eventName|cased": "Decrypt"}, {"eventName|cased": "GetObject"}]),
    "several selections": made(
        {"eventName|cased": "Decrypt"}, "not 1 of own*", own_two={"eventName|contains|cased": "Bucket"}
    ),
    "either": made({"eventName|cased": "Decrypt"}, "not (own or two)", two={"eventName|cased": "GetObject"}),
}


@pytest.mark.parametrize("schema", ["keytrail", "ecs", "raw"])
@pytest.mark.parametrize("name", SAYS)
def test_exceptions_take_out_just_what_the_filter_takes_out(name: str, schema: str) -> None:
    one, index = SAYS[name], SCHEMAS[schema]
    try:
        found = excepted(one, index)
    except Refused as error:
        assert schema == "raw", error  # whose fields are texts
        return
    takes = compile_query(as_query(found.items), index.mapping)
    pairs = zip(RECORDS, documents(schema), strict=True)
    assert not [record for record, document in pairs if takes(document) is not one.excludes(record)]
    assert any(one.excludes(record) for record in RECORDS)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (made({"eventName": "Decrypt"}), "case of letters"),
        (made({"eventName|re": "Dec.*"}), "cannot say"),
        (made({"eventName|cased": "Dec*"}), "wildcards of its own"),
        (made({"eventName|startswith|cased": ["Get", "List"]}), "one wildcard"),
        (made({"requestParameters.keyId|cased": "x"}), "flattened"),
        (made(condition="not (own and two)", two={"eventName|cased": "Decrypt"}), "the condition"),
        (made({"errorCode|exists": True}), "cannot say"),
    ],
)
def test_what_exceptions_cannot_say_stays_in_the_query(one: Filter, why: str) -> None:
    with pytest.raises(KeytrailError, match=why):
        excepted(one, get_schema("ecs"))


def test_a_filter_for_one_rule_of_a_correlation_stays_in_the_query() -> None:
    correlation = next(rule for rule in RULES if len(rule.references) > 1)
    base = next(iter(correlation.references.values()))
    found = split([made(rules=[base.id])], RULES, get_schema("ecs"))
    assert "correlates" in found.reasons["own_account"]
    alone = split([made(rules=[base.id])], [base], get_schema("ecs"))
    assert list(alone.by_rule) == [base.id]
    assert not split([replace(made(), expires=today() - timedelta(days=1))], RULES, get_schema("ecs")).taken


# In a space


class Lists:
    """A space, a pack of two rules, and the filters of the first."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.kibana = space.kibana

    def deploy(self, *filters: Filter, drift: str | None = None) -> Deployment:
        excepted_by = {"rule-1": [excepted(one, get_schema("ecs")) for one in filters]}
        found = Deployment({})
        wanted = Wanted(TAG, [body(1), body(2)])
        found.add_rules(self.space.client, wanted, Choices(drift), excepted_by)
        return found

    def apply(self, *filters: Filter, drift: str | None = None) -> None:
        outcome = self.deploy(*filters, drift=drift).apply()
        assert outcome.ok, outcome.stopped

    def settled(self, *filters: Filter) -> bool:
        before = len(self.kibana.log)
        self.apply(*filters)
        return not self.deploy(*filters).plan.writes and len(self.kibana.log) == before

    @property
    def items(self) -> dict[str, Any]:
        return self.kibana.spaces["default"].items

    def linked(self, rule_id: str = "rule-1") -> list[str]:
        return [one["list_id"] for one in self.kibana.rule(rule_id)["exceptions_list"]]


@pytest.fixture
def listed(space: Space) -> Lists:
    return Lists(space)


def actions(found: Deployment) -> list[tuple[str, str]]:
    return [(step.kind, step.action) for step in found.steps if step.action != SAME]


def test_a_filter_becomes_a_list_with_an_end_that_its_rules_have(listed: Lists) -> None:
    one = made()
    assert actions(listed.deploy(one)) == [
        ("exception list", CREATE),
        ("exception", CREATE),
        ("rule", CREATE),
        ("rule", CREATE),
    ]
    listed.apply(one)
    (item,) = listed.items.values()
    assert item["expire_time"] == f"{one.expires + timedelta(days=1)}T00:00:00.000Z"
    assert item["item_id"] == bodies(excepted(one, get_schema("ecs")), TAG)[1][0]["item_id"]
    assert len(listed.linked("rule-1")) == 1
    assert listed.linked("rule-2") == []
    assert listed.settled(one)


def test_the_lists_of_analysts_stay_linked(listed: Lists) -> None:
    listed.apply()
    listed.kibana.edit("rule-1", exceptions_list=[EXCEPTION])
    listed.apply(made())
    assert listed.linked()[0] == "theirs"
    assert len(listed.linked()) == 2
    listed.apply()
    assert listed.linked() == ["theirs"]
    assert listed.settled()


def test_a_new_day_updates_the_item_and_keeps_comments_and_tags(listed: Lists) -> None:
    listed.apply(made())
    (item,) = listed.items.values()
    item["comments"] = [{"id": "c1", "comment": "reviewed", "created_by": "analyst"}]
    item["tags"].append("theirs")
    later = replace(made(), expires=today() + timedelta(days=90))
    assert actions(listed.deploy(later)) == [("exception", UPDATE)]
    listed.apply(later)
    (item,) = listed.items.values()
    assert [one["comment"] for one in item["comments"]] == ["reviewed"]
    assert "theirs" in item["tags"]
    assert listed.settled(later)


def test_what_is_taken_out_no_longer_is_deleted_and_what_analysts_added_is_not(listed: Lists) -> None:
    listed.apply(made())
    (item,) = listed.items.values()
    listed.items["theirs"] = {**item, "item_id": "theirs", "id": "theirs", "tags": []}
    other = made({"recipientAccountId": "444455556666"})
    assert ("exception", DELETE) in actions(listed.deploy(other))
    listed.apply(other)
    assert "theirs" in listed.items
    assert len(listed.items) == 2
    listed.apply()
    assert list(listed.items) == ["theirs"]
    assert len(listed.kibana.spaces["default"].lists) == 1
    del listed.items["theirs"]
    listed.apply()
    assert not listed.kibana.spaces["default"].lists


def test_an_exception_changed_by_hand_is_shown_and_kept_or_overwritten(listed: Lists) -> None:
    listed.apply(made())
    (item,) = listed.items.values()
    item["expire_time"] = "2030-01-01T00:00:00.000Z"
    (step,) = [one for one in listed.deploy(made()).steps if one.kind == "exception"]
    assert (step.action, len(step.drift)) == (SAME, 1)
    changed = made(reason="another one")
    (step,) = [one for one in listed.deploy(changed).steps if one.kind == "exception"]
    assert step.action == CONFLICT
    listed.apply(made(), drift="overwrite")
    assert next(iter(listed.items.values()))["expire_time"] != "2030-01-01T00:00:00.000Z"


def test_a_race_on_an_item_is_refused_by_its_version(listed: Lists) -> None:
    listed.apply(made())
    later = replace(made(), expires=today() + timedelta(days=90))
    found = listed.deploy(later)
    next(iter(listed.items.values()))["_version"] = "other"
    assert "changed by somebody else" in found.apply().stopped


@pytest.mark.parametrize("kind", ["cut after", "error before", "html after"])
@pytest.mark.parametrize("path", ["exception_lists", "items"])
def test_a_missing_answer_makes_no_second_item(listed: Lists, kind: str, path: str) -> None:
    listed.kibana.fail(kind, "POST", path)
    listed.apply(made())
    assert len(listed.items) == 1
    assert listed.settled(made())


def test_ids_depend_on_the_filter_alone() -> None:
    one = Excepted(made(), excepted(made(), get_schema("ecs")).items)
    assert bodies(one, TAG) == bodies(one, TAG)
    other = bodies(excepted(replace(made(), expires=today()), get_schema("ecs")), TAG)
    assert other[1][0]["item_id"] == bodies(one, TAG)[1][0]["item_id"]
