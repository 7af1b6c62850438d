"""Plan and apply on a Kibana: what is written, what is left alone, and what happens when things go wrong."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from keytrail.errors import Stopped, UsageError
from keytrail.kibana import client, transport
from keytrail.kibana.apply import Writer
from keytrail.kibana.plan import Choices, Planned, Wanted, plan_rules
from keytrail.kibana.state import normal, seal_of, sealed
from keytrail.steps import CONFLICT, CREATE, DELETE, REPLACE, SAME, UPDATE, Outcome, Plan, PlanError, carry_out, hold_to

from tests.kibana_server import Kibana, running

TAG = "Keytrail"
QUERY = {
    "bool": {
        "filter": [{"term": {"event.provider": {"value": "kms.amazonaws.com"}}}],
        "must_not": [{"exists": {"field": "aws.cloudtrail.error_code"}}],
    }
}
EXCEPTION = {"id": "e1", "list_id": "theirs", "type": "rule_default", "namespace_type": "single"}
ACTION = {
    "id": "c1",
    "action_type_id": ".email",
    "group": "default",
    "params": {"to": ["soc@example.com"]},
    "frequency": {"summary": False, "notifyWhen": "onActiveAlert", "throttle": None},
}


def body(number: int = 1, **more: Any) -> dict[str, Any]:
    made = {
        "type": "query",
        "rule_id": f"rule-{number}",
        "name": f"Rule {number}",
        "description": "What it sees",
        "risk_score": 47,
        "severity": "medium",
        "enabled": True,
        "interval": "5m",
        "from": "now-10m",
        "query": "",
        "language": "kuery",
        "index": ["logs-aws.cloudtrail-*"],
        "filters": [{"meta": {"alias": "the event", "type": "custom", "key": "query"}, "query": copy.deepcopy(QUERY)}],
        "tags": [TAG, "attack.impact"],
        "required_fields": [{"name": "event.action", "type": "keyword"}],
        "version": 1,
    }
    return {**made, **more}


class Space:
    """A Kibana and the pack that it is brought to."""

    def __init__(self, kibana: Kibana, waits: list[float]) -> None:
        self.kibana = kibana
        self.waits = waits
        self.stop = threading.Event()
        self.client = client.connect(kibana.url, timeout=0.3, stop=self.stop)

    def plan(self, *bodies: dict[str, Any], **more: Any) -> Planned:
        choices = Choices(more.pop("drift", None), more.pop("adopt", False), more.pop("deletes", None))
        return plan_rules(self.client, Wanted(TAG, bodies, **more), choices)

    def apply(self, *bodies: dict[str, Any], **more: Any) -> Outcome:
        return self.carry_out(self.plan(*bodies, **more))

    def carry_out(self, planned: Planned) -> Outcome:
        assert not planned.problems
        steps = [step for step in planned.steps if step.action not in (SAME, CONFLICT)]
        return carry_out(steps, Writer(self.client, TAG).take, stop=self.stop)

    def settled(self, *bodies: dict[str, Any], **more: Any) -> bool:
        """Whether nothing is left to do, and doing it writes nothing."""
        before = len(self.kibana.log)
        planned = self.plan(*bodies, **more)
        self.carry_out(planned)
        return {step.action for step in planned.steps} <= {SAME} and len(self.kibana.log) == before

    @property
    def writes(self) -> list[str]:
        return [method for method, _ in self.kibana.log]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Iterator[Space]:
    waits: list[float] = []
    for name in ("KIBANA_API_KEY", "KIBANA_USERNAME", "KIBANA_PASSWORD", "KIBANA_CA_CERTS"):
        monkeypatch.delenv(name, raising=False)

    def wait(self: transport.Transport, seconds: float, why: object = None) -> None:
        waits.append(seconds)
        if self.stop.is_set():
            raise Stopped("stopped")

    monkeypatch.setattr(transport.Transport, "wait", wait)
    with running() as kibana:
        made = Space(kibana, waits)
        yield made
        made.client.close()
        assert kibana.dropped == set(), "a field was sent that Kibana does not know"


def actions(planned: Planned) -> list[str]:
    return [step.action for step in planned.steps]


def lines(planned: Planned) -> list[str]:
    return [line for step in planned.steps for change in step.changes for line in change.lines]


# The plan


def test_what_is_not_there_is_created_and_a_second_apply_writes_nothing(space: Space) -> None:
    assert actions(space.plan(body(1), body(2))) == [CREATE, CREATE]
    assert space.apply(body(1), body(2)).ok
    assert space.kibana.rule("rule-1")["enabled"]
    assert space.settled(body(1), body(2))


def test_building_blocks_come_first_and_deletes_last(space: Space) -> None:
    space.apply(body(1))
    planned = space.plan(body(2), body(3, building_block_type="default"))
    assert [(step.action, step.key) for step in planned.steps] == [
        (CREATE, "rule-3"),
        (CREATE, "rule-2"),
        (DELETE, "rule-1"),
    ]


def test_a_change_of_the_pack_is_an_update_that_names_the_field(space: Space) -> None:
    space.apply(body(1))
    planned = space.plan(body(1, severity="high", risk_score=73))
    assert actions(planned) == [UPDATE]
    assert lines(planned) == ["~ risk_score: 47 -> 73", "~ severity: medium -> high"]
    assert space.carry_out(planned).ok
    assert space.kibana.rule("rule-1")["severity"] == "high"
    assert space.settled(body(1, severity="high", risk_score=73))


def test_the_diff_of_a_query_names_the_clause_that_came_and_the_one_that_went(space: Space) -> None:
    space.apply(body(1))
    changed = body(1)
    query = changed["filters"][0]["query"]["bool"]
    query["filter"].insert(0, {"term": {"event.action": {"value": "DisableKey"}}})
    query["must_not"] = [{"exists": {"field": "error.code"}}]
    assert lines(space.plan(changed)) == [
        "~ filter 'the event'",
        '    + filter > {"term": {"event.action": {"value": "DisableKey"}}}',
        '    - must_not > {"exists": {"field": "aws.cloudtrail.error_code"}}',
        '    + must_not > {"exists": {"field": "error.code"}}',
    ]


@pytest.mark.parametrize(
    "edit",
    [
        {"from": "now-600s", "interval": "300s"},
        {"filters": [{"$state": {"store": "appState"}, "query": QUERY, "meta": {"alias": "the event", "index": "i"}}]},
        {"meta": {"from": "5m", "kibana_siem_app_url": "https://k"}},
        {"tags": ["attack.impact", TAG]},
        {"note": "", "license": "", "max_signals": 100},
        {"description": "What it sees  \r\n"},
        {"enabled": False},
    ],
)
def test_what_the_rule_editor_writes_otherwise_is_no_change(space: Space, edit: dict[str, Any]) -> None:
    space.apply(body(1))
    if "tags" in edit:
        edit = {"tags": [*edit["tags"], seal_of(space.kibana.rule("rule-1"))]}
    space.kibana.edit("rule-1", **edit)
    assert space.settled(body(1))


def test_only_what_we_wrote_and_the_pack_has_no_more_is_deleted(space: Space) -> None:
    space.apply(body(1), body(2))
    space.kibana.put_by_hand(**body(7))  # our tag, never written by us
    space.kibana.put_by_hand(**body(8, tags=["mine"]))
    copied = {**space.kibana.rule("rule-1"), "rule_id": "copy", "name": "Rule 1 [Duplicate]"}
    space.kibana.put_by_hand(**copied)
    planned = space.plan(body(2))
    assert [(step.action, step.key) for step in planned.steps] == [(SAME, "rule-2"), (DELETE, "rule-1")]
    assert "Rule 1 [Duplicate], Rule 7" in planned.notes[0]
    space.carry_out(planned)
    assert sorted(rule["rule_id"] for rule in space.kibana.rules.values()) == ["copy", "rule-2", "rule-7", "rule-8"]


def test_a_part_of_the_pack_deletes_nothing(space: Space) -> None:
    space.apply(body(1), body(2))
    assert actions(space.plan(body(2), whole=False)) == [SAME]


def test_a_rule_that_the_pack_has_but_cannot_say_here_is_not_deleted(space: Space) -> None:
    space.apply(body(1), body(2))
    assert actions(space.plan(body(2), known=frozenset({"rule-1"}))) == [SAME]


def test_prebuilt_rules_are_never_touched_even_with_our_id_and_tag(space: Space) -> None:
    space.kibana.put_by_hand(**sealed(body(1)), immutable=True)
    planned = space.plan(body(1, severity="high"), adopt=True)
    assert actions(planned) == [CONFLICT]
    assert "prebuilt" in planned.steps[0].why
    assert actions(space.plan()) == []


def test_a_rule_with_our_id_and_without_our_tag_is_a_conflict_until_it_is_adopted(space: Space) -> None:
    space.kibana.put_by_hand(**body(1, tags=["mine"], severity="low", actions=[ACTION]))
    planned = space.plan(body(1))
    assert actions(planned) == [CONFLICT]
    assert "--adopt" in planned.steps[0].why
    assert space.apply(body(1), adopt=True).ok
    assert space.kibana.rule("rule-1")["severity"] == "medium"
    assert len(space.kibana.rule("rule-1")["actions"]) == 1
    assert space.settled(body(1))


def test_an_imported_rule_is_taken_over_when_it_says_the_same(space: Space) -> None:
    space.kibana.put_by_hand(**body(1))
    space.kibana.put_by_hand(**body(2, severity="low"))
    assert actions(space.plan(body(1), body(2))) == [UPDATE, CONFLICT]
    assert space.apply(body(1), body(2), adopt=True).ok
    assert space.settled(body(1), body(2))


def test_two_rules_of_one_id_are_reported_and_neither_is_touched(space: Space) -> None:
    space.apply(body(1))
    space.kibana.put_by_hand(**space.kibana.rule("rule-1"))
    planned = space.plan(body(1, severity="high"))
    assert actions(planned) == [CONFLICT]
    assert "2 rules have the rule_id rule-1" in planned.steps[0].why
    assert actions(space.plan()) == [CONFLICT]


def test_more_deletes_than_the_limit_are_a_problem(space: Space) -> None:
    bodies = [body(number) for number in range(1, 11)]
    space.apply(*bodies)
    assert not space.plan(*bodies[2:]).problems
    (problem,) = space.plan(*bodies[3:]).problems
    assert "--limit-deletes 3" in problem
    assert not space.plan(*bodies[3:], deletes=3).problems


def test_pages_stay_within_what_kibana_gives_and_all_rules_are_found(space: Space) -> None:
    bodies = [body(number) for number in range(230)]
    for one in bodies:
        space.kibana.put_by_hand(**sealed(one))
    assert set(actions(space.plan(*bodies))) == {SAME}
    assert all(page * size <= 10_000 for page, size in space.kibana.pages)


def test_rules_live_in_their_space(space: Space) -> None:
    other = client.connect(space.kibana.url, "soc")
    space.apply(body(1))
    assert actions(plan_rules(other, Wanted(TAG, [body(1)]), Choices())) == [CREATE]
    other.close()


# Drift


def test_drift_is_shown_and_kept(space: Space) -> None:
    space.apply(body(1))
    space.kibana.edit("rule-1", severity="low")
    planned = space.plan(body(1))
    assert actions(planned) == [SAME]
    assert [line for one in planned.steps[0].drift for line in one.lines] == ["~ severity: medium -> low"]
    space.carry_out(planned)
    assert space.kibana.rule("rule-1")["severity"] == "low"


def test_drift_is_overwritten_when_that_is_chosen(space: Space) -> None:
    space.apply(body(1))
    space.kibana.edit("rule-1", severity="low", note="look here first")
    assert space.apply(body(1), drift="overwrite").ok
    assert space.kibana.rule("rule-1")["severity"] == "medium"
    assert "note" not in space.kibana.rule("rule-1")
    assert space.settled(body(1))


def test_a_new_version_of_the_pack_leaves_other_fields_changed_by_hand(space: Space) -> None:
    space.apply(body(1))
    seal = seal_of(space.kibana.rule("rule-1"))
    space.kibana.edit("rule-1", severity="low", tags=[TAG, "attack.impact", "ours", seal])
    new = body(1, description="What it sees, better", tags=[TAG, "attack.impact", "attack.t1486"])
    assert space.apply(new).ok
    rule = space.kibana.rule("rule-1")
    assert (rule["severity"], rule["description"]) == ("low", "What it sees, better")
    assert {"ours", "attack.t1486"} <= set(rule["tags"])
    assert space.settled(new)


def test_a_field_changed_by_hand_and_by_the_pack_is_a_conflict_until_somebody_decides(space: Space) -> None:
    space.apply(body(1))
    space.kibana.edit("rule-1", severity="low")
    new = body(1, severity="high")
    planned = space.plan(new)
    assert actions(planned) == [CONFLICT]
    assert "severity" in planned.steps[0].why
    assert space.apply(new, drift="keep").ok
    assert space.kibana.rule("rule-1")["severity"] == "low"
    assert space.settled(new)


# The analysts' work


def theirs(space: Space) -> tuple[Any, ...]:
    rule = space.kibana.rule("rule-1")
    found = [rule.get(name) for name in ("exceptions_list", "actions", "response_actions", "timeline_id", "enabled")]
    return tuple(found)


def with_work(space: Space) -> tuple[Any, ...]:
    space.apply(body(1))
    space.kibana.edit(
        "rule-1",
        exceptions_list=[EXCEPTION],
        actions=[{**ACTION, "uuid": "u1"}],
        response_actions=[{"action_type_id": ".osquery", "params": {"query": "select 1"}}],
        timeline_id="t1",
        timeline_title="Timeline",
        enabled=False,
        meta={"kibana_siem_app_url": "https://k"},
    )
    return theirs(space)


def test_an_update_keeps_exceptions_actions_timeline_and_whether_it_is_enabled(space: Space) -> None:
    before = with_work(space)
    assert space.apply(body(1, severity="high")).ok
    assert theirs(space) == before
    assert space.kibana.rule("rule-1")["meta"]


def test_an_optional_field_that_the_pack_drops_is_gone(space: Space) -> None:
    space.apply(body(1, note="triage"))
    assert space.apply(body(1)).ok
    assert "note" not in space.kibana.rule("rule-1")


def retyped(**more: Any) -> dict[str, Any]:
    made = body(1, type="esql", query="FROM logs METADATA _id, _index, _version", language="esql", **more)
    return {name: value for name, value in made.items() if name not in ("index", "filters")}


def test_a_change_of_type_carries_over_what_is_the_analysts(space: Space) -> None:
    before = with_work(space)
    planned = space.plan(retyped())
    assert actions(planned) == [REPLACE]
    assert space.carry_out(planned).ok
    assert theirs(space) == before
    assert [rule["type"] for rule in space.kibana.rules.values()] == ["esql"]
    assert space.settled(retyped())


@pytest.mark.parametrize("nth", range(1, 5))
@pytest.mark.parametrize("kind", ["error before", "error after"])
def test_a_change_of_type_that_is_cut_off_anywhere_is_finished_by_the_next_apply(
    space: Space, nth: int, kind: str
) -> None:
    with_work(space)
    space.kibana.edit("rule-1", severity="low")
    before = theirs(space)
    planned = space.plan(retyped())
    done = 0
    write = space.client.write

    def cut_off(*arguments: Any, **more: Any) -> Any:
        nonlocal done
        done += 1
        if done > nth or (done == nth and kind == "error before"):
            raise KeyboardInterrupt
        answer = write(*arguments, **more)
        if done == nth:
            raise KeyboardInterrupt
        return answer

    space.client.write = cut_off  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        space.carry_out(planned)
    space.client.write = write  # type: ignore[method-assign]
    there = {rule["rule_id"] for rule in space.kibana.rules.values()}
    apart = space.plan(body(2), whole=False)  # which is not to take away what the first rule needs
    assert all(step.action == CREATE or step.key in there for step in apart.steps)
    assert space.apply(retyped()).ok
    assert theirs(space) == before
    assert space.kibana.rule("rule-1")["severity"] == "low"
    assert [rule["type"] for rule in space.kibana.rules.values()] == ["esql"]
    assert space.settled(retyped())


# Faults

UNCERTAIN = ["timeout before", "timeout after", "cut before", "cut after", "error before", "error after", "html after"]


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_a_create_without_an_answer_happens_once(space: Space, kind: str) -> None:
    space.kibana.fail(kind, "POST")
    assert space.apply(body(1)).ok
    assert space.writes == ["POST"]
    assert space.settled(body(1))


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_an_update_without_an_answer_happens_once(space: Space, kind: str) -> None:
    before = with_work(space)
    space.kibana.fail(kind, "PUT")
    assert space.apply(body(1, severity="high")).ok
    assert space.writes == ["POST", "PUT"]
    assert theirs(space) == before


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_a_delete_without_an_answer_happens_once(space: Space, kind: str) -> None:
    space.apply(body(1), body(2))
    space.kibana.fail(kind, "DELETE")
    assert space.apply(body(2)).ok
    assert [rule["rule_id"] for rule in space.kibana.rules.values()] == ["rule-2"]
    assert space.writes.count("DELETE") == 1


def test_throttling_is_waited_for_as_long_as_kibana_says(space: Space) -> None:
    space.kibana.fail("throttled", "POST", after="7")
    assert space.apply(body(1)).ok
    assert space.waits == [7.0]
    assert space.writes == ["POST"]


def test_a_retry_after_may_be_a_day_and_an_hour_and_one_that_is_neither_is_not_followed(space: Space) -> None:
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    for after in (soon, "soon"):
        space.kibana.fail("throttled", "POST", after=after)
    assert space.apply(body(1)).ok
    assert 10 < space.waits[0] <= 20
    assert space.waits[1] < 5


def test_throttling_for_too_long_stops_with_what_was_done(space: Space) -> None:
    space.kibana.fail("edit", "POST")  # the first passes
    space.kibana.fail("throttled", "POST", after="3600")
    outcome = space.apply(body(1), body(2), body(3))
    assert [step.key for step in outcome.done] == ["rule-1"]
    assert [step.key for step in outcome.left] == ["rule-2", "rule-3"]
    assert "3600 seconds" in outcome.stopped


def test_a_kibana_that_fails_for_good_stops_after_a_bounded_number_of_tries(space: Space) -> None:
    for _ in range(40):
        space.kibana.fail("error before", "POST")
    outcome = space.apply(body(1), body(2))
    assert not outcome.done
    assert "an error occurred" in outcome.stopped
    assert space.kibana.requests < 40


def test_a_kibana_that_goes_away_leaves_it_open_whether_the_last_write_was_carried_out(space: Space) -> None:
    planned = space.plan(body(1))
    space.kibana.fail("cut after", "POST")
    for _ in range(transport.TRIES):
        space.kibana.fail("error before", "GET")
    outcome = space.carry_out(planned)
    assert "is not known" in outcome.stopped
    assert [step.key for step in outcome.left] == ["rule-1"]
    space.kibana.faults.clear()
    assert space.settled(body(1))


def test_reading_is_tried_again(space: Space) -> None:
    for kind in ("error before", "throttled", "cut before", "timeout before"):
        space.kibana.fail(kind, "GET")
    assert actions(space.plan(body(1))) == [CREATE]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda kibana: kibana.edit("rule-1", severity="low"), "changed by analyst"),
        (lambda kibana: kibana.edit("rule-1", exceptions_list=[EXCEPTION]), "changed by analyst"),
        (lambda kibana: kibana.rules.clear(), "deleted by somebody else"),
    ],
)
def test_an_edit_between_plan_and_apply_stops_it_and_is_not_lost(
    space: Space, edit: Callable[[Kibana], None], said: str
) -> None:
    space.apply(body(1))
    planned = space.plan(body(1, severity="high"))
    edit(space.kibana)
    before = copy.deepcopy(space.kibana.rules)
    outcome = space.carry_out(planned)
    assert said in outcome.stopped
    assert space.kibana.rules == before


def test_a_rule_made_by_somebody_else_between_plan_and_apply_is_not_doubled(space: Space) -> None:
    planned = space.plan(body(1))
    space.kibana.put_by_hand(**body(1, tags=["mine"]))
    assert "made by somebody else" in space.carry_out(planned).stopped
    assert len(space.kibana.rules) == 1


def test_an_edit_in_the_very_moment_of_a_write_is_noticed(space: Space) -> None:
    space.apply(body(1))
    space.kibana.fail("edit", "PUT", act=lambda kibana: kibana.edit("rule-1", note="mine"))
    outcome = space.apply(body(1, severity="high"))
    assert "look whether an edit is lost" in outcome.remarks[0]


def test_a_second_rule_that_a_late_request_of_ours_makes_is_taken_away(space: Space) -> None:
    # The request that had timed out is carried out after all, beside the one that repeats it.
    space.kibana.fail("timeout before", "POST")
    space.kibana.fail("late", "POST", act=lambda kibana: kibana.put_by_hand(**sealed(body(1))))
    assert space.apply(body(1)).ok
    assert space.writes == ["POST", "DELETE"]
    assert len(space.kibana.rules) == 1


def test_stopping_finishes_the_write_under_way_and_says_what_is_left(space: Space) -> None:
    space.kibana.fail("edit", "POST", act=lambda kibana: space.stop.set())
    outcome = space.apply(body(1), body(2))
    assert outcome.interrupted
    assert [step.key for step in outcome.done] == ["rule-1"]
    assert [step.key for step in outcome.left] == ["rule-2"]
    space.stop.clear()
    assert space.apply(body(1), body(2)).ok
    assert space.settled(body(1), body(2))


def test_a_field_that_kibana_drops_silently_is_told(space: Space) -> None:
    space.kibana.drops = {"alert_suppression"}
    outcome = space.apply(body(1, alert_suppression={"group_by": ["user.name"]}))
    assert outcome.remarks == ["Rule 1: Kibana keeps alert_suppression otherwise than it was sent"]
    assert space.kibana.dropped == {"alert_suppression"}
    space.kibana.dropped.clear()


def test_a_redirect_is_not_followed(space: Space) -> None:
    space.kibana.fail("redirect", "GET")
    with pytest.raises(transport.KibanaError, match=r"elsewhere\.invalid"):
        space.plan(body(1))


def test_a_login_page_is_not_taken_for_an_answer(space: Space) -> None:
    for _ in range(transport.TRIES):
        space.kibana.fail("html before", "GET")
    with pytest.raises(transport.KibanaError, match="no JSON"):
        space.plan(body(1))


@pytest.mark.parametrize(("status", "hint"), [(401, "KIBANA_API_KEY"), (403, "privilege")])
def test_a_key_that_may_not_is_told_what_it_needs(space: Space, status: int, hint: str) -> None:
    if status == 401:
        space.kibana.key = "ApiKey other"
    space.kibana.forbidden = {"GET"}
    with pytest.raises(transport.KibanaError) as caught:
        space.plan(body(1))
    assert hint in str(caught.value)


def test_the_key_comes_from_the_environment_or_a_file_and_is_never_shown(
    space: Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    space.kibana.key = "ApiKey aWQ6c2VjcmV0"
    monkeypatch.setenv("KIBANA_API_KEY", "id:secret")
    found = client.connect(space.kibana.url)
    assert found.copies("x") == []
    found.close()
    monkeypatch.delenv("KIBANA_API_KEY")
    (tmp_path / "key").write_text("aWQ6c2VjcmV0\n")
    found = client.connect(space.kibana.url, key_file=tmp_path / "key")
    assert found.copies("x") == []
    found.close()
    (tmp_path / "key").write_text("sec ret")
    with pytest.raises(UsageError) as caught:
        client.connect(space.kibana.url, key_file=tmp_path / "key")
    assert "sec ret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["kibana:5601", "ftp://kibana", "https://user:secret@kibana", "https://kibana?x=1", "https://kibana/s/soc"]
)
def test_a_url_that_is_none_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        client.connect(url)
    assert "secret" not in str(caught.value)


# The plan file


def whole(planned: Planned) -> Plan:
    return Plan({"kibana": "k"}, planned.steps, {}, planned.problems)


def test_apply_holds_to_a_plan_file(space: Space) -> None:
    space.apply(body(1), body(2), body(3))
    promised = whole(space.plan(body(1, severity="high"), body(2), body(4))).as_dict()
    hold_to(whole(space.plan(body(1, severity="high"), body(2), body(4))), promised)
    with pytest.raises(PlanError, match="Rule 1"):
        hold_to(whole(space.plan(body(1, severity="low"), body(2), body(4))), promised)
    with pytest.raises(PlanError, match="Rule 4"):
        hold_to(whole(space.plan(body(1, severity="high"), body(2))), promised)
    space.kibana.edit("rule-1", exceptions_list=[EXCEPTION])
    with pytest.raises(PlanError, match="Rule 1"):
        hold_to(whole(space.plan(body(1, severity="high"), body(2), body(4))), promised)


def test_an_interrupted_apply_is_finished_with_the_same_plan_file(space: Space) -> None:
    space.apply(body(1), body(3))
    wanted: Sequence[dict[str, Any]] = [body(1, severity="high"), body(2)]
    promised = whole(space.plan(*wanted)).as_dict()
    space.kibana.fail("throttled", "POST", after="3600")
    assert not space.apply(*wanted).ok
    hold_to(whole(space.plan(*wanted)), promised)
    assert space.apply(*wanted).ok
    hold_to(whole(space.plan(*wanted)), promised)


def test_the_normal_form_is_the_same_for_what_is_sent_and_what_is_answered(space: Space) -> None:
    space.apply(body(1))
    assert normal(space.kibana.rule("rule-1")) == normal(body(1))
