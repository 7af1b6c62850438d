"""The verdicts of conversions as tables: each rule's, what they depend on, and why there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

from keytrail import plain_table
from keytrail.visible import visible

if TYPE_CHECKING:
    from keytrail.convert import Conversion


class Cell(NamedTuple):
    """A text that may begin with a verdict, which has a colour of its own."""

    verdict: str = ""
    text: str = ""


class Verdicts(NamedTuple):
    """One table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def show_verdicts(conversions: Sequence[Conversion], *, stderr: bool = False) -> None:
    """Print the verdicts, and what they depend on."""
    stream = sys.stderr if stderr else sys.stdout
    tables = [_by_rule(conversions)]
    if any(made.verdict != "exact" for made in conversions):
        tables.append(_why(conversions))
    if conversions and _is_plain(stream):
        for title, columns, rows in tables:
            cells = [[cell.verdict + visible(cell.text) for cell in row] for row in rows]
            print(*plain_table.lines(title, columns, cells), sep="\n", file=stream)
        return
    from keytrail import render  # what draws on a terminal takes as long to import as all rules to convert

    out = render.console(stderr=stderr)
    for title, columns, rows in tables:
        out.print(render.table(title, columns, [[render.begun(*cell) for cell in row] for row in rows]))


def _is_plain(stream: TextIO) -> bool:
    """Tell whether ``stream`` shows no colours and takes all letters, by what rich goes by."""
    forced = os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE")
    return not stream.isatty() and not forced and (stream.encoding or "").lower().startswith("utf")


def condition_letters(conversions: Sequence[Conversion]) -> dict[str, str]:
    """Return a short name for the text of each condition: a, b, …, z, aa, ab, …"""
    texts = dict.fromkeys(condition.text for made in conversions for condition in made.conditions)
    return {text: ("" if n < 26 else chr(96 + n // 26)) + chr(97 + n % 26) for n, text in enumerate(texts)}


def _by_rule(conversions: Sequence[Conversion]) -> Verdicts:
    """Each rule's verdict in each schema, with the letters of its conditions."""
    letters = condition_letters(conversions)
    schemas = list(dict.fromkeys(made.schema.name for made in conversions))
    by_rule: dict[str, dict[str, Cell]] = {}
    for made in conversions:
        texts = dict.fromkeys(condition.text for condition in made.conditions)
        cell = Cell(made.verdict, "".join(f" {letters[text]}" for text in texts))
        by_rule.setdefault(made.rule.stem, {})[made.schema.name] = cell
    rows = [(Cell(text=stem), *(found.get(name, Cell()) for name in schemas)) for stem, found in by_rule.items()]
    return Verdicts("Verdicts", ("rule", *schemas), rows)


def _why(conversions: Sequence[Conversion]) -> Verdicts:
    """What the letters of the verdicts mean, and why rules were refused."""
    columns = ("", "condition or reason", "who can break it")
    return Verdicts("Exact if, and why not", columns, list(_reasons(conversions)))


def _reasons(conversions: Sequence[Conversion]) -> Iterator[Sequence[Cell]]:
    breakers = {part.text: part.breaker for made in conversions for part in made.conditions}
    for text, letter in condition_letters(conversions).items():
        yield Cell(text=letter), Cell(text=text), Cell(text=breakers[text])
    for made in conversions:
        if made.error is not None:
            reason = f"{made.rule.stem}: {made.schema.name}: {made.error.message}"
            yield Cell(made.verdict), Cell(text=reason), Cell()
