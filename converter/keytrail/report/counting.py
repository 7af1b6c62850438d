"""Counts whose memory has a bound, whatever is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from keytrail.pack import LEVELS

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
# How wide a bar in time may be; those up to a day divide it.
_WIDTHS = (
    *(minutes * MINUTE for minutes in (5, 10, 15, 30, 60, 120, 180, 360, 720)),
    *(days * DAY for days in (1, 2, 7, 14, 28, 91, 365, 3650, 36500)),
)


@dataclass
class Top:
    """The values that are seen most, with the worst level that each was seen with.

    Of at most ``capacity`` values the counts are kept. Where there are more, the least of them are given up (the
    method of Misra and Gries): a count that is kept may then be too low by ``missed``, and never is too high.
    """

    capacity: int = 2000
    total: int = 0
    missed: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _worst: dict[str, int] = field(default_factory=dict)

    def add(self, value: str, level: str) -> None:
        """Count a value once more."""
        self.total += 1
        self._counts[value] += 1
        place = LEVELS.index(level)
        if place > self._worst.get(value, -1):
            self._worst[value] = place
        if len(self._counts) > 2 * self.capacity:
            self._give_up()

    def _give_up(self) -> None:
        taken = sorted(self._counts.values(), reverse=True)[self.capacity]
        self.missed += taken
        self._counts = Counter({value: count - taken for value, count in self._counts.items() if count > taken})
        self._worst = {value: self._worst[value] for value in self._counts}

    def most(self, number: int) -> list[tuple[str, int, str]]:
        """Return the values with the highest counts, each with its count and worst level; ties by the value."""
        order = sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(value, count, LEVELS[self._worst[value]]) for value, count in order[:number]]

    def others(self, number: int) -> int:
        """Return how many of all that was counted are not among the counts of ``most(number)``."""
        return self.total - sum(count for _, count, _ in self.most(number))

    def distinct(self) -> int | None:
        """Return how many different values there were; None where they were too many to tell."""
        return None if self.missed else len(self._counts)


@dataclass
class Times:
    """Counts by rule and five minutes; by longer stretches where there would be too many of them."""

    most: int = 40_000
    width: int = _WIDTHS[0]
    _counts: dict[str, Counter[int]] = field(default_factory=dict)
    _held: int = 0

    def add(self, rule: str, moment: int) -> None:
        """Count a hit of a rule at a time in milliseconds since 1970."""
        counts = self._counts.setdefault(rule, Counter())
        place = moment // self.width
        self._held += place not in counts
        counts[place] += 1
        if self._held > self.most:
            self._widen(next((wider for wider in _WIDTHS if wider > self.width), None))

    def _widen(self, wider: int | None) -> None:
        if wider is None:  # so many rules, that each has no more than a few counts
            return
        self._counts = {rule: _wider(counts, self.width, wider) for rule, counts in self._counts.items()}
        self.width = wider
        self._held = sum(map(len, self._counts.values()))

    def bars(self, most: int) -> Bars:
        """Return the counts in at most ``most`` stretches of the same width, the whole of the time in them.

        A few hits that lie far apart from all others (one in a hundred, at most) are left out: one wrong time would
        press the rest into one bar. They are counted in ``outside``.
        """
        whole: Counter[int] = Counter()
        for counts in self._counts.values():
            whole.update(counts)
        if not whole:
            return Bars(0, self.width, 0, {}, 0)
        first, last = _stretch(whole)
        fitting = (one for one in _WIDTHS if one >= self.width)
        span = (last - first + 1) * self.width
        width = next((one for one in fitting if span / one <= most - 1), max(span, self.width))
        # Up to a day wide, bars stand where the clock's do; longer ones begin at the first day.
        floor = min(width, DAY)
        begin = first * self.width // floor * floor
        number = ((last + 1) * self.width - begin + width - 1) // width
        rows = {}
        for rule, counts in self._counts.items():
            row = [0] * number
            for place, count in counts.items():
                if first <= place <= last:
                    row[(place * self.width - begin) // width] += count
            rows[rule] = row
        return Bars(begin, width, number, rows, sum(count for at, count in whole.items() if not first <= at <= last))


def _wider(counts: Mapping[int, int], width: int, wider: int) -> Counter[int]:
    made: Counter[int] = Counter()
    for place, count in counts.items():
        made[place * width // wider] += count
    return made


def _stretch(whole: Mapping[int, int]) -> tuple[int, int]:
    """From where to where nearly all counts lie, where that is much less than from the first to the last."""
    places = sorted(whole)
    left = sum(whole.values()) // 100
    low, high, spare = 0, len(places) - 1, left
    while low < high and spare:
        # Give up whichever end has the wider gap, as long as that is wider than all the rest.
        ends = [(places[low + 1] - places[low], low), (places[high] - places[high - 1], high)]
        gap, end = max(ends)
        if whole[places[end]] > spare or gap <= places[high] - places[low] - gap:
            break
        spare -= whole[places[end]]
        low, high = (low + 1, high) if end == low else (low, high - 1)
    inner, outer = places[high] - places[low] + 1, places[-1] - places[0] + 1
    return (places[low], places[high]) if inner * 4 <= outer else (places[0], places[-1])


@dataclass(frozen=True)
class Bars:
    """Counts by rule in ``number`` stretches of time, ``width`` milliseconds each, from ``begin`` on."""

    begin: int
    width: int
    number: int
    rows: Mapping[str, list[int]]
    outside: int

    def starts(self) -> Iterator[int]:
        """Yield the time at which each stretch begins."""
        return (self.begin + place * self.width for place in range(self.number))
