"""The ways in which ``hunt`` prints hits: as they come, or in the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import click

from keytrail import render
from keytrail.commands._common import print_json
from keytrail.hunt import AnyHit
from keytrail.pack import Rule
from keytrail.summary import Summary
from keytrail.visible import visible


class Output(Protocol):
    """Takes the hits one by one, and in the end what was read. ``streaming`` ones print hits as they come."""

    streaming: bool

    def take(self, hit: AnyHit) -> None: ...

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None: ...


class Table:
    """A table of the most severe hits, in the end."""

    streaming = False

    def __init__(self) -> None:
        self.hits = render.WorstHits()

    def take(self, hit: AnyHit) -> None:
        """Take one hit."""
        self.hits.take(hit)

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None:
        """Print the counts, the hits and what was read."""
        out = render.console()
        out.print(render.counts_table({rule.id: rule for rule in rules}, summary.counts, summary.refused))
        self.hits.show(out)
        hits = sum(summary.counts.values())
        out.print(
            f"{summary.files:,} files, {summary.records:,} records read, {summary.searched:,} searched, "
            f"{hits:,} hits, {len(summary.refused)} rules refused, {len(summary.blind)} blind, "
            f"{summary.bad_count:,} bad inputs"
        )


class Json:
    """One object with everything, in the end."""

    streaming = False

    def __init__(self) -> None:
        self.hits: list[dict[str, Any]] = []

    def take(self, hit: AnyHit) -> None:
        """Take one hit."""
        self.hits.append(hit.as_dict())

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None:
        """Print it."""
        shape = {"hits": self.hits, "counts": dict(summary.counts), "refused": dict(summary.refused)}
        said = {"blind": dict(summary.blind), "doubtful": dict(summary.doubtful)}
        print_json({**shape, **said, "read": summary.read()})


class Lines:
    """One JSON object a line for each hit, as it is found; each line is written out at once."""

    streaming = True

    def take(self, hit: AnyHit) -> None:
        """Print one hit."""
        click.echo(json.dumps(hit.as_dict()))

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None:
        """Nothing is left to print."""


COLUMNS = (
    *("rule_id", "rule", "title", "level", "alert_id", "event_id", "event_time", "event_source", "event_name"),
    *("account", "region", "principal", "source_ip", "error_code", "path", "record"),
    *("document_id", "events", "group", "from", "to", "event_ids"),
)
# What a spreadsheet takes for the beginning of a formula.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class Csv:
    """Comma-separated values with a header, a line for each hit as it is found: those of both kinds of hits."""

    streaming = True

    def __init__(self) -> None:
        self._begun = False

    def take(self, hit: AnyHit) -> None:
        """Print one hit."""
        self._begin()
        found = hit.as_dict()
        click.echo(_csv_line([cell(found.get(name)) for name in COLUMNS]), nl=False)

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None:
        """Print the header where there was no hit."""
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            click.echo(_csv_line(COLUMNS), nl=False)
            self._begun = True


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


def cell(value: object) -> str:
    """Return a value as a cell that no spreadsheet runs: what looks like a formula begins with an apostrophe."""
    if isinstance(value, Mapping):
        value = "; ".join(f"{name}={one}" for name, one in value.items())
    elif isinstance(value, list):
        value = " ".join(map(str, value))
    text = "" if value is None else str(value)
    return visible(f"'{text}" if text.startswith(_FORMULAS) else text)


class Quiet:
    """Prints nothing."""

    streaming = False

    def take(self, hit: AnyHit) -> None:
        """Pass over a hit."""

    def close(self, summary: Summary, rules: Sequence[Rule]) -> None:
        """Print nothing."""


STYLES: Mapping[str, type[Output]] = {"table": Table, "json": Json, "ndjson": Lines, "csv": Csv}
