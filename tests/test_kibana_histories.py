"""Any history of edits, packs, faults and broken-off applies ends, after one clean apply, where it should."""

from __future__ import annotations

import copy
import threading
from contextlib import ExitStack
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from keytrail.kibana import client
from keytrail.kibana.apply import Writer
from keytrail.kibana.plan import MOVING, Choices, Planned, Wanted, plan_rules
from keytrail.kibana.state import normal
from keytrail.steps import CONFLICT, SAME, carry_out

from tests.kibana_server import Kibana, running
from tests.test_kibana_plan import ACTION, EXCEPTION, TAG, body, retyped

IDS = st.integers(1, 3)
THEIRS = ("exceptions_list", "actions", "timeline_id", "enabled")
# Hands and packs choose from different values, so that it is known whose a value is.
PACK = st.sampled_from([{"severity": "high"}, {"severity": "critical"}, {"note": "triage"}, {"risk_score": 73}, {}])
HAND = st.sampled_from([{"severity": "low"}, {"note": "by hand"}, {"name": "Renamed"}, {"max_signals": 500}])
WORK = st.sampled_from(
    [
        {"exceptions_list": [{**EXCEPTION, "type": "detection"}]},
        {"actions": [{**ACTION, "uuid": "u1"}]},
        {"timeline_id": "t1", "timeline_title": "Timeline"},
        {"enabled": False},
    ]
)
FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["throttled", "cut before", "cut after", "error before", "error after", "html after"]),
        st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    ),
    max_size=4,
)


class Killed(BaseException):
    """The process ends here."""


