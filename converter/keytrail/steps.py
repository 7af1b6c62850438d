"""A plan: the steps that bring what is there, in Kibana or in Elasticsearch, to what it should be."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keytrail.errors import KeytrailError, Stopped

CREATE, UPDATE, REPLACE, DELETE, SAME, CONFLICT = "create", "update", "replace", "delete", "same", "conflict"
MARKS = {CREATE: "+", UPDATE: "~", REPLACE: "~", DELETE: "-", SAME: "=", CONFLICT: "!"}
WRITES = (CREATE, UPDATE, REPLACE, DELETE)
NOTHING_TO_DO, DOES_NOT_HOLD, WOULD_CHANGE = 0, 1, 3
VERSION = 1  # of a plan's shape


class PlanError(KeytrailError):
    """A plan file that cannot be used."""


class PlanChanged(PlanError):
    """What would be done is not what a plan file has promised."""


@dataclass(frozen=True)
class Change:
    """One field that changes, with the lines that say how: each begins with ``+``, ``-`` or ``~``.

    ``placed`` tells that the lines say themselves where in the field they are.
    """

    field: str
    lines: tuple[str, ...]
    placed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the change as JSON has it."""
        return {"field": self.field, "lines": list(self.lines)}


@dataclass(frozen=True)
class Step:
    """What happens to one thing.

    Parameters: ``kind`` is what it is (rule, exception list, index template, …), ``key`` its id there, ``name`` what
    people call it; ``body`` is what it shall be, ``found`` what it is now; ``changes`` is what would be written,
    ``drift`` what was changed by hand, ``kept`` whether that stays; ``why`` explains a conflict or remarks on the rest;
    ``state`` identifies what was read, so that a write by somebody else is noticed.
    """

    action: str
    kind: str
    key: str
    name: str
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    found: Mapping[str, Any] | None = field(default=None, repr=False)
    changes: tuple[Change, ...] = ()
    words: tuple[str, ...] = ()
    drift: tuple[Change, ...] = ()
    kept: bool = True
    why: str = ""
    state: tuple[Any, ...] = ()
    target: str = ""

    @property
    def mark(self) -> str:
        """The sign that stands before it in a table."""
        return MARKS[self.action]

    @property
    def identity(self) -> list[Any]:
        """What makes it the same step in another plan: the thing, the action, what it finds, what it makes."""
        return [self.kind, self.key, self.action, list(self.state), self.target]

    def as_dict(self) -> dict[str, Any]:
        """Return the step as JSON has it."""
        return {
            "action": self.action,
            "kind": self.kind,
            "id": self.key,
            "name": self.name,
            "changes": [one.as_dict() for one in self.changes],
            "words": list(self.words),
            "drift": [one.as_dict() for one in self.drift],
            "drift_kept": self.kept if self.drift else None,
            "reason": self.why or None,
            "before": list(self.state),
            "target": self.target,
        }


@dataclass(frozen=True)
class Plan:
    """Steps in the order in which they are taken, and what of the pack could not be converted.

    Parameters: ``where`` says what they are for (URL, space, schema), ``refused`` leads from a rule to why it has no
    step, ``problems`` are what keeps the plan from being carried out at all, ``notes`` remarks.
    """

    where: Mapping[str, str]
    steps: Sequence[Step]
    refused: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many steps there are of each action."""
        return Counter(step.action for step in self.steps)

    @property
    def writes(self) -> list[Step]:
        """The steps that change something."""
        return [step for step in self.steps if step.action in WRITES]

    @property
    def conflicts(self) -> list[Step]:
        """What is left alone because somebody has to decide."""
        return [step for step in self.steps if step.action == CONFLICT]

    def code(self, *, refusals_count: bool = True) -> int:
        """Return the exit code: 1 for conflicts, problems and refused rules, 3 for changes, else 0."""
        if self.problems or self.conflicts or (refusals_count and self.refused):
            return DOES_NOT_HOLD
        return WOULD_CHANGE if self.writes else NOTHING_TO_DO

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON has it, which is the plan file as well."""
        counts = self.counts
        return {
            "keytrail_plan": VERSION,
            "where": dict(self.where),
            "steps": [step.as_dict() for step in self.steps],
            "refused": dict(self.refused),
            "problems": list(self.problems),
            "notes": list(self.notes),
            "counts": {action: counts.get(action, 0) for action in MARKS},
        }


