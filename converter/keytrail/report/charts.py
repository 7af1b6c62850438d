"""Charts as inline SVG: numbers only, so that nothing of a log gets into them, and coloured by the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from keytrail.pack import LEVELS
from keytrail.report.counting import DAY, HOUR, MINUTE, Bars
from keytrail.times import iso

HEIGHT, STRIP = 100, 20


@dataclass(frozen=True)
class Chart:
    """Counts by level in time, as bars one upon the other, and as rows of a table."""

    bars: Markup
    number: int
    highest: int
    ticks: Sequence[str]
    levels: Sequence[str]
    table: Sequence[tuple[str, Sequence[int]]]
    stretch: str


def by_level(bars: Bars, level_of: Mapping[str, str]) -> Chart:
    """Return the chart of all hits but those that only describe; of these where there are no others."""
    sums = {level: [0] * bars.number for level in LEVELS}
    for rule, row in bars.rows.items():
        if rule in level_of:
            mine = sums[level_of[rule]]
            sums[level_of[rule]] = [have + more for have, more in zip(mine, row, strict=True)]
    levels = [level for level in LEVELS[1:] if any(sums[level])] or [level for level in LEVELS if any(sums[level])]
    stacks = [sum(sums[level][place] for level in levels) for place in range(bars.number)]
    highest = max(stacks, default=0)
    drawn = []
    base = [0] * bars.number
    for level in reversed(levels):
        path = "".join(
            _bar(place, base[place], count, highest, HEIGHT) for place, count in enumerate(sums[level]) if count
        )
        drawn.append(Markup('<path class="{}" d="{}"/>').format(f"fill-{level}", path))
        base = [low + count for low, count in zip(base, sums[level], strict=True)]
    starts = [_short(moment, bars.width) for moment in bars.starts()]
    rows = [
        (start, [sums[level][place] for level in reversed(levels)])
        for place, start in enumerate(starts)
        if stacks[place]
    ]
    ends = [starts[0], starts[bars.number // 2], starts[-1]] if bars.number > 2 else starts
    shown = tuple(reversed(levels))
    return Chart(Markup("").join(drawn), bars.number, highest, ends, shown, rows, _stretch(bars.width))


def strip(bars: Bars, rule: str) -> Markup:
    """Return one rule's counts in time, as the path of small bars; their scale is the rule's own."""
    row = bars.rows.get(rule, ())
    highest = max(row, default=0)
    return Markup("").join(_bar(place, 0, count, highest, STRIP) for place, count in enumerate(row) if count)


def _bar(place: int, base: int, count: int, highest: int, height: int) -> str:
    """A bar as a path. What is there is seen: it is at least a thirtieth high."""
    tall = max(count / highest * height, height / 30)
    top = max(height - base / highest * height - tall, 0)
    return f"M{place + 0.08:g} {top:.4g}h.84v{tall:.4g}h-.84z"


def _short(moment: int, width: int) -> str:
    text = iso(moment)
    return text[:10] if width >= DAY else f"{text[:10]} {text[11:16]}"


def _stretch(width: int) -> str:
    for unit, one, many in ((DAY, "a day", "days"), (HOUR, "an hour", "hours"), (MINUTE, "a minute", "minutes")):
        if width >= unit:
            return one if width == unit else f"{width // unit:,} {many}"
    return f"{width} ms"
