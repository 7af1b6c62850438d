"""The page: what was kept of the hits becomes one HTML file that needs nothing else, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from keytrail import __version__
from keytrail.errors import UsageError
from keytrail.files import write_text
from keytrail.pack import LEVELS, Rule
from keytrail.report.charts import by_level, strip
from keytrail.report.counting import Bars, Top
from keytrail.report.facts import cut
from keytrail.report.findings import Findings, Kept
from keytrail.report.pulse import (
    DOLLARS_FOR_10_000,
    EVERY_READ,
    TRAIL_NAMES,
    UNDER_BUCKET_KEY,
    duration,
    uncounted,
)
from keytrail.summary import Summary
from keytrail.times import iso
from keytrail.visible import visible

MOST_BARS, MOST_TOP, MOST_BAD = 96, 10, 100
WORST_FIRST = tuple(reversed(LEVELS))


@dataclass(frozen=True)
class About:
    """How a report came about: the command, what narrowed the rules, the stretch of time, and when it was made.

    ``generated`` is None for the time of ``SOURCE_DATE_EPOCH``, or for want of that, now.
    """

    command: str
    site: str | None = None
    filters: Sequence[str] = ()
    window: str | None = None
    generated: datetime | None = None

    def when(self) -> str:
        """Return the time at which the report was made. Raises :class:`UsageError` where that is set to no time."""
        fixed = os.environ.get("SOURCE_DATE_EPOCH")
        made = self.generated
        if made is None:
            try:
                made = datetime.now(timezone.utc) if not fixed else datetime.fromtimestamp(int(fixed), timezone.utc)
            except (ValueError, OverflowError, OSError) as error:
                hint = "it is a number of seconds since 1970"
                raise UsageError(f"SOURCE_DATE_EPOCH is no time: {fixed!r}", hint=hint) from error
        return made.isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class RuleRow:
    """A rule with what came of it, and how its hits lie in time."""

    number: int
    rule: Rule
    count: int
    line: Markup
    kept: Sequence[Kept]

    @property
    def description(self) -> str:
        """What the rule says of itself, in one line."""
        return cut(" ".join(str(self.rule.document.get("description") or "").split()), 1200)

    def listed(self, name: str) -> list[str]:
        """Return what the rule says under ``name``, as a list of texts."""
        own = self.rule.own
        found = own.get(name) if name in own else self.rule.document.get(name)
        return [cut(str(one), 1000) for one in found[:20]] if isinstance(found, list) else []


def write_report(path: Path, found: Findings, summary: Summary, about: About) -> None:
    """Write the report to ``path``, whole or not at all.

    Errors: UsageError where it cannot be written.
    """
    write_text(path, render(found, summary, about))


def render(found: Findings, summary: Summary, about: About) -> str:
    """Return the report as HTML. What was taken can be rendered once."""
    style = Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))  # noqa: S704 - our own
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    bars = found.times.bars(MOST_BARS)
    rows = list(_rows(found, summary, bars))
    levels = {level: sum(row.count for row in rows if row.rule.level == level) for level in WORST_FIRST}
    incidents = found.incidents.kept()
    incident_count = sum(row.count for row in rows if row.rule.kind == "correlation")
    return _template().render(
        about=about,
        version=__version__,
        generated=about.when(),
        style=style,
        style_hash=digest,
        summary=summary,
        found=found,
        first=summary.first if summary.first is not None else found.first,
        last=summary.last if summary.last is not None else found.last,
        rows=rows,
        levels=levels,
        bars=bars,
        chart=by_level(bars, {row.rule.id: row.rule.level for row in rows}),
        incidents=incidents,
        incident_count=incident_count,
        incident_left=incident_count - sum(len(one.hits) for one in incidents),
        pulses=found.pulse.pulses(),
        tops=[_top("Principals", found.principals), _top("Keys", found.keys), _top("Sources", found.sources)],
        trails_uncounted=uncounted(TRAIL_NAMES, found.rules, summary.refused),
        reads_uncounted=uncounted(EVERY_READ, found.rules, summary.refused),
        dollars=DOLLARS_FOR_10_000,
        under_bucket_key=found.counts[UNDER_BUCKET_KEY],
        unsaid=_unsaid(found.rules, summary),
        most_bad=MOST_BAD,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("keytrail", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": "{:,}".format, "clock": _clock, "duration": duration}
    return environment.get_template("page.html")


def _shown(value: object) -> object:
    """Whatever goes into the page passes here: what cannot be seen is written out, then the template escapes it."""
    if isinstance(value, Markup):
        return value
    return "–" if value is None else visible(str(value), keep="\n")


def _clock(moment: int | None, written: str | None = None) -> str | None:
    """A time as a person reads it; what is none, as it is written."""
    return written if moment is None else iso(moment).replace("T", " ").removesuffix("Z")


def _rows(found: Findings, summary: Summary, bars: Bars) -> Iterator[RuleRow]:
    """The rules that hit, the most severe first."""
    order = sorted(found.rules, key=lambda rule: (-LEVELS.index(rule.level), rule.stem))
    for number, rule in enumerate(order, start=1):
        count = max(summary.counts.get(rule.id, 0), found.counts[rule.id])
        if count:
            yield RuleRow(number, rule, count, strip(bars, rule.id), sorted(found.kept.get(rule.id, ()), key=_when))


def _when(kept: Kept) -> tuple[bool, int]:
    moment = kept.facts.moment
    return moment is None, moment or 0


@dataclass(frozen=True)
class TopList:
    """The values that were seen most, each with its share of the first one's count in percent."""

    title: str
    rows: Sequence[tuple[str, int, str, str]]
    others: int
    distinct: int | None
    missed: int


def _top(title: str, top: Top) -> TopList:
    most = top.most(MOST_TOP)
    rows = [(value, count, level, f"{100 * count / most[0][1]:.4g}") for value, count, level in most]
    return TopList(title, rows, top.others(MOST_TOP), top.distinct(), top.missed)


@dataclass(frozen=True)
class Unsaid:
    """A rule that says nothing, or less than it seems to, and why."""

    rule: Rule
    state: str
    reason: str


def _unsaid(rules: Sequence[Rule], summary: Summary) -> list[Unsaid]:
    states = (("refused", summary.refused), ("blind", summary.blind), ("doubtful", summary.doubtful))
    return [Unsaid(rule, state, why[rule.id]) for state, why in states for rule in rules if rule.id in why]
