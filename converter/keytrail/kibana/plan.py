"""What it takes to bring a space's rules to what a pack says, with the analysts' work left as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from keytrail.kibana import words
from keytrail.kibana.client import Kibana
from keytrail.kibana.diff import changes
from keytrail.kibana.state import (
    OF_TYPE,
    OURS,
    by_rule_id,
    changed_since,
    make_seal,
    normal,
    own_tags,
    seal_of,
    state_of,
)
from keytrail.steps import CONFLICT, CREATE, DELETE, REPLACE, SAME, UPDATE, Change, Step, digest

KEEP, OVERWRITE = "keep", "overwrite"
RULE, CARRIER = "rule", "rule on the move"
# A rule whose type changes is deleted and created. Meanwhile a disabled rule with this tag holds the analysts' work.
MOVING = "keytrail:moving:"
MOST_DELETES = 5
SHARE = 5  # one of so many rules may be deleted without being asked for
LIST_PREFIX = "keytrail-"

Rule = Mapping[str, Any]


@dataclass(frozen=True)
class Choices:
    """What the user decides.

    Parameters: ``drift`` is ``keep`` or ``overwrite`` for what was changed by hand, None keeps it and makes a conflict
    where the pack changes the same field; ``adopt`` takes over rules with our ids that were not written by us;
    ``deletes`` is how many rules may be deleted, None for a cautious limit.
    """

    drift: str | None = None
    adopt: bool = False
    deletes: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What a pack says of a space.

    Parameters: ``bodies`` are the rules as the API takes them, in the order in which they are to be written; ``known``
    are the ids of all rules of the pack, those included that have no body; ``whole`` says that a rule which is not
    known is no longer in the pack (false for a part of it); ``links`` leads from a rule's id to the exception lists of
    ours that it is to have, None leaves them as they are.
    """

    tag: str
    bodies: Sequence[Rule]
    known: frozenset[str] = frozenset()
    whole: bool = True
    links: Mapping[str, Sequence[str]] | None = None


@dataclass
class Planned:
    """The steps for the rules of a space, what keeps them from being taken, and remarks."""

    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_rules(kibana: Kibana, wanted: Wanted, choices: Choices) -> Planned:
    """Read the rules of a space and return the steps to what is wanted: building blocks first, deletes last.

    Errors: those of :class:`Kibana`.
    """
    bodies = sorted(wanted.bodies, key=lambda body: not body.get("building_block_type"))
    ids = [str(body["rule_id"]) for body in bodies]
    return plan_from(kibana.rules(tag=wanted.tag, ids=ids), replace(wanted, bodies=bodies), choices)


def plan_from(rules: Iterable[Rule], wanted: Wanted, choices: Choices) -> Planned:
    """Return the steps from the rules that a space holds to what is wanted; ``plan_rules`` reads them."""
    made = Planned()
    found = list(rules)
    carriers = {
        rule_id: rule for rule in found if (rule_id := moved_id(rule)) and wanted.tag in (rule.get("tags") or ())
    }
    there = by_rule_id([rule for rule in found if not moved_id(rule)])
    said = {str(body["rule_id"]) for body in wanted.bodies}
    for body in wanted.bodies:
        made.steps.append(_step(body, there.get(str(body["rule_id"]), []), carriers, wanted, choices))
    own = {rule_id: copies for rule_id, copies in there.items() if any(is_own(rule, wanted.tag) for rule in copies)}
    if wanted.whole:
        gone = {rule_id: copies for rule_id, copies in own.items() if rule_id not in said | wanted.known}
        made.steps += [_deleted(rule_id, copies, wanted.tag) for rule_id, copies in gone.items()]
        _limit(made, len(own), choices.deletes)
    settled = {
        rule_id for rule_id in there if rule_id not in {step.key for step in made.steps if step.action == REPLACE}
    }
    if wanted.whole:
        settled |= set(carriers) - said - wanted.known
    made.steps += [_left_over(rule_id, carriers[rule_id]) for rule_id in carriers if rule_id in settled]
    strangers = [
        rule
        for rule_id, copies in there.items()
        for rule in copies
        if rule_id not in said and wanted.tag in (rule.get("tags") or ()) and not is_own(rule, wanted.tag)
    ]
    if strangers:
        names = ", ".join(sorted(str(rule.get("name")) for rule in strangers))
        made.notes.append(f"not written by Keytrail though they carry its tag, and left alone: {names}")
    return made


