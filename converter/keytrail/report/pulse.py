"""The pulse of the trails, and who reads their files: from the hits of the rules that describe.

Hits come in any order and some twice, so they are sorted by time before anything is said of gaps; where there are
many, on disk.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from keytrail.correlation_engine import Mark, Sorter
from keytrail.pack import Rule
from keytrail.report.facts import Facts, trail_of
from keytrail.times import iso

LOG, DIGEST, VALIDATED, FAILED = range(4)
# The rules by which a trail is followed, and what each shows.
TRAIL_NAMES: Mapping[str, str] = {
    "68a47fd6-f9fd-4601-8f6f-5189dbe2d6ce": "log_file_sealed",
    "5767dd67-5375-458e-bedb-4d3a6556f7a8": "digest_file_sealed",
    "41763e1c-b895-46ff-ac34-7a1d1684f13a": "trail_encryption_validated",
    "2b3cc46c-cf0c-4277-a6c3-a7f5be3206fd": "delivery_cannot_use_key",
}
TRAIL_RULES = dict(zip(TRAIL_NAMES, (LOG, DIGEST, VALIDATED, FAILED), strict=True))
# The rules whose hits are Decrypt calls that somebody pays for. One call can be a hit of several; each is one of these
# two, or both, so that the others add nothing to them.
EVERY_READ: Mapping[str, str] = {
    "d1b4a7d9-d8ac-4152-834e-f5cea6310b3e": "encrypted_log_file_read",
    "eb67484e-8b6c-474d-98c5-aee18f06901a": "log_decrypted_outside_s3",
}
READ_RULES: Mapping[str, str] = {
    **EVERY_READ,
    "8f519c8d-d01d-4b36-a488-c8d556d431e3": "digest_read_by_person",
    "47c5f837-c6d8-410c-81d9-d06d93ebfcc7": "cross_account_log_read",
}
UNDER_BUCKET_KEY = "4333b559-1150-4274-ba52-85ad3a42387d"  # delivery_under_bucket_key

DOLLARS_FOR_10_000 = 0.03
MOST_TRAILS, MOST_READERS, MOST_GAPS = 200, 50, 5
HOUR, DIGESTS_LATE = 3_600_000, 5_400_000
AT_ONCE = 100_000


@dataclass
class Gaps:
    """The times of one kind of deliveries, taken in their order: how many, from when to when, how far apart.

    ``longest`` are the longest gaps, each with the time at which it began; of gaps as long, the earliest.
    """

    count: int = 0
    first: int | None = None
    last: int | None = None
    longest: list[tuple[int, int]] = field(default_factory=list)
    _lengths: Counter[int] = field(default_factory=Counter)

    def add(self, moment: int) -> None:
        """Take the next time."""
        self.count += 1
        if self.last is None:
            self.first = moment
        else:
            gap = moment - self.last
            # By the second up to two hours, then by the minute: a bound on how many lengths there are.
            self._lengths[gap // 1000 * 1000 if gap < 2 * HOUR else min(gap // 60_000, 10**6) * 60_000] += 1
            insort(self.longest, (gap, self.last), key=lambda one: -one[0])
            del self.longest[MOST_GAPS:]
        self.last = moment

    @property
    def median(self) -> int | None:
        """The gap, in milliseconds, that half of the gaps do not exceed."""
        left = (self._lengths.total() + 1) // 2
        for length in sorted(self._lengths):
            left -= self._lengths[length]
            if left <= 0:
                return length
        return None

    @property
    def told(self) -> list[tuple[int, int]]:
        """The longest gap, and others that are as unusual: more than twice as long as half of them."""
        usual = 2 * (self.median or 0)
        return [one for place, one in enumerate(self.longest) if not place or one[0] > usual]

    def since(self, end: int | None) -> int:
        """Return how long before ``end`` the last one was."""
        return max(0, end - self.last) if end is not None and self.last is not None else 0


@dataclass
class TrailPulse:
    """What was seen of one trail."""

    trail: str
    logs: Gaps = field(default_factory=Gaps)
    digests: Gaps = field(default_factory=Gaps)
    validated: int = 0
    failures: Gaps = field(default_factory=Gaps)

    def take(self, kind: int, moment: int) -> None:
        """Take one event of it; they come by time."""
        if kind == VALIDATED:
            self.validated += 1
        else:
            {LOG: self.logs, DIGEST: self.digests, FAILED: self.failures}[kind].add(moment)

    @property
    def silent(self) -> bool:
        """Whether nothing at all was seen of it."""
        return not (self.logs.count or self.digests.count or self.validated or self.failures.count)

    def digests_said(self, end: int | None) -> str:
        """Say whether there is a digest every hour, as far as was seen until ``end``."""
        ends = (one for gaps in (self.logs, self.digests, self.failures) for one in (gaps.first, gaps.last))
        times = [one for one in (*ends, end) if one is not None]
        seen = max(times) - min(times) if times else 0
        if not self.digests.count:
            return "none" if seen > DIGESTS_LATE else "none, in less than the hour and a half that would tell"
        gap, since = self.digests.longest[0] if self.digests.longest else (0, None)
        if self.digests.since(end) > gap:
            gap, since = self.digests.since(end), self.digests.last
        if gap > DIGESTS_LATE and since is not None:
            return f"missing for {duration(gap)} after {iso(since)}"
        return "hourly" if self.digests.count > 1 else "one"


@dataclass
class Reader:
    """Who read encrypted logs: how many distinct Decrypt calls that made, of how many trails, from when to when."""

    name: str
    calls: int = 0
    first: int = 0
    last: int = 0
    trails: set[str] = field(default_factory=set)


@dataclass
class Pulses:
    """What was seen of the trails and their readers, the silent and then the busiest first.

    ``others`` are not listed, but counted.
    """

    trails: list[TrailPulse] = field(default_factory=list)
    other_trails: int = 0
    readers: list[Reader] = field(default_factory=list)
    other_readers: int = 0
    calls: int = 0
    timeless: int = 0

    @property
    def dollars(self) -> float:
        """What the calls cost, at the price that is assumed."""
        return self.calls * DOLLARS_FOR_10_000 / 10_000


class PulseTaker:
    """Takes the hits of the rules that describe, in any order.

    Parameters: ``trails`` are the site's own, of which is told whatever was seen of them, if only that it was nothing.
    """

    def __init__(self, trails: Iterable[str] = ()) -> None:
        self._trails = frozenset(trails)
        self._sorter = Sorter(AT_ONCE)
        self._timeless = 0

    def take(self, rule_id: str, record: Mapping[str, Any], said: Facts) -> None:
        """Take a hit; one of another rule is passed over."""
        kind = TRAIL_RULES.get(rule_id)
        if kind is None and (rule_id not in READ_RULES or said.error is not None):
            return
        if said.moment is None:
            self._timeless += 1
            return
        trail = trail_of(record)
        if kind is not None:
            self._sorter.add([Mark(("trail", trail), said.moment, kind, said.identity, ())])
        else:
            name = said.principal or "(nobody is named)"
            self._sorter.add([Mark(("reader", name), said.moment, 0, said.identity, (trail,))])

    def pulses(self) -> Pulses:
        """Return what was seen. It can be had once."""
        found = Pulses(timeless=self._timeless)
        readers: list[tuple[int, int, Reader]] = []
        for group, marks in groupby(self._sorter.sorted(), key=lambda mark: mark.group):
            if group[0] == "reader":
                _keep(readers, _reader(group[1], marks), found)
            elif len(found.trails) >= MOST_TRAILS and group[1] not in self._trails:
                found.other_trails += 1
            else:
                found.trails.append(_trail(group[1], marks))
        found.trails += map(TrailPulse, self._trails.difference(one.trail for one in found.trails))
        found.trails.sort(key=lambda one: (not one.silent, -one.logs.count, one.trail))
        found.readers = [one for *_, one in sorted(readers, key=lambda kept: (-kept[0], kept[2].name))]
        return found


def _keep(readers: list[tuple[int, int, Reader]], one: Reader, found: Pulses) -> None:
    """Keep the busiest readers; of two that are as busy, the one that came first."""
    found.calls += one.calls
    turn = found.other_readers + len(readers)
    heapq.heappush(readers, (one.calls, -turn, one))
    if len(readers) > MOST_READERS:
        heapq.heappop(readers)
        found.other_readers += 1


def _once(marks: Iterable[Mark]) -> Iterator[Mark]:
    """The marks without those of an event that came before: the same event can be delivered twice."""
    for _, same in groupby(marks, key=lambda mark: (mark.time, mark.rule, mark.identity)):
        yield next(same)


def _trail(name: str, marks: Iterable[Mark]) -> TrailPulse:
    found = TrailPulse(name)
    for mark in _once(marks):
        found.take(mark.rule, mark.time)
    return found


def _reader(name: str, marks: Iterable[Mark]) -> Reader:
    found = Reader(name)
    for mark in _once(marks):
        found.first = found.first if found.calls else mark.time
        found.last = mark.time
        found.calls += 1
        if len(found.trails) < MOST_TRAILS:
            found.trails.add(mark.value[0])
    return found


def uncounted(needed: Mapping[str, str], rules: Iterable[Rule], refused: Mapping[str, str]) -> list[str]:
    """Return why not all is counted that the ``needed`` rules, by id and name, would see: which of them see less."""
    there = {rule.id: rule for rule in rules}
    found = []
    for rule_id, name in needed.items():
        rule = there.get(rule_id)
        if rule is None:
            found.append(f"{name} is none of this hunt's rules")
        elif rule_id in refused:
            found.append(f"{name} was refused")
        elif rule.applied:
            titles = "; ".join(one.title for one in rule.applied)
            found.append(f"{name} does not see what is excluded from it: {titles}")
    return found


def duration(milliseconds: int) -> str:
    """Return a stretch of time in words, to about two figures."""
    seconds = milliseconds // 1000
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} min" + (f" {seconds % 60} s" if seconds % 60 and seconds < 600 else "")
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h" + (f" {seconds % 3600 // 60} min" if seconds % 3600 // 60 else "")
    return f"{seconds // 86400:,} d" + (f" {seconds % 86400 // 3600} h" if seconds % 86400 // 3600 else "")
