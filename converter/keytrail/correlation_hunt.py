"""Correlations in a hunt: the events of their rules are marked on the way, and the windows decided at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from keytrail import alerts, correlation_engine
from keytrail.correlation import Episode, Group, Searched
from keytrail.correlation_engine import AT_ONCE, Event, Mark, Marker, Sorter
from keytrail.pack import Rule
from keytrail.profile import Profile
from keytrail.schemas import Schema
from keytrail.times import iso


@dataclass(frozen=True)
class CorrelationHit:
    """One hit of a correlation: a group, a time and the events that make it up."""

    rule: Rule
    episode: Episode

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as JSON has it; ``events`` counts those without an id too."""
        episode = self.episode
        return {
            "rule_id": self.rule.id,
            "rule": self.rule.stem,
            "title": self.rule.title,
            "level": self.rule.level,
            "event_ids": list(episode.event_ids),
            "events": episode.events,
            "group": dict(zip(self.rule.correlation.group_by, episode.group, strict=True)),
            "from": iso(episode.start),
            "to": iso(episode.end),
            "alert_id": alerts.of_group(self.rule.id, episode.group, episode.start),
        }


class Collector:
    """Takes the events of one correlation's rules, in any order, and says in the end what they amount to.

    ``known`` are the groups that are expected to have events from the beginning.
    """

    def __init__(self, rule: Rule, schema: Schema, known: frozenset[Group] = frozenset()) -> None:
        self.rule = rule
        self.known = known
        self._markers = {name: Marker(rule.correlation, name, schema) for name in rule.correlation.rules}
        self._sorter = Sorter()

    def share(self, collectors: int) -> None:
        """Hold no more than what is this one's share of the memory for marks. To be said before any are taken."""
        self._sorter = Sorter(max(AT_ONCE // collectors, 1))

    @property
    def members(self) -> frozenset[str]:
        """The members of a record that its marks need, where an index holds records as they are."""
        made = self.rule.correlation
        fields = [name for rule in made.rules for name in (*made.group_fields(rule), *made.value_fields(rule))]
        return frozenset(name.partition(".")[0] for name in (*fields, "eventID", "eventTime"))

    def marks(self, name: str, event: Event) -> list[Mark]:
        """Return what to take for an event that the rule called ``name`` matches."""
        return list(self._markers[name].marks(event))

    def take(self, marks: Iterable[Mark]) -> None:
        """Take marks, of whatever process."""
        self._sorter.add(marks)

    def hits(self, *stretches: tuple[int, int]) -> Iterator[CorrelationHit]:
        """Yield the hits in what was searched: stretches of time, both ends included, in order. Asked once."""
        searched = [Searched(start, end, self.known) for start, end in stretches]
        for episode in correlation_engine.episodes(self.rule.correlation, self._sorter.sorted(), *searched):
            yield CorrelationHit(self.rule, episode)


@dataclass
class Span:
    """The first and the last event time that was read: what is known to be in the logs, and no more."""

    first: int | None = None
    last: int | None = None

    def take(self, moment: int | None) -> None:
        """Take a time in milliseconds since 1970; None is none."""
        if moment is None:
            return
        if self.first is None or moment < self.first:
            self.first = moment
        if self.last is None or moment > self.last:
            self.last = moment

    def add(self, other: Span) -> None:
        """Take the times of another."""
        self.take(other.first)
        self.take(other.last)


def known_groups(rule: Rule, profile: Profile | None) -> frozenset[Group]:
    """Return the groups that a site's profile expects to have events: its trails, for ``known: trails``."""
    if profile is None or rule.own.get("known") != "trails":
        return frozenset()
    return frozenset((trail.arn,) for trail in profile.trails)
