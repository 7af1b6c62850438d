"""What a learner has seen, judged: the profile to write, and what is listed in it as untrusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from keytrail.learn import (
    LONG,
    MOST_LISTED,
    PERIODS,
    SHARE,
    WEEK,
    Learner,
    Place,
    Seen,
    Who,
    account_of,
    aliases_of,
    fits,
)
from keytrail.yamlcheck import plain_yaml

HEADER = """\
# A site profile that Keytrail has learned from CloudTrail logs. Read it before you use it: what stands under
# untrusted is not used, and is yours to judge. docs/profile.md says what everything means.
"""


@dataclass
class Judged:
    """The parts of a profile, and what was left out of it."""

    trails: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    places: set[Place] = field(default_factory=set)
    readers: list[dict[str, Any]] = field(default_factory=list)
    untrusted: list[dict[str, Any]] = field(default_factory=list)

    def distrust(self, what: str, shape: Mapping[str, Any], seen: Seen, why: str) -> None:
        """List something as untrusted."""
        self.untrusted.append({"what": what, **shape, "why": why, "seen": seen.as_dict()})


def judge(learner: Learner) -> Judged:
    """Judge what a learner has seen."""
    found = Judged()
    own = {*learner.accounts, *learner.given}
    for combinations in _by_trail(learner).values():
        _judge_trail(combinations, own, learner, found)
    _judge_readers(learner, own, found)
    for (person, name, how, place), seen in _most(learner.forged):
        shape = {"event": name, **_by(person), **place.as_dict()}
        found.distrust("context", shape, seen, f"not made by CloudTrail: {name} with a trail's context, {how}")
    _judge_settings(learner, found)
    return found


def _by_trail(learner: Learner) -> dict[str, list[tuple[Place, Seen]]]:
    """What CloudTrail has sealed, by trail, the most frequent first; a bucket key's contexts count for their bucket."""
    found: dict[str, list[tuple[Place, Seen]]] = {}
    for place, seen in sorted(_merged(learner.sealed), key=lambda one: (-one[1].events, one[1].first)):
        found.setdefault(place.trail, []).append((place, seen))
    return dict(sorted(found.items(), key=lambda one: -one[1][0][1].events))


def _merged(sealed: Mapping[Place, Seen]) -> Iterator[tuple[Place, Seen]]:
    whole = [place for place in sealed if place.prefix is not None]
    for place, seen in sealed.items():
        same = [one for one in whole if (one.trail, one.bucket, one.key) == (place.trail, place.bucket, place.key)]
        if place.prefix is None and same:
            _add(sealed[same[0]], seen)
        else:
            yield place, seen


def _judge_trail(combinations: list[tuple[Place, Seen]], own: set[str], learner: Learner, found: Judged) -> None:
    """One bucket and key a trail are trusted, those of most of its events; a change is for a person to confirm."""
    whole = Seen()
    for _, seen in combinations:
        _add(whole, seen)
    rare = _rare(whole, learner.all)
    trusted: Place | None = None
    for place, seen in combinations:
        why = _doubt(place, own) or rare or _difference(place, trusted, whole.events)
        if why is not None:
            found.distrust("disagreement" if trusted else "trail", place.as_dict(), seen, why)
            continue
        trusted = place
        found.places.add(place)
        found.trails[place.trail, place.bucket, place.prefix or ""] = _trail(place, seen, learner)


def _rare(seen: Seen, everything: Seen) -> str | None:
    """Why a trail is not trusted that has delivered for a small part of the logs; of few hours there is no telling."""
    words, often = _periods(seen, everything)
    if often or len(everything.hours) < LONG:
        return None
    return f"delivered {words} only, and whoever breaks in can make a trail, too: add it if it is yours"


def _difference(place: Place, trusted: Place | None, total: int) -> str | None:
    if trusted is None:
        return None
    other = [name for name in ("bucket", "prefix", "key") if getattr(place, name) != getattr(trusted, name)]
    which = " and ".join(other)
    rest = f"another {which} than in the rest of the trail's {total} events"
    return f"{rest}: confirm the change, then add it" + (
        "" if other == ["key"] else ", and say which is the earlier one"
    )


def _trail(place: Place, seen: Seen, learner: Learner) -> dict[str, Any]:
    aliases = list(aliases_of(learner, place.key))
    key = {"arn": place.key, **({"aliases": aliases} if aliases else {}), "seen": seen.as_dict()}
    prefix = {"prefix": place.prefix} if place.prefix else {}
    return {"arn": place.trail, "bucket": place.bucket, **prefix, "keys": [key], "seen": seen.as_dict()}


def _doubt(place: Place, own: set[str]) -> str | None:
    """Why what CloudTrail itself has sealed is not the site's without doubt."""
    if not fits(place):
        return "the record does not tell the trail, the bucket and the key in the forms that AWS gives them"
    for what, arn in (("trail", place.trail), ("key", place.key)):
        account = account_of(arn)
        if account not in own:
            return f"the {what} is of account {account}, of which there are no records here: --account if it is yours"
    return None


