"""``keytrail explain``: why an event matches a rule, or does not."""

from __future__ import annotations

from pathlib import Path

import click

from keytrail import render
from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    FORMAT,
    Examples,
    complain,
    finish,
    named_errors,
    packs,
    print_json,
)
from keytrail.commands._narrowing import FILTERS, SITE, narrow_pack
from keytrail.explain import explain
from keytrail.pack import needs_profile
from keytrail.records import Reader


@click.command(cls=Examples, examples=["keytrail explain trail_key_disabled event.json"])
@click.argument("rule")
@click.argument("event")
@FILTERS
@SITE
@FORMAT
@named_errors
def command(rule: str, event: str, filters: tuple[str, ...], site: Path | None, style: str) -> None:
    """Say why the records in EVENT (a file, or -) match RULE or do not. Exit code 1 when none of them does."""
    pack = packs([rule])
    narrow_pack(pack, filters, site).complain()
    for one in pack.rules:
        if needs_profile(one):
            click.echo(
                f"note: without a site profile (--site) {one.stem} says nothing: this is what it builds on", err=True
            )
    reader = Reader([event])
    explanations = [explain(rule, record.record) for rule in pack.rules for record in reader]
    for error in (*pack.errors, *reader.bad):
        complain(error)
    if style == "json":
        print_json([made.as_dict() for made in explanations])
    else:
        out = render.console()
        for made in explanations:
            render.explanation_tree(made, lambda line: out.print(line, soft_wrap=True))
    unread = bool(reader.bad_count or pack.errors or not explanations)
    finish(BAD_INPUT if unread else FINE, FINE if any(made.matches for made in explanations) else DOES_NOT_HOLD)
