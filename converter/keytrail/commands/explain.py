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
from keytrail.correlation_explain import CorrelationExplanation, explain_correlation
from keytrail.correlation_hunt import known_groups
from keytrail.explain import Explainer, Explanation
from keytrail.explanation_view import show
from keytrail.pack import Rule, needs_profile
from keytrail.profile import Profile
from keytrail.records import Reader
from keytrail.site import load_site


@click.command(
    cls=Examples,
    examples=[
        "keytrail explain trail_key_disabled event.json",
        "keytrail explain key_policy_or_grants_enumerated event.json --site site.yml --format json",
        "keytrail explain bulk_log_decrypt AWSLogs/",
    ],
)
@click.argument("rule")
@click.argument("event", metavar="EVENT...", nargs=-1, required=True)
@FILTERS
@SITE
@FORMAT
@named_errors
def command(rule: str, event: tuple[str, ...], filters: tuple[str, ...], site: Path | None, style: str) -> None:
    """Say why the records in EVENT (files, folders, or -) match RULE or do not. Exit code 1 when none of them does.

    A correlation is explained once, on all of them: which of its rules match, in which groups, and what is missing.
    """
    own = load_site(site)
    pack = packs([rule], own=own.rules)
    narrowing = narrow_pack(pack, filters, own)
    narrowing.complain()
    for one in pack.rules:
        if needs_profile(one):
            click.echo(
                f"note: without a site profile (--site) {one.stem} says nothing: this is what it builds on", err=True
            )
    reader = Reader(event)
    explanations = [made for one in pack.rules for made in _explained(one, reader, narrowing.profile)]
    for error in (*pack.errors, *reader.bad):
        complain(error)
    if style == "json":
        print_json([made.as_dict() for made in explanations])
    else:
        out = render.console()
        for made in explanations:
            show(made, out)
    unread = bool(reader.bad_count or pack.errors or not explanations)
    finish(BAD_INPUT if unread else FINE, FINE if any(made.matches for made in explanations) else DOES_NOT_HOLD)


def _explained(rule: Rule, reader: Reader, profile: Profile | None) -> list[Explanation | CorrelationExplanation]:
    if rule.kind == "correlation":
        found = explain_correlation(rule, (record.record for record in reader), known_groups(rule, profile))
        return [found] if reader.records else []
    explainer = Explainer(rule)
    return [explainer.explain(record.record) for record in reader]
