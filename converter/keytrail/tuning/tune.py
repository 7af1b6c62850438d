"""Proposals replayed: what each takes out, what it would hide from whom, and which of them may be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from keytrail import reference
from keytrail.cases import Case
from keytrail.folding import fold
from keytrail.pack import Rule
from keytrail.paths import text, values
from keytrail.profile import Profile
from keytrail.tuning.fields import FIELDS, NONE
from keytrail.tuning.labels import TRUE
from keytrail.tuning.propose import Proposal, proposals
from keytrail.tuning.survey import Kind, Survey
from keytrail.tuning.twins import World, twins

MOST_REASONS = 3
MOST_WORLD = 5
SHARE = 0.05  # what is the same in fewer of the hits is not worth a word


@dataclass(frozen=True)
class Refusal:
    """Why a proposal may not be used: ``kind`` is silence, account, routine, label, case or twin."""

    kind: str
    text: str

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON has it."""
        return {"kind": self.kind, "text": self.text}


@dataclass
class Verdict:
    """A proposal, the hits that it takes out, how many hostile twins it was tried on, and why it is refused, if so."""

    proposal: Proposal
    kinds: list[Kind]
    share: float
    refusals: list[Refusal] = field(default_factory=list)
    tried: int = 0

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.refusals

    @property
    def removed(self) -> int:
        """How many hits it takes out."""
        return sum(kind.hits for kind in self.kinds)

    @property
    def score(self) -> float:
        """What it is ranked by: the share of hits that it takes out, times what keeps an attacker from among them."""
        return self.share * self.proposal.strength


@dataclass
class Tuning:
    """What came of a corpus: the survey, the proposals, the best first, and those that were not even made."""

    survey: Survey
    verdicts: list[Verdict]
    never: list[dict[str, Any]]
    cases: int | None
    narrows_too: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> list[Verdict]:
        """The proposals that may be used, each taking out something that those before it do not."""
        found: list[Verdict] = []
        gone: set[int] = set()
        for verdict in self.verdicts:
            more = {id(kind) for kind in verdict.kinds} - gone
            if verdict.accepted and more:
                found.append(verdict)
                gone |= more
        return found

    def after(self, verdicts: Sequence[Verdict]) -> int:
        """How many hits are left under some of the proposals."""
        gone = {id(kind): kind for verdict in verdicts for kind in verdict.kinds}
        return self.survey.hits - sum(kind.hits for kind in gone.values())


def tune(
    survey: Survey, cases: Sequence[Case] | None = None, profile: Profile | None = None, rules: Sequence[Rule] = ()
) -> Tuning:
    """Propose exclusions for a rule's hits, replay each, and rank them.

    Parameters: ``cases`` are the rule's own, None where it has none; ``profile`` is the site's; ``rules`` are all rules
    there are, so that it can be said which correlations see less as well.
    """
    correlated = [rule for rule in rules if any(survey.rule.id == base.id for base in rule.references.values())]
    waiting = [rule.stem for rule in correlated if not rule.correlation.rising]
    found = _verdicts(survey, cases or (), profile, waiting)
    found.sort(key=lambda one: (not one.accepted, -one.score, len(one.proposal.lines), str(one.proposal.lines)))
    count, names = None if cases is None else len(cases), [rule.stem for rule in correlated]
    return Tuning(survey, found, list(_never(survey)), count, names)


def _verdicts(survey: Survey, cases: Sequence[Case], profile: Profile | None, waiting: Sequence[str]) -> list[Verdict]:
    by_actor: dict[str, list[Kind]] = {}
    for kind in survey.kinds.values():
        by_actor.setdefault(fold(kind.actor.name), []).append(kind)
    made: dict[str, list[Verdict]] = {}
    for proposal in proposals(survey):
        actor = fold(proposal.actor.name)
        # The lines name the actor: of nobody else's hits can any be taken out.
        kinds = [kind for kind in by_actor[actor] if proposal.removes(kind.record)]
        if kinds:
            verdict = Verdict(proposal, kinds, sum(kind.hits for kind in kinds) / survey.hits)
            made.setdefault(actor, []).append(verdict)
    world = _world(survey, profile)
    found: list[Verdict] = []
    for verdicts in map(_narrowest, made.values()):
        for verdict in verdicts:
            # To who waits for events to stop, these would have stopped, or have never come.
            verdict.refusals += [
                Refusal("silence", f"{stem} waits for these events to stop: without them it is wrong or blind")
                for stem in waiting
            ]
            verdict.refusals += _doubts(verdict, survey, cases, profile)
        _try_twins(survey.rule, [one for one in verdicts if not _hopeless(one)], world)
        found += verdicts
    return found


