"""Carry out a plan for a space: one write at a time, each looked at before and after.

Kibana has no ETags, so that each rule is read again just before it is written, and a write by somebody else stops the
apply. When an answer is missing, the space is read before anything is sent again, because a second request to create
would leave two rules of one id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from keytrail.errors import Stopped
from keytrail.kibana.client import Kibana
from keytrail.kibana.plan import CARRIER, LIST_PREFIX, MOVING, carried
from keytrail.kibana.state import changed_since, normal, seal_of, state_of, theirs
from keytrail.kibana.transport import KibanaError, Uncertain
from keytrail.steps import CREATE, DELETE, REPLACE, Step

LOOKS = 3  # how often to look for a write whose answer is missing, before it is sent again
ATTEMPTS = 4
Written = TypeVar("Written")
Rule = Mapping[str, Any]


class Changed(KibanaError):
    """Somebody else wrote between the plan and the apply."""


class Writer:
    """Takes the steps of a plan for rules in one space.

    Parameters: ``tag`` marks our rules; ``desired`` leads from a rule's id to the exception lists of ours that it is to
    have, None leaves them as they are; ``link`` returns what a rule has for a list.
    """

    def __init__(
        self,
        kibana: Kibana,
        tag: str,
        desired: Mapping[str, Sequence[str]] | None = None,
        link: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        self.kibana = kibana
        self.tag = tag
        self._desired = desired
        self._link = link

    def take(self, step: Step) -> list[str]:
        """Take a step and return remarks. Errors: :class:`KibanaError`, :class:`Stopped`."""
        if step.action == CREATE:
            return self._create(step)
        if step.action == DELETE:
            self._delete(step)
            return []
        return self._replace(step) if step.action == REPLACE else self._update(step)

    def _create(self, step: Step) -> list[str]:
        assert step.body is not None
        carrier = step.found  # only an interrupted change of type leaves one
        remarks = self._make(self._with_links(step, {**step.body, **_carried_fields(carrier)}))
        if carrier is not None:
            self._remove(carrier)
        return remarks

    def _update(self, step: Step) -> list[str]:
        rule = self._unchanged(step)
        assert step.body is not None
        body = {name: value for name, value in step.body.items() if name not in ("rule_id", "enabled")}
        body = self._with_links(step, {**theirs(rule), **body, "id": rule["id"]})
        answer = self._settled(
            lambda: self.kibana.replace(body),
            lambda: self._is_written(rule, body),
        )
        remarks = _differences(body, answer)
        if int(answer.get("revision", 0)) > int(rule.get("revision", 0)) + 1:
            remarks.append(f"{step.name}: somebody else wrote it in the same moment; look whether an edit is lost")
        return remarks

    def _replace(self, step: Step) -> list[str]:
        """Delete and create; in between, a rule that never runs keeps what would be lost."""
        rule = self._unchanged(step)
        assert step.body is not None
        body = {**step.body, **theirs(rule), "enabled": bool(rule.get("enabled"))}
        for old in self._carriers(step.key):
            self._remove(old)
        self._make(_carrier(self.tag, step, rule))
        self._unchanged(step)
        self._remove(rule)
        remarks = self._make(self._with_links(step, body))
        for carrier in self._carriers(step.key):
            self._remove(carrier)
        return remarks

    def _delete(self, step: Step) -> None:
        assert step.found is not None
        if step.kind == CARRIER:
            self._remove(step.found)
        elif self.kibana.rule(str(step.found["id"])) is not None:
            self._remove(self._unchanged(step))

    # One write each

    def _make(self, body: Rule) -> list[str]:
        """Create a rule, once. Kibana refuses one whose id is there already."""
        rule_id = str(body["rule_id"])

        def look() -> Rule | None:
            found = self.kibana.copies(rule_id)
            if found and seal_of(found[0]) != seal_of(body):
                raise Changed(f"a rule with the id {rule_id} was made by somebody else meanwhile", hint=AGAIN)
            return found[0] if found else None

        answer = self._settled(lambda: self._created(body, look), look)
        self._once(rule_id, answer)
        return _differences(body, answer)

    def _created(self, body: Rule, look: Callable[[], Rule | None]) -> Rule:
        try:
            return self.kibana.create(body)
        except KibanaError as error:
            # An earlier request of ours may have come through after all.
            found = look() if error.status == 409 else None
            if found is None:
                raise
            return found

    def _once(self, rule_id: str, answer: Rule) -> None:
        """Take away a second rule that a repeated request of ours has left."""
        for rule in self.kibana.copies(rule_id):
            if rule["id"] != answer["id"] and seal_of(rule) == seal_of(answer) and not _has_work(rule, answer):
                self._remove(rule)

    def _remove(self, rule: Rule) -> None:
        id = str(rule["id"])

        def gone() -> bool | None:
            return True if self.kibana.rule(id) is None else None

        self._settled(lambda: self._deleted(id), gone)

    def _deleted(self, id: str) -> bool:
        self.kibana.delete(id)
        return True

    def _settled(self, send: Callable[[], Written], look: Callable[[], Written | None]) -> Written:
        """Send; when the answer is missing, look what became of it, and send again only where nothing did."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return send()
            except Uncertain as error:
                error.hint = UNKNOWN
                found = self._looked(look)
                if found is not None:
                    return found
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _looked(self, look: Callable[[], Written | None]) -> Written | None:
        """Look several times, because a request may be carried out late."""
        for attempt in range(LOOKS):
            try:
                found = look()
                if found is not None:
                    return found
                self.kibana.wait(0.5 * 2**attempt)
            except (Uncertain, Stopped) as error:
                error.hint = UNKNOWN
                raise
        return None

    def _unchanged(self, step: Step) -> Rule:
        """Read the rule of a step again. Raises :class:`Changed` where it is not as the plan found it."""
        assert step.found is not None
        rule = self.kibana.rule(str(step.found["id"]))
        if rule is None:
            raise Changed("it was deleted by somebody else after the plan was made", hint=AGAIN)
        if state_of(rule) != tuple(step.state):
            who = rule.get("updated_by")
            raise Changed(f"it was changed by {who} at {rule.get('updated_at')}, after the plan was made", hint=AGAIN)
        return rule

    def _is_written(self, before: Rule, body: Rule) -> Rule | None:
        rule = self.kibana.rule(str(before["id"]))
        if rule is None:
            raise Changed("it was deleted by somebody else meanwhile", hint=AGAIN)
        if state_of(rule) == state_of(before):
            return None
        if normal(rule) == normal(body) and seal_of(rule) == seal_of({**body, "rule_id": rule["rule_id"]}):
            return rule
        raise Changed("it was changed by somebody else meanwhile", hint=AGAIN)

    def _carriers(self, rule_id: str) -> list[Rule]:
        return list(self.kibana.copies(f"{MOVING}{rule_id}"))

    def _with_links(self, step: Step, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the exception lists that it is to have of ours, and all that are not ours."""
        if self._desired is None or self._link is None:
            return body
        kept = [one for one in body.get("exceptions_list") or () if not str(one.get("list_id")).startswith(LIST_PREFIX)]
        return {**body, "exceptions_list": [*kept, *map(self._link, sorted(self._desired.get(step.key, ())))]}


AGAIN = "plan again and look at it"
UNKNOWN = "whether the last write was carried out is not known: plan again and look at it"


def _carrier(tag: str, step: Step, rule: Rule) -> dict[str, Any]:
    assert step.body is not None
    by_hand = changed_since(str(seal_of(step.body)), normal(step.body))
    held = {"theirs": theirs(rule), "enabled": bool(rule.get("enabled")), "type": step.body["type"]}
    held["kept"] = {name: step.body.get(name) for name in by_hand}
    return {
        "type": "query",
        "rule_id": f"{MOVING}{step.key}",
        "name": f"Keytrail: {step.name} is being changed",
        "description": "Holds the exceptions and actions of a rule whose type changes. 'keytrail apply' removes it.",
        "risk_score": 0,
        "severity": "low",
        "enabled": False,
        "interval": "24h",
        "query": "not *:*",
        "tags": [tag, f"{MOVING}{step.key}"],
        "note": json.dumps(held, ensure_ascii=False, sort_keys=True),
    }


def _carried_fields(carrier: Rule | None) -> dict[str, Any]:
    held = carried(carrier) if carrier is not None else {}
    found = dict(held.get("theirs") or {})
    return {**found, "enabled": bool(held["enabled"])} if "enabled" in held else found


def _has_work(rule: Rule, other: Rule) -> bool:
    """Whether an analyst has done something to the one of two rules that the other lacks."""
    return theirs(rule) != theirs(other) or bool(rule.get("enabled")) != bool(other.get("enabled"))


def _differences(sent: Rule, answer: Rule) -> list[str]:
    """What Kibana did not take as it was sent: it drops silently what it does not know."""
    name = sent.get("name")
    said, got = normal(sent), normal(answer)
    wrong = [field for field in said.keys() | got.keys() if said.get(field) != got.get(field)]
    wrong += [
        field
        for field, value in theirs(sent).items()
        if field in ("exceptions_list", "actions", "response_actions") and len(answer.get(field) or ()) != len(value)
    ]
    return [f"{name}: Kibana keeps {field} otherwise than it was sent" for field in sorted(wrong)]