def digest(value: Any) -> str:
    """Return the SHA-256 of a value as JSON, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hold_to(plan: Plan, promised: Any) -> None:
    """Check that a plan does nothing but what a plan file has promised.

    What the file promised and is so by now is fine: an interrupted apply can be finished with the same file. Raises
    :class:`PlanError` for what is no plan file, and :class:`PlanChanged` that names each step which is not as promised.
    """
    if not isinstance(promised, Mapping) or promised.get("keytrail_plan") != VERSION:
        raise PlanError("that is no plan file of this version", hint="'keytrail plan -o FILE' writes one")
    if promised.get("where") != dict(plan.where):
        differing = [name for name in plan.where if promised.get("where", {}).get(name) != plan.where[name]]
        raise PlanChanged(
            f"the plan file was made for something else: {', '.join(differing) or 'its target'} differs",
            hint="give apply the options that plan was given",
        )
    known = {(one["kind"], one["id"]): one for one in promised["steps"]}
    wrong = []
    for step in plan.steps:
        one = known.pop((step.kind, step.key), None)
        if one is None or not _as_promised(step, one):
            wrong.append(f"{step.name}: {_otherwise(step, one)}")
    wrong += [f"{one['name']}: was to {one['action']}" for one in known.values() if one["action"] not in (DELETE, SAME)]
    if wrong:
        raise PlanChanged(
            "the space or the pack changed since the plan was made: " + "; ".join(wrong),
            hint="make a new plan and look at it",
        )


def _as_promised(step: Step, promised: Mapping[str, Any]) -> bool:
    before = [promised["kind"], promised["id"], promised["action"], promised["before"], promised["target"]]
    if step.identity == before or step.action == promised["action"] == CONFLICT:
        return True
    return step.action == SAME and promised["action"] != DELETE and step.target == promised["target"]


def _otherwise(step: Step, promised: Mapping[str, Any] | None) -> str:
    if promised is None:
        return f"would {step.action}, and the plan does not know it"
    if promised["action"] != step.action:
        return f"would {step.action}, was to {promised['action']}"
    if promised["before"] != list(step.state):
        return "somebody wrote it since"
    return "the pack or an option says something else now"


# Carrying it out


@dataclass
class Outcome:
    """What an apply did: steps ``done``, steps ``left``, why it ``stopped``, and what an answer was to say and did not.

    ``interrupted`` tells whether the user stopped it.
    """

    done: list[Step] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)
    stopped: str = ""
    interrupted: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all was done and is as it was sent."""
        return not (self.left or self.stopped or self.remarks)

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON has it."""
        return {
            "done": [step.as_dict() for step in self.done],
            "not_done": [step.as_dict() for step in self.left],
            "stopped": self.stopped or None,
            "interrupted": self.interrupted,
            "remarks": list(self.remarks),
        }


def carry_out(
    steps: Sequence[Step],
    act: Callable[[Step], list[str]],
    report: Callable[[Step], None] = lambda step: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Take the steps in their order; ``act`` takes one and returns remarks. The first failure ends it.

    Parameters: ``report`` is called with each step that is done; where ``stop`` is set, no further step is begun.
    """
    outcome = Outcome()
    for at, step in enumerate(steps):
        try:
            if stop is not None and stop.is_set():
                raise Stopped("not begun, because it was stopped")
            outcome.remarks += act(step)
        except Stopped as stopped:
            outcome.interrupted, outcome.stopped = True, f"{step.name}: {stopped}"
        except KeytrailError as error:
            outcome.stopped = f"{step.name}: {error}"
        if outcome.stopped:
            outcome.left = list(steps[at:])
            break
        outcome.done.append(step)
        report(step)
    return outcome
