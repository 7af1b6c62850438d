"""``keytrail hunt``: the rules over CloudTrail files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from keytrail import render
from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    Examples,
    complain,
    finish,
    named_errors,
    packs,
    print_json,
)
from keytrail.commands._narrowing import FILTERS, SITE, narrow_pack
from keytrail.correlation_hunt import known_groups
from keytrail.filters import needs_profile
from keytrail.hunt import AnyHit, Hunt, Window, instant, worst
from keytrail.pack import LEVELS, Rule
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.workers import cores


class Output:
    """Prints hits as they come (ndjson) or keeps them for the end (table, json)."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.hits: list[AnyHit] = []

    def take(self, hit: AnyHit) -> None:
        """Take one hit."""
        if self.style == "ndjson":
            click.echo(json.dumps(hit.as_dict()))
        else:
            self.hits.append(hit)

    def close(self, hunt: Hunt, reader: Reader, known: Sequence[Rule]) -> None:
        """Print what was kept, the counts and what was read."""
        read = {"files": reader.files, "records": reader.records, "bad": reader.bad_count}
        if self.style == "json":
            found = [hit.as_dict() for hit in self.hits]
            print_json({"hits": found, "counts": dict(hunt.counts), "refused": hunt.refused, "read": read})
        elif self.style == "table":
            out = render.console()
            out.print(render.counts_table({rule.id: rule for rule in known}, hunt.counts, hunt.refused))
            out.print(render.hits_table(self.hits))
            out.print(
                f"{reader.files:,} files, {reader.records:,} records read, {hunt.searched:,} searched, "
                f"{hunt.counts.total():,} hits, {len(hunt.refused)} rules refused, {reader.bad_count:,} bad inputs"
            )


@click.command(
    cls=Examples,
    examples=[
        "keytrail hunt AWSLogs/",
        "keytrail hunt AWSLogs/ --site site.yml --filter aws_config_recorder",
        "keytrail hunt logs.json.gz --rules my-rules/ --format json",
        "zcat *.json.gz | keytrail hunt - --since 2026-11-20 --fail-on high",
    ],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="Any folder of Sigma rules for CloudTrail.")
@FILTERS
@SITE
@click.option("--since", help="Only events from this time on (ISO 8601, UTC unless it says otherwise).")
@click.option("--until", help="Only events before this time.")
@click.option("--jobs", type=click.IntRange(min=1), help="How many processes search; one per core if not said.")
@click.option("--fail-on", type=click.Choice(LEVELS), help="Exit with 1 on a hit of this level or above.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "ndjson"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@named_errors
def command(
    paths: tuple[str, ...],
    folder: Path | None,
    filters: tuple[str, ...],
    site: Path | None,
    since: str | None,
    until: str | None,
    jobs: int | None,
    fail_on: str | None,
    style: str,
) -> None:
    """Run the rules over CloudTrail files: .json, .json.gz, NDJSON, folders of them, or - for standard input."""
    window = Window(instant(since) if since else None, instant(until) if until else None)
    pack = packs([], folder)
    narrowing = narrow_pack(pack, filters, site, folder)
    narrowing.complain()
    waiting = [rule for rule in pack.rules if needs_profile(rule)]
    known = {rule.id: known_groups(rule, narrowing.profile) for rule in pack.rules}
    running = Hunt.prepare(pack.rules, get_schema("keytrail"), known)
    reader = Reader(paths)
    output = Output(style)
    levels = set()
    for hit in running.run(reader, window, jobs=jobs or cores()):
        levels.add(hit.rule.level)
        output.take(hit)
    output.close(running, reader, pack.rules)
    refused = [
        f"rule {rule.stem} refused: {running.refused[rule.id]}"
        for rule in pack.rules
        if rule.id in running.refused and rule not in waiting
    ]
    for error in (*pack.errors, *reader.bad, *refused):
        complain(error)
    if reader.bad_count > len(reader.bad):
        complain(f"{reader.bad_count - len(reader.bad):,} more bad inputs")
    if not reader.records:
        complain("no CloudTrail record was read")
    if waiting:
        names = ", ".join(rule.stem for rule in waiting)
        click.echo(f"note: without a site profile (--site) these say nothing: {names}", err=True)
    unread = bool(pack.errors or reader.bad_count or not reader.records)
    failed = fail_on is not None and worst(sorted(levels)) >= LEVELS.index(fail_on)
    finish(BAD_INPUT if unread else FINE, DOES_NOT_HOLD if failed or refused else FINE)