def _narrowest(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Of proposals that take out the same hits, the one that asks for most: the others let others through as well."""
    best: dict[frozenset[int], Verdict] = {}
    for one in verdicts:
        key = frozenset(map(id, one.kinds))
        if key not in best or len(one.proposal.lines) > len(best[key].proposal.lines):
            best[key] = one
    return list(best.values())


def _doubts(verdict: Verdict, survey: Survey, cases: Sequence[Case], profile: Profile | None) -> Iterator[Refusal]:
    actor, own = verdict.proposal.actor, {*survey.accounts.counts, *(profile.accounts if profile else ())}
    if actor.account and actor.account not in own:
        yield Refusal("account", f"{actor.name} is of account {actor.account}, of which there are no records here")
    if survey.days_long is None:
        yield Refusal(
            "routine", "not measured: the records do not tell when they are, so nothing tells routine from a burst"
        )
    elif (burst := survey.burst(verdict.kinds)) is not None:
        yield Refusal("routine", f"{burst}: whoever breaks in and makes noise on purpose is seen so too")
    true = [key for kind in verdict.kinds for key in kind.true]
    if true:
        count = sum(kind.labels[TRUE] for kind in verdict.kinds)
        yield Refusal(
            "label", f"would take out what is labelled true, {count} in all: {', '.join(true[:MOST_REASONS])}"
        )
    if (apart := _never_together(verdict)) is not None:
        yield Refusal("twin", f"would silence what was never seen: {apart}, each of which was seen with others")
    lost = [case.name for case in cases if case.match and verdict.proposal.removes(case.record)]
    if lost:
        more = f" and {len(lost) - MOST_REASONS} more" if len(lost) > MOST_REASONS else ""
        names = "; ".join(lost[:MOST_REASONS])
        yield Refusal("case", f"would take out what the rule's cases say it must find: {names}{more}")


def _never_together(verdict: Verdict) -> str | None:
    """Values of a proposal that it takes out together, though no hit has them together; None where there are none."""
    several = {name: given for name, given in verdict.proposal.lines.items() if len(given) > 1}
    seen: set[tuple[str, ...]] = set()
    for kind in verdict.kinds:
        seen.update(product(*(map(text, values(kind.record, name)) for name in several)))
    if len(seen) >= prod(map(len, several.values())):
        return None
    return " with ".join(next(one for one in product(*several.values()) if one not in seen))


def _hopeless(verdict: Verdict) -> bool:
    """Whether nobody needs to know what else speaks against it: bursts can be of any number of kinds."""
    return any(refusal.kind in ("silence", "account", "routine") for refusal in verdict.refusals)


# -- twins --------------------------------------------------------------------------------------------------------


def _try_twins(rule: Rule, verdicts: Sequence[Verdict], world: World) -> None:
    """Try each proposal on the twins of each hit that it takes out; twins on which the rule is silent do not count."""
    matches = reference.compile_rule(rule.document)
    fields = sorted({name for one in verdicts for name in one.proposal.lines})
    # Hits that are the same to all of these proposals have the same twins to them: they are tried once.
    kinds = {tuple(str(values(kind.record, name)) for name in fields): kind for one in verdicts for kind in one.kinds}
    for kind in kinds.values():
        having = [one for one in verdicts if one.proposal.removes(kind.record)]
        waiting = [one for one in having if len(one.refusals) < MOST_REASONS]
        for twin in twins(kind.record, world) if waiting else ():
            if not matches(twin.record):
                continue
            for one in waiting:
                if twin.through is not None and twin.through not in one.proposal.lines:
                    continue
                one.tried += 1
                text = f"would silence a hostile twin: {twin.what}"
                if one.proposal.removes(twin.record) and all(text != known.text for known in one.refusals):
                    one.refusals.append(Refusal("twin", text))
    for one in verdicts:
        if not one.tried:
            one.refusals.append(Refusal("twin", "not measured: the rule fires on no hostile twin that could be made"))
        del one.refusals[MOST_REASONS:]


def _world(survey: Survey, profile: Profile | None) -> World:
    keys = dict.fromkeys([key.arn for key in (profile.keys if profile else ())])
    keys |= dict.fromkeys(value for value, _ in survey.by["key"].counts.most_common(MOST_WORLD) if value[:4] == "arn:")
    addresses = [network.partition("/")[0] for network in (profile.networks if profile else ())]
    return World(list(keys)[:MOST_WORLD], list(_calls(survey.rule.document["detection"]))[:20], addresses[:1])


def _calls(part: Any) -> Iterator[str]:
    """The calls that a rule names."""
    for key, value in part.items() if isinstance(part, Mapping) else ():
        if str(key) == "eventName":
            yield from (str(one) for one in (value if isinstance(value, list) else [value]))
        else:
            yield from _calls(value)
    for one in part if isinstance(part, list) else ():
        yield from _calls(one)


# -- what is not proposed -----------------------------------------------------------------------------------------

_ALONE = {
    "address": "by itself it says where from and not who: everybody behind it would be let through",
    "key": "by itself it would let everybody touch the key",
    "bucket": "by itself it would let everybody touch the bucket",
    "account": "by itself it would let through everybody in the account",
}


def _never(survey: Survey) -> Iterator[dict[str, Any]]:
    """What many hits have in common, and what an attacker can have in common with them just as well."""
    choosers = {one.label: one.chooser for one in FIELDS if one.role == NONE}
    for name, top in survey.by.items():
        for value, count in top.counts.most_common(1):
            why = choosers.get(name) or _ALONE.get(name)
            if why is not None and value and count >= SHARE * survey.hits:
                yield {"field": name, "value": value, "hits": count, "why": why}
    unnamed: Counter[tuple[str, str]] = Counter()
    for kind in survey.kinds.values():
        if kind.actor.why:
            unnamed[kind.actor.name, kind.actor.why] += kind.hits
    for (value, why), count in unnamed.most_common(MOST_REASONS):
        yield {"field": "principal", "value": value, "hits": count, "why": why}
