"""What a person sees: tables on a terminal, coloured only there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from keytrail import plain_table
from keytrail.pack import LEVELS, Rule, needs_profile
from keytrail.visible import visible

if TYPE_CHECKING:
    from keytrail.hunt import AnyHit
    from keytrail.proof import Report

_COLOURS = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "informational": "dim",
    "exact": "green",
    "exact if": "yellow",
    "refused": "red",
    "error": "bold red",
}
MOST_ROWS = 40
WIDE = 130  # columns, for a table of hits with the names of principals in it
_MARKUP = re.compile(r"(\\+)|\[")


def console(*, stderr: bool = False) -> Console:
    """Return a console that writes plain text of a fixed width where it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else plain_table.WIDTH
    # A log's :key: is no picture of a key.
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, soft_wrap=False)


def safe(value: object) -> str:
    """Return text from a log or a rule as it may be shown: no markup, no control characters."""
    text = "-" if value is None else str(value)
    return _MARKUP.sub(_escaped, visible(text))


def _escaped(found: re.Match[str]) -> str:
    """Whatever comes next, rich shows this as it is; its own ``escape`` loses some backslashes and adds others."""
    backslashes = found[1]
    return f"{backslashes * 2}[none][/]" if backslashes else r"\["


def coloured(word: str) -> str:
    """Return a level or a verdict in its colour."""
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else safe(word)


def begun(word: str, text: str) -> Text:
    """Return a text that begins with a level or a verdict in its colour, as a cell; nothing in it is markup."""
    return Text.assemble((word, _COLOURS.get(word, "")), visible(text))


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Return a table with one line a row; texts in cells are rich markup: pass log content through :func:`safe`."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def rules_table(rules: Sequence[Rule]) -> Table:
    """The pack, one rule a line."""
    rows = [
        (safe(rule.path.parent.name), safe(rule.stem), coloured(rule.level), safe(rule.title) + _waiting(rule))
        for rule in rules
    ]
    return table(f"{len(rules)} rules", ("room", "rule", "level", "title"), rows)


def _waiting(rule: Rule) -> str:
    return " [dim](needs a profile)[/]" if needs_profile(rule) else ""


def proof_table(report: Report) -> Table:
    """The checks by schema and engine."""
    keys = sorted(report.checks)
    failed = {key: sum(_about(failure.what, key) for failure in report.failures) for key in keys}
    rows = [
        (
            name,
            engine,
            f"{report.checks[name, engine]:,}",
            f"{report.outside[name, engine]:,}",
            f"{failed[name, engine]:,}",
        )
        for name, engine in keys
    ]
    return table("Checks", ("schema", "engine", "checks", "outside a condition", "divergences"), rows)


def _about(what: str, key: tuple[str, str]) -> bool:
    return f"schema {key[0]}," in what and f", {key[1]} says" in what


class WorstHits:
    """Keeps the most severe hits of those that it takes, and of these the earliest; informational ones are left to the
    counts."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._kept: list[tuple[tuple[int, str], str, tuple[object, ...]]] = []
        self._count = 0

    def take(self, hit: AnyHit) -> None:
        """Take one hit."""
        if hit.rule.level == "informational":
            return
        row = _hit_row(hit)
        self._count += 1
        self._kept.append(((-LEVELS.index(hit.rule.level), str(row[0])), hit.rule.level, row))
        if len(self._kept) >= 20 * self._most:
            self._sort()

    def _sort(self) -> None:
        self._kept.sort(key=lambda kept: kept[0])
        del self._kept[self._most :]

    def show(self, out: Console) -> None:
        """Print those that were kept: as a table, or where that would be too narrow to be read in some lines each."""
        self._sort()
        left = f", the first {len(self._kept)} of {self._count:,}" if self._count > len(self._kept) else ""
        title = f"Hits{left}"
        if out.width >= WIDE:
            rows = [(coloured(level), *map(safe, row)) for _, level, row in self._kept]
            out.print(table(title, ("level", "time (UTC)", "rule", "event", "principal or group", "from"), rows))
            return
        out.print(f"[italic]{title}[/]\n")
        for _, level, (time, rule, what, who, source) in self._kept:
            out.print(f"{coloured(level)} {safe(time)} {safe(rule)}", soft_wrap=True)
            said = (safe(what), *(safe(one) for one in (who, source) if one is not None))
            out.print(f"    {'  '.join(said)}", soft_wrap=True)
        out.print()


def _hit_row(hit: AnyHit) -> tuple[object, ...]:
    fields = hit.as_dict()
    from keytrail.correlation_hunt import CorrelationHit

    if isinstance(hit, CorrelationHit):
        what = f"{hit.episode.events:,} events until {fields['to']}"
        return fields["from"], fields["rule"], what, ", ".join(hit.episode.group) or None, None
    return tuple(fields[name] for name in ("event_time", "rule", "event_name", "principal", "source_ip"))


def counts_table(rules: Mapping[str, Rule], counts: Mapping[str, int], refused: Mapping[str, str]) -> Table:
    """How often each rule hit; the refused ones with their reason."""
    order = sorted(rules.values(), key=lambda rule: (-LEVELS.index(rule.level), rule.stem))
    rows = [
        (
            coloured(rule.level),
            safe(rule.stem),
            safe(refused[rule.id]) if rule.id in refused else f"{counts[rule.id]:,}",
        )
        for rule in order
        if rule.id in refused or counts.get(rule.id)
    ]
    silent = sum(1 for rule in order if rule.id not in refused and not counts.get(rule.id))
    return table(f"Hits by rule ({silent} rules without a hit)", ("level", "rule", "hits"), rows)
