"""What a person sees: tables on a terminal, coloured only there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keytrail.pack import LEVELS, Rule, needs_profile

if TYPE_CHECKING:
    from keytrail.convert import Conversion
    from keytrail.explain import Explanation
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


def console(*, stderr: bool = False) -> Console:
    """Return a console that writes plain text of a fixed width where it is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False, soft_wrap=False)


def safe(value: object) -> str:
    """Return text from a log or a rule as it may be shown: no markup, no control characters."""
    text = "-" if value is None else str(value)
    return escape("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text))


def coloured(word: str) -> str:
    """Return a level or a verdict in its colour."""
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else safe(word)


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table with one line a row; cells are rich markup, so pass log content through :func:`safe`."""
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


def verdict_table(conversions: Sequence[Conversion]) -> Table:
    """Each rule's verdict in each schema, with the letters of its conditions."""
    letters = condition_letters(conversions)
    schemas = list(dict.fromkeys(made.schema.name for made in conversions))
    by_rule: dict[str, dict[str, Conversion]] = {}
    for made in conversions:
        by_rule.setdefault(made.rule.stem, {})[made.schema.name] = made
    rows = [
        (safe(stem), *(_verdict(found[name], letters) if name in found else "" for name in schemas))
        for stem, found in by_rule.items()
    ]
    return table("Verdicts", ("rule", *schemas), rows)


def _verdict(made: Conversion, letters: Mapping[str, str]) -> str:
    texts = dict.fromkeys(condition.text for condition in made.conditions)
    return f"{coloured(made.verdict)} {' '.join(letters[text] for text in texts)}".strip()


def condition_letters(conversions: Sequence[Conversion]) -> dict[str, str]:
    """Return a short name for the text of each condition: a, b, …, z, aa, ab, …"""
    texts = dict.fromkeys(condition.text for made in conversions for condition in made.conditions)
    return {text: ("" if n < 26 else chr(96 + n // 26)) + chr(97 + n % 26) for n, text in enumerate(texts)}


def why_table(conversions: Sequence[Conversion]) -> Table:
    """What the letters of the verdicts mean, and why rules were refused."""
    breakers = {part.text: part.breaker for made in conversions for part in made.conditions}
    rows = [(letter, safe(text), safe(breakers[text])) for text, letter in condition_letters(conversions).items()]
    refusals = [made for made in conversions if made.error is not None]
    rows += [(coloured(made.verdict), safe(f"{made.rule.stem}: {_reason(made)}"), "") for made in refusals]
    return table("Exact if, and why not", ("", "condition or reason", "who can break it"), rows)


def _reason(made: Conversion) -> str:
    return f"{made.schema.name}: {made.error.message}" if made.error is not None else ""


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


def hits_table(hits: Sequence[AnyHit]) -> Table:
    """The most severe hits, newest last, informational ones left to the counts."""
    shown = [(_hit_row(hit), hit.rule.level) for hit in hits if hit.rule.level != "informational"]
    shown.sort(key=lambda pair: (-LEVELS.index(pair[1]), str(pair[0][0])))
    rows = [(coloured(level), *map(safe, row)) for row, level in shown[:MOST_ROWS]]
    left = f", the first {MOST_ROWS} of {len(shown)}" if len(shown) > MOST_ROWS else ""
    return table(f"Hits{left}", ("level", "time (UTC)", "rule", "event", "principal or group", "from"), rows)


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


def explanation_tree(found: Explanation, say: Callable[[str], None]) -> None:
    """Say why an event matches a rule or does not, line by line."""
    say(f"[bold]{safe(found.rule.title)}[/] {'[green]matches[/]' if found.matches else '[red]does not match[/]'}")
    for condition in found.conditions:
        say(f"condition: {safe(condition)}")
    for name, held in found.selections.items():
        say(f"  {_mark(held)} {safe(name)}")
        for line in found.lines:
            if line.selection == name:
                values = ", ".join(map(repr, line.found)) or ("an object" if line.present else "absent")
                shown = values if len(values) <= 300 else values[:300] + "…"
                say(f"      {_mark(line.holds)} {safe(line.asked)}: {safe(line.wanted)}   [dim]event: {safe(shown)}[/]")


def _mark(held: bool) -> str:
    return "[green]✓[/]" if held else "[red]✗[/]"


def show_verdicts(conversions: Sequence[Conversion], out: Console) -> None:
    """Print the verdicts, and what they depend on."""
    out.print(verdict_table(conversions))
    if any(made.verdict != "exact" for made in conversions):
        out.print(why_table(conversions))
