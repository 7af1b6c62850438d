"""A rule's hits in a corpus: counted by who, what, where and when, and kept once for each different kind of them.

Memory is bounded whatever the corpus: of each field the most frequent values are counted and the rest are "others"; of
hits that differ in nothing that a filter could ask for, one record is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from keytrail.errors import Refused
from keytrail.hunt import Hunt
from keytrail.learn import PERIODS, WEEK
from keytrail.pack import Rule
from keytrail.paths import text, values
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.times import DAY, iso, milliseconds
from keytrail.tuning.fields import (
    ADDRESS,
    BUCKET,
    BY_FIELD,
    CALL,
    INVOKED_BY,
    RECIPIENT,
    SOURCE,
    TYPE,
    WHATS,
    Actor,
    actor_of,
    keys_of,
    session_of,
)
from keytrail.tuning.labels import TRUE, Labels
from keytrail.tuning.reach import Reach

Record = Mapping[str, Any]
MOST_COUNTED = 1_000  # values of a field that are told apart at the end; up to twice as many on the way
MOST_KINDS = 20_000
MOST_KINDS_EACH = 1_000  # of one principal, so that a flood of one does not hide the others
MOST_DAYS = 4_000
MOST_BYTES = 256 << 20  # of the records that are kept
HOUR = 3_600_000
SPREAD = 0.5  # of the corpus: how long something must have been going on to be routine
LONGEST = 300

COUNTED: Mapping[str, Callable[[Record], Iterator[str]]] = {
    "principal": lambda record: iter([actor_of(record).name]),
    "address": lambda record: _texts(record, ADDRESS),
    "key": keys_of,
    "bucket": lambda record: _texts(record, BUCKET),
    "user agent": lambda record: _texts(record, "userAgent"),
    "session name": lambda record: iter(filter(None, [session_of(record)])),
    "account": lambda record: _texts(record, RECIPIENT),
    "region": lambda record: _texts(record, "awsRegion"),
}


def _texts(record: Record, name: str) -> Iterator[str]:
    return (text(value) for value in values(record, name))


class Top:
    """Counts values; of more than it can hold, the rarest become others. A frequent value's count is near the truth."""

    def __init__(self, most: int = MOST_COUNTED) -> None:
        self.counts: Counter[str] = Counter()
        self.others = 0
        self._most = most

    def add(self, value: str) -> None:
        """Count a value once."""
        self.counts[value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"] += 1
        if len(self.counts) > 2 * self._most:
            self._prune()

    def _prune(self) -> None:
        kept = Counter(dict(self.counts.most_common(self._most)))
        self.others += self.counts.total() - kept.total()
        self.counts = kept

    def as_dict(self, most: int) -> dict[str, Any]:
        """Return the most frequent values with their counts, and how many events had others."""
        shown = self.counts.most_common(most)
        left = self.counts.total() - sum(count for _, count in shown) + self.others
        return {"values": [{"value": value, "hits": count} for value, count in shown], "others": left}


@dataclass
class Times:
    """How many events, from when to when, and in how many hours and days (no more of them than matter)."""

    events: int = 0
    first: int | None = None
    last: int | None = None
    hours: set[int] = field(default_factory=set)
    days: set[int] = field(default_factory=set)

    def add(self, moment: int | None) -> None:
        """Count an event."""
        self.events += 1
        if moment is None:
            return
        self.first = moment if self.first is None else min(self.first, moment)
        self.last = moment if self.last is None else max(self.last, moment)
        for periods, period in ((self.hours, moment // HOUR), (self.days, moment // DAY)):
            if len(periods) < WEEK:
                periods.add(period)


@dataclass
class Kind:
    """Hits that differ in nothing that a filter could ask for: one of them, and what is known of all."""

    record: Record
    actor: Actor
    seen: Times = field(default_factory=Times)
    true: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)

    @property
    def hits(self) -> int:
        """How many hits there are of the kind."""
        return self.seen.events


@dataclass
class Survey:
    """What a corpus holds of a rule's hits. ``unkept`` hits were counted, and are of too many kinds to keep."""

    rule: Rule
    labels: Labels = field(default_factory=Labels)
    hits: int = 0
    records: int = 0
    untimed: int = 0
    first: int | None = None
    last: int | None = None
    kinds: dict[object, Kind] = field(default_factory=dict)
    unkept: int = 0
    by: dict[str, Top] = field(default_factory=lambda: {name: Top() for name in COUNTED})
    days: Counter[int] = field(default_factory=Counter)
    hours: Counter[int] = field(default_factory=Counter)
    accounts: Top = field(default_factory=Top)
    problems: list[str] = field(default_factory=list)
    _each: Counter[str] = field(default_factory=Counter)
    _bytes: int = 0

    @property
    def days_long(self) -> float | None:
        """How long the corpus is, in days; None where no record tells its time."""
        if self.first is None or self.last is None or self.first == self.last:
            return None
        return (self.last - self.first) / DAY

    @property
    def span(self) -> dict[str, Any] | None:
        """From when to when the records are."""
        if self.first is None or self.last is None:
            return None
        return {"from": iso(self.first), "to": iso(self.last), "days": self.days_long}

    @property
    def period(self) -> str:
        """What routine is counted in: days in a corpus of a week or more, else hours."""
        return "day" if (self.days_long or 0) >= WEEK - 1 else "hour"

    def burst(self, kinds: Sequence[Kind]) -> str | None:
        """Return why hits are no routine: a burst, or what has begun of late, can be whoever has just broken in."""
        word = self.period
        count = len(set().union(*(kind.seen.days if word == "day" else kind.seen.hours for kind in kinds)))
        if count < PERIODS:
            return f"seen in {count} {word}{'' if count == 1 else 's'} only"
        times = [time for kind in kinds for time in (kind.seen.first, kind.seen.last)]
        known = [time for time in times if time is not None]
        long = max(known) - min(known)
        if self.first is None or self.last is None or long < SPREAD * (self.last - self.first):
            return f"seen from {iso(min(known))} to {iso(max(known))} only, less than half of the time"
        return None

    @property
    def labelled(self) -> Counter[str]:
        """How many hits have each label."""
        return sum((kind.labels for kind in self.kinds.values()), Counter())

    def take(self, record: Record, path: str, number: int) -> None:
        """Count a hit."""
        self.hits += 1
        for name, read in COUNTED.items():
            for value in read(record):
                self.by[name].add(value)
        moment = milliseconds(record.get("eventTime"))
        if moment is None:
            self.untimed += 1
        elif len(self.days) < MOST_DAYS or moment // DAY in self.days:
            self.days[moment // DAY] += 1
            self.hours[moment % DAY // HOUR] += 1
        label = self.labels.of(record, path, number)
        kind = self._kind(record, label is not None and label[1] == TRUE)
        if kind is None:
            self.unkept += 1
            return
        kind.seen.add(moment)
        if label is not None:
            kind.labels[label[1]] += 1
            if label[1] == TRUE and len(kind.true) < WEEK:
                kind.true.append(label[0])

    def _kind(self, record: Record, wanted: bool) -> Kind | None:
        """The kind that a hit is of; None where there are too many, unless it is ``wanted`` whatever there is."""
        actor = actor_of(record)
        key = (actor.name, *(tuple(_told(record, name)) for name in _TELLING))
        found = self.kinds.get(key)
        room = len(self.kinds) < MOST_KINDS and self._each[actor.name] < MOST_KINDS_EACH
        if found is None and (room or wanted):
            size = len(orjson.dumps(record, default=str))
            if self._bytes + size <= MOST_BYTES or wanted:
                self._bytes += size
                self._each[actor.name] += 1
                found = self.kinds[key] = Kind(record, actor)
        return found

    def span_take(self, record: Record) -> None:
        """Take any record: how long the corpus is, and whose."""
        self.records += 1
        for account in _texts(record, RECIPIENT):
            self.accounts.add(account)
        moment = milliseconds(record.get("eventTime"))
        if moment is not None:
            self.first = moment if self.first is None else min(self.first, moment)
            self.last = moment if self.last is None else max(self.last, moment)


# Hits that differ in none of these, nor in who acts, are treated the same by every filter that is proposed.
_TELLING = (SOURCE, CALL, TYPE, INVOKED_BY, *WHATS, RECIPIENT, ADDRESS)


def _told(record: Record, name: str) -> Iterator[str]:
    """The field's values; those that no proposal can ask for are all the same, however many somebody makes up."""
    return (value if name == TYPE or BY_FIELD[name].takes(value) else "" for value in _texts(record, name))


def look(
    rule: Rule, reader: Reader, labels: Labels | None = None, progress: Callable[[int, int], None] = lambda *_: None
) -> Survey:
    """Read a corpus and return what it holds of the rule's hits.

    Raises :class:`~keytrail.errors.Refused` where the rule cannot be evaluated. ``progress`` is told how many records
    and hits there are, now and then.
    """
    schema = get_schema("keytrail")
    hunt = Hunt.prepare([rule], schema)
    if rule.id in hunt.refused:
        raise Refused(hunt.refused[rule.id], path=rule.path, line=rule.line)
    found, reach = Survey(rule, labels or Labels()), Reach(rule, schema)
    for record, path, number in reader:
        found.span_take(record)
        reach.take(record)
        if any(True for _ in hunt.matching(record)):
            found.take(record, path, number)
        if found.records % 20_000 == 0:
            progress(found.records, found.hits)
    if found.records and not found.hits:
        found.problems = reach.problems()
    return found