def is_own(rule: Rule, tag: str) -> bool:
    """Tell whether we wrote a rule: it carries our tag and the seal of its own id, and is not prebuilt."""
    return tag in (rule.get("tags") or ()) and seal_of(rule) is not None and not rule.get("immutable")


def moved_id(rule: Rule) -> str | None:
    """Return the id of the rule that this one holds the analysts' work of, None for any other rule."""
    return next((tag[len(MOVING) :] for tag in rule.get("tags") or () if tag.startswith(MOVING)), None)


def carried(carrier: Rule) -> dict[str, Any]:
    """Return what a carrier holds: the analysts' part of a rule, what of ours they changed; {} for what is no JSON."""
    try:
        found = json.loads(str(carrier.get("note")))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _step(body: Rule, copies: Sequence[Rule], carriers: Mapping[str, Rule], wanted: Wanted, choices: Choices) -> Step:
    rule_id, name = str(body["rule_id"]), str(body["name"])
    links = None if wanted.links is None else sorted(wanted.links.get(rule_id, ()))
    if not copies:
        held = _held(carriers.get(rule_id), body, choices)
        made, seal = _sealed(_with_kept(body, held, set(held)), make_seal(body)), make_seal(body)
        step = Step(CREATE, RULE, rule_id, name, made, carriers.get(rule_id), target=_target(made, seal, links))
        why = _resumed(rule_id, carriers)
        return replace(step, changes=_link_changes([], links), words=words.created(body), why=why)
    conflict = _conflict(rule_id, copies, wanted.tag, choices.adopt)
    if conflict:
        return Step(CONFLICT, RULE, rule_id, name, body, copies[0], why=conflict)
    return _merged(body, copies[0], links, choices)


def _held(carrier: Rule | None, body: Rule, choices: Choices) -> dict[str, Any]:
    """Our fields as somebody had changed them by hand, from the carrier of a rule that was on the move."""
    if carrier is None or choices.drift == OVERWRITE:
        return {}
    held = carried(carrier).get("kept") or {}
    was_of = carried(carrier).get("type")
    return {name: value for name, value in held.items() if name not in OF_TYPE or was_of == body.get("type")}


def _resumed(rule_id: str, carriers: Mapping[str, Rule]) -> str:
    if rule_id not in carriers:
        return ""
    return "an interrupted change of its type is finished, with the exceptions and actions that it had"


def _conflict(rule_id: str, copies: Sequence[Rule], tag: str, adopt: bool) -> str:
    if len(copies) > 1:
        listed = ", ".join(f"{rule['id']} (made {rule.get('created_at')})" for rule in copies)
        return f"{len(copies)} rules have the rule_id {rule_id}: {listed}; delete all but one of them in Kibana"
    rule = copies[0]
    if rule.get("immutable"):
        return "one of Elastic's prebuilt rules has this id; it is never touched"
    if tag not in (rule.get("tags") or ()) and not adopt:
        return f"a rule with this id is there without the tag '{tag}': somebody else's; --adopt takes it over"
    return ""


def _merged(body: Rule, rule: Rule, links: list[str] | None, choices: Choices) -> Step:
    """Three sides: what is there, what the pack says, and by the seal what the pack said last."""
    rule_id, name = str(body["rule_id"]), str(body["name"])
    said, now, seal, old = normal(body), normal(rule), make_seal(body), seal_of(rule)
    differing = {name for name in OURS if said.get(name) != now.get(name)}
    retyped = rule.get("type") != body.get("type")
    if old is None:
        if differing and not choices.adopt:
            why = "it was imported and not written by apply, and differs: --adopt takes it over as the pack has it"
            shown = changes(now, said, OURS)
            return Step(CONFLICT, RULE, rule_id, name, body, rule, shown, why=why, state=state_of(rule))
        by_hand: set[str] = set()
    else:
        by_hand = differing & changed_since(old, now)
    kept = set() if choices.drift == OVERWRITE else by_hand - (OF_TYPE if retyped else frozenset())
    both = kept & changed_since(old, said) - {"tags"} if old is not None else set()
    made = _sealed(_with_kept(body, rule, kept), seal)
    step = Step(SAME, RULE, rule_id, name, made, rule, state=state_of(rule))
    step = replace(step, drift=_shown(said, now, by_hand), kept=choices.drift != OVERWRITE)
    if both and choices.drift is None:
        shown = changes(now, said, OURS)
        why = f"changed by hand and by the pack: {', '.join(sorted(both))}; --drift keep or --drift overwrite decides"
        return replace(step, action=CONFLICT, changes=shown, words=_worded(now, said, shown), why=why)
    linked = _linked(rule)
    shown = changes(now, normal(made), OURS)
    step = replace(step, words=_worded(now, normal(made), shown))
    shown += _link_changes(linked, links)
    step = replace(step, changes=shown, target=_target(made, seal, links))
    if retyped:
        why = "its type changes: it is deleted and created again, with its exceptions and actions"
        return replace(step, action=REPLACE, why=why)
    if shown or old != seal:
        why = "" if shown else "only what the pack says is noted in the rule's seal"
        return replace(step, action=UPDATE, why=why)
    return step


