"""Levels that a site gives rules of the pack, with owner, reason and last day, and what a new pack makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date

from keytrail.errors import ProfileError
from keytrail.filters import today
from keytrail.pack import Levelled, Rule
from keytrail.profile import Level, Profile


def raised(rule: Rule) -> Rule:
    """Return a rule with the level that it has where it is about the site's own alone, if it says one."""
    level = rule.own.get("level_at_site")
    return rule if level is None else replace(rule, document={**rule.document, "level": level})


def levelled(rules: Iterable[Rule], profile: Profile, day: date | None = None) -> list[Rule]:
    """Return the rules with the levels that a site gives them; what has expired on ``day`` is not applied."""
    when = day or today()
    levels = {one.rule: one for one in profile.levels if one.exclusion.expires >= when}
    return [_levelled(rule, levels.get(rule.stem) or levels.get(rule.id)) for rule in rules]


def _levelled(rule: Rule, said: Level | None) -> Rule:
    if said is None:
        return rule
    owner, reason, expires = said.exclusion.owner, said.exclusion.reason, said.exclusion.expires
    note = Levelled(said.level, rule.level, owner, reason, expires)
    return replace(rule, document={**rule.document, "level": said.level}, levelled=note)


def wrong_levels(profile: Profile, known: Sequence[Rule]) -> list[ProfileError]:
    """Return what is wrong with a site's levels: a rule that there is not, or that has two."""
    names = {name: rule.id for rule in known for name in (rule.stem, rule.id)}
    seen: dict[str, int] = {}
    found = []
    for one in profile.levels:
        rule = names.get(one.rule)
        first = one.line if rule is None else seen.setdefault(rule, one.line)
        if rule is None:
            message, hint = f"there is no rule {one.rule!r} to give a level", "'keytrail rules' lists them"
        elif first != one.line:
            message, hint = f"{one.rule} has a level already, in line {first}", "take one of them out"
        else:
            continue
        found.append(ProfileError(message, path=profile.path, line=one.line, hint=hint))
    return found


def moved_levels(profile: Profile, known: Sequence[Rule]) -> list[str]:
    """Return a note for each level that a site gave a rule of which the pack now says something else than then.

    Parameters: of two rules of one name in ``known`` the first counts.
    """
    here = [raised(rule) if profile.trails else rule for rule in reversed(known)]
    now = {name: rule.level for rule in here for name in (rule.stem, rule.id)}
    return [
        f"{profile.path}:{one.line}: {one.rule} is {now[one.rule]} in the pack, no longer {one.instead_of}; "
        f"the site's {one.level} holds"
        for one in profile.levels
        if now.get(one.rule, one.instead_of) != one.instead_of
    ]


def expired_levels(profile: Profile, day: date | None = None) -> list[ProfileError]:
    """Return what has to be said of levels whose last day has gone by: they are not applied."""
    when = day or today()
    return [
        ProfileError(
            f"the level {one.level} of {one.rule} expired on {one.exclusion.expires.isoformat()} and is not applied",
            path=profile.path,
            line=one.line,
            hint=f"ask {one.exclusion.owner} whether it still holds ({one.exclusion.reason}), then give it a new day",
        )
        for one in profile.levels
        if one.exclusion.expires < when
    ]