def _judge_readers(learner: Learner, own: set[str], found: Judged) -> None:
    """A reader has opened what the site's trails have sealed, again and again, and a fair share of it."""
    readers: dict[Who, Seen] = {}
    places = {(place.trail, place.bucket, place.key) for place in found.places}
    for (person, place), seen in _most(learner.read):
        if (place.trail, place.bucket, place.key) in places:
            _add(readers.setdefault(person, Seen()), seen)
        else:
            why = "read under a trail, bucket and key that CloudTrail does not use together"
            found.distrust("context", {"event": "Decrypt", **_by(person), **place.as_dict()}, seen, why)
    reads = sum(seen.events for seen in readers.values())
    often = {person for person, seen in readers.items() if _periods(seen, learner.all)[1]}
    # Who reads for one night alone must not make everybody else's share a small one.
    usual = sum(readers[person].events for person in often)
    for person, seen in sorted(readers.items(), key=lambda one: -one[1].events):
        said = f"made {seen.events} of {reads} reads, {_periods(seen, learner.all)[0]}"
        doubt = _doubt_of(person, seen, own)
        if doubt is None and person not in often:
            doubt = "whoever breaks in reads as well, for some days"
        elif doubt is None and seen.events * SHARE < usual:
            doubt = "so few that trusting him would serve an intruder more than him"
        if doubt is None:
            found.readers.append({**person.as_dict(), "reason": f"{said}, by the logs", "seen": seen.as_dict()})
        else:
            found.distrust("reader", person.as_dict(), seen, f"{said}: {doubt}")


def _add(whole: Seen, seen: Seen) -> None:
    whole.events += seen.events
    whole.first = min(filter(None, (whole.first, seen.first)), default="")
    whole.last = max(whole.last, seen.last)
    whole.hours |= seen.hours
    whole.days |= seen.days


def _periods(seen: Seen, everything: Seen) -> tuple[str, bool]:
    """In how many of the logs' hours or days somebody was seen, in words, and whether that is often."""
    long = len(everything.days) >= WEEK
    mine, whole = (seen.days, everything.days) if long else (seen.hours, everything.hours)
    words = f"{'on' if long else 'in'} {len(mine)} of {len(whole)} {'days' if long else 'hours'}"
    return words, len(mine) >= PERIODS and 2 * len(mine) >= len(whole)


def _doubt_of(person: Who, seen: Seen, own: set[str]) -> str | None:
    if person.kind not in ("role", "user"):
        return "neither a role nor a user of the site"
    if account_of(person.value) not in own:
        return f"of account {account_of(person.value)}, of which there are no records here"
    return "seen once" if seen.events == 1 else None


def _judge_settings(learner: Learner, found: Judged) -> None:
    """Who has changed a trail, and to what: an intruder does it too, so that deliveries must confirm it."""
    changed: dict[Who, Seen] = {}
    places = {(place.trail, place.bucket, place.prefix or "", place.key) for place in found.places}
    for (person, name, place), seen in _most(learner.settings):
        _add(changed.setdefault(person, Seen()), seen)
        if (place.trail, place.bucket, place.prefix or "", place.key) not in places:
            why = "no delivery confirms it" if place.key else "the trail has no key: its log files are not sealed"
            found.distrust("trail", {"event": name, **_by(person), **place.as_dict()}, seen, why)
    for person, seen in changed.items():
        why = "changed a trail, which administrators do and intruders too"
        found.distrust("administrator", person.as_dict(), seen, why)


def _by(person: Who) -> dict[str, str]:
    return {"by": next(iter(person.as_dict().values()))}


def _most(found: Mapping[Any, Seen]) -> Iterable[tuple[Any, Seen]]:
    return sorted(found.items(), key=lambda one: (-one[1].events, one[1].first))


@dataclass(frozen=True)
class Heading:
    """What a profile says of itself."""

    site: str
    owner: str
    expires: date


def as_value(learner: Learner, judged: Judged, heading: Heading, read: Mapping[str, int]) -> dict[str, Any]:
    """Return the profile as YAML has it."""
    accounts = [
        {"id": account, "seen": seen.as_dict()}
        for account, seen in sorted(learner.accounts.items(), key=lambda one: -one[1].events)
        if len(account) == 12 and account.isdecimal() and account.isascii()
    ]
    accounts += [{"id": account} for account in learner.given if account not in learner.accounts]
    whole = learner.all.as_dict()
    whole.pop("events")
    return {
        "site": heading.site,
        "owner": heading.owner,
        "expires": heading.expires.isoformat(),
        "learned": {**read, **whole},
        "accounts": accounts[:MOST_LISTED],
        "trails": list(judged.trails.values()),
        "readers": judged.readers,
        "untrusted": list(_listed(judged, learner.dropped)),
    }


def _listed(judged: Judged, dropped: int) -> Iterator[dict[str, Any]]:
    """The untrusted things; of each kind only so many, so that a flood of one does not hide another."""
    counts: dict[str, int] = {}
    for entry in judged.untrusted:
        counts[entry["what"]] = counts.get(entry["what"], 0) + 1
        if counts[entry["what"]] <= MOST_LISTED:
            yield entry
    for what, count in counts.items():
        if count > MOST_LISTED:
            yield {"what": what, "why": f"{count - MOST_LISTED} more of these are not listed"}
    if dropped:
        yield {"what": "more", "why": f"{dropped} events were about still other things, and were not kept"}


def as_text(value: Mapping[str, Any]) -> str:
    """Return the profile's file."""
    return HEADER + plain_yaml(value)