def _worded(now: Rule, made: Rule, shown: Sequence[Change]) -> tuple[str, ...]:
    return words.changed(now, made, [one.field for one in shown])


def _shown(said: Rule, now: Rule, by_hand: set[str]) -> tuple[Change, ...]:
    return changes(said, now, [name for name in OURS if name in by_hand])


def _with_kept(body: Rule, rule: Rule, kept: set[str]) -> dict[str, Any]:
    """The pack's rule with what was changed by hand; tags that either side added stay."""
    made = {name: value for name, value in body.items() if name not in kept}
    made |= {name: rule[name] for name in kept if rule.get(name) is not None}
    if "tags" in kept:
        made["tags"] = list(dict.fromkeys([*own_tags(body), *own_tags(rule)]))
    return made


def _sealed(body: Rule, seal: str) -> dict[str, Any]:
    """The body with the seal among the tags, and without what analysts decide, but for the first ``enabled``."""
    made = {name: value for name, value in body.items() if name in (*OURS, "rule_id", "enabled")}
    return {**made, "tags": [*own_tags(body), seal]}


def _target(body: Rule, seal: str, links: list[str] | None) -> str:
    return digest([normal(body), seal, links])


def _linked(rule: Rule) -> list[str]:
    """The lists of ours that a rule has."""
    listed = rule.get("exceptions_list") or ()
    return sorted(str(one["list_id"]) for one in listed if str(one.get("list_id")).startswith(LIST_PREFIX))


def _link_changes(now: list[str], links: list[str] | None) -> tuple[Change, ...]:
    if links is None or now == links:
        return ()
    lines = [f"- {one}" for one in now if one not in links] + [f"+ {one}" for one in links if one not in now]
    return (Change("exception lists", tuple(lines)),)


def _deleted(rule_id: str, copies: Sequence[Rule], tag: str) -> Step:
    rule = copies[0]
    name = str(rule.get("name"))
    if len(copies) > 1 or not is_own(rule, tag):
        why = _conflict(rule_id, copies, tag, False) or "somebody else's rule has this id"
        return Step(CONFLICT, RULE, rule_id, name, None, rule, why=why, state=state_of(rule))
    drift = tuple(Change(one, ()) for one in sorted(changed_since(str(seal_of(rule)), normal(rule))))
    why = "no longer in the pack"
    if drift:
        why += f"; changed by hand: {', '.join(one.field for one in drift)}"
    return Step(DELETE, RULE, rule_id, name, None, rule, why=why, state=state_of(rule))


def _limit(made: Planned, own: int, given: int | None) -> None:
    deletes = sum(step.action == DELETE for step in made.steps)
    limit = min(MOST_DELETES, max(1, own // SHARE)) if given is None else given
    if deletes > limit:
        made.problems.append(
            f"{deletes} of {own} rules would be deleted, and {limit} may be: "
            f"look at them, then say --limit-deletes {deletes}"
        )


def _left_over(rule_id: str, rule: Rule) -> Step:
    """A carrier whose rule is there again, or wanted no longer."""
    why = "left over from an interrupted change of type"
    return Step(DELETE, CARRIER, rule_id, str(rule.get("name")), None, rule, why=why, state=state_of(rule))