class Histories(RuleBasedStateMachine):
    """A space, the pack that it is brought to, and what analysts have done that must last."""

    @initialize(drift=st.sampled_from(["keep", "overwrite"]))
    def begin(self, drift: str) -> None:
        self.drift = drift
        self.stack = ExitStack()
        self.kibana: Kibana = self.stack.enter_context(running())
        self.stop = threading.Event()
        self.client = client.connect(self.kibana.url, timeout=0.3, stop=self.stop)
        self.client.wait = lambda seconds, why=None: None  # type: ignore[method-assign]
        self.stack.callback(self.client.close)
        self.pack = {number: body(number) for number in (1, 2)}
        self.work: dict[str, dict[str, Any]] = {}
        self.hand: dict[str, dict[str, Any]] = {}
        self.foreign: dict[str, Any] = {}
        self._foreign(body(8, tags=["mine"]))
        self._foreign(body(9, tags=[TAG]))
        self._foreign({**body(7), "immutable": True})

    def _foreign(self, fields: dict[str, Any]) -> None:
        made = self.kibana.put_by_hand(**fields)
        self.foreign[made["id"]] = copy.deepcopy(made)

    def _ours(self, number: int) -> dict[str, Any] | None:
        found = [rule for rule in self.kibana.rules.values() if rule["rule_id"] == f"rule-{number}"]
        return found[0] if found and found[0]["id"] not in self.foreign else None

    # The pack

    @rule(number=IDS, more=PACK)
    def the_pack_has_a_rule(self, number: int, more: dict[str, Any]) -> None:
        self.pack[number] = body(number, **more)

    @rule(number=IDS)
    def the_pack_has_it_in_another_type(self, number: int) -> None:
        self.pack[number] = {**retyped(), "rule_id": f"rule-{number}", "name": f"Rule {number}"}

    @rule(number=IDS)
    def the_pack_drops_a_rule(self, number: int) -> None:
        self.pack.pop(number, None)

    # Analysts

    @rule(number=IDS, fields=HAND)
    def somebody_edits_what_is_ours(self, number: int, fields: dict[str, Any]) -> None:
        if self._ours(number):
            self.kibana.edit(f"rule-{number}", **fields)
            self.hand.setdefault(f"rule-{number}", {}).update(fields)

    @rule(number=IDS, fields=WORK)
    def somebody_does_their_work(self, number: int, fields: dict[str, Any]) -> None:
        if self._ours(number):
            self.kibana.edit(f"rule-{number}", **copy.deepcopy(fields))
            self.work.setdefault(f"rule-{number}", {}).update(fields)

    @rule(number=IDS)
    def somebody_copies_a_rule(self, number: int) -> None:
        found = self._ours(number)
        if found:
            self._foreign({**found, "rule_id": f"copy-{len(self.foreign)}", "name": "[Duplicate]"})

    # Applies

    def _wanted(self) -> Wanted:
        return Wanted(TAG, list(self.pack.values()))

    def _apply(self, wanted: Wanted | None = None) -> Planned:
        planned = plan_rules(self.client, wanted or self._wanted(), Choices(self.drift, deletes=99))
        steps = [step for step in planned.steps if step.action not in (SAME, CONFLICT)]
        self.outcome = carry_out(steps, Writer(self.client, TAG).take, stop=self.stop)
        return planned

    @rule(faults=FAULTS)
    def an_apply_meets_faults(self, faults: list[tuple[str, str]]) -> None:
        for kind, method in faults:
            self.kibana.fail(kind, method)
        self._apply()
        self._forget()

    @rule(nth=st.integers(1, 5), acted=st.booleans())
    def an_apply_is_killed(self, nth: int, acted: bool) -> None:
        self._killed(self._wanted(), nth, acted)

    @rule(number=IDS, fields=HAND, work=WORK, nth=st.integers(1, 4), acted=st.booleans())
    def a_change_of_type_is_killed(
        self, number: int, fields: dict[str, Any], work: dict[str, Any], nth: int, acted: bool
    ) -> None:
        self.somebody_edits_what_is_ours(number=number, fields=fields)
        self.somebody_does_their_work(number=number, fields=work)
        found = self._ours(number)
        self.the_pack_has_it_in_another_type(number=number)
        if found is not None and found["type"] == "esql":
            self.the_pack_has_a_rule(number=number, more={})
        self._killed(Wanted(TAG, [self.pack[number]], whole=False), nth, acted)

    def _killed(self, wanted: Wanted, nth: int, acted: bool) -> None:
        send, count = self.client._send, 0

        def killed(method: str, *arguments: Any) -> Any:
            nonlocal count
            count += method != "GET"
            if count == nth and not acted and method != "GET":
                raise Killed
            answer = send(method, *arguments)
            if count == nth and method != "GET":
                raise Killed
            return answer

        self.client._send = killed  # type: ignore[method-assign,assignment]
        try:
            self._apply(wanted)
        except Killed:
            pass
        finally:
            self.client._send = send  # type: ignore[method-assign]
        self._forget()

    @rule(nth=st.integers(1, 3))
    def an_apply_is_stopped(self, nth: int) -> None:
        for _ in range(nth - 1):
            self.kibana.fail("edit", "POST")
        self.kibana.fail("edit", "POST", act=lambda kibana: self.stop.set())
        self._apply()
        self.stop.clear()
        self._forget()

    @rule(number=IDS, fields=HAND, work=WORK)
    def somebody_edits_during_an_apply(self, number: int, fields: dict[str, Any], work: dict[str, Any]) -> None:
        def edit(kibana: Kibana) -> None:
            self.somebody_edits_what_is_ours(number=number, fields=fields)
            self.somebody_does_their_work(number=number, fields=work)

        self.kibana.fail("edit", "GET", "/rules", act=edit)
        self._apply()
        self._forget()

    def _forget(self) -> None:
        """Faults that nothing met; and the work on rules that were deleted, because the pack dropped them."""
        self.kibana.faults.clear()
        there = {rule["rule_id"].removeprefix(MOVING) for rule in self.kibana.rules.values()}
        there |= {wanted["rule_id"] for wanted in self.pack.values()}
        for known in (self.work, self.hand):
            for rule_id in known.keys() - there:
                del known[rule_id]

    def teardown(self) -> None:
        if not hasattr(self, "stack"):
            return
        with self.stack:
            self._forget()
            self._apply()
            assert self.outcome.ok, self.outcome.stopped
            self._forget()
            self._check()
            writes = len(self.kibana.log)
            assert {step.action for step in self._apply().steps} <= {SAME}
            assert len(self.kibana.log) == writes
            assert self.kibana.dropped == set()

    def _check(self) -> None:
        rules = {rule["id"]: rule for rule in self.kibana.rules.values()}
        assert {id: rules.pop(id) for id in self.foreign} == self.foreign
        assert sorted(rule["rule_id"] for rule in rules.values()) == sorted(f"rule-{one}" for one in self.pack)
        for number, wanted in self.pack.items():
            found = self._ours(number)
            assert found is not None
            rule_id = wanted["rule_id"]
            hand = self.hand.get(rule_id, {}) if self.drift == "keep" else {}
            assert normal(found) == normal({**wanted, **hand})
            work: dict[str, Any] = {"exceptions_list": [], "actions": [], "timeline_id": None, "enabled": True}
            work.update(self.work.get(rule_id, {}))
            assert {name: found.get(name) for name in THEIRS} == {name: work[name] for name in THEIRS}


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=14, deadline=None)
