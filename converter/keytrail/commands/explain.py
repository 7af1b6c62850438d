"""``keytrail explain``: why an event matches a rule, or does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

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
from keytrail.records import Reader, Record
from keytrail.site import load_site
from keytrail.visible import path_text


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
    found = chain.from_iterable(_explained(one, reader, narrowing.profile) for one in pack.rules)
    count, matched = (_print_json if style == "json" else _show)(found)
    for error in (*pack.errors, *reader.bad):
        complain(error)
    unread = bool(reader.bad_count or pack.errors or not count)
    finish(BAD_INPUT if unread else FINE, FINE if matched else DOES_NOT_HOLD)


class Explained(NamedTuple):
    """An explanation, and of which record it is; of a correlation it is of all."""

    made: Explanation | CorrelationExplanation
    record: Record | None = None

    def place(self) -> dict[str, Any]:
        """Return where the record stands and what tells it from others, as JSON has it for a hit."""
        if self.record is None:
            return {}
        said = self.record.record.get
        names = {"event_id": "eventID", "event_time": "eventTime", "event_name": "eventName"}
        where = {"path": path_text(self.record.path), "record": self.record.number}
        return where | {name: said(own) for name, own in names.items()}

    def heading(self) -> str:
        """Return the same in a line."""
        found = self.place()
        known = [str(found.get(name)) for name in ("event_name", "event_time", "event_id") if found.get(name)]
        return f"{found['path']}, record {found['record']}: {', '.join(known)}" if found else ""


def _explained(rule: Rule, reader: Reader, profile: Profile | None) -> Iterator[Explained]:
    if rule.kind == "correlation":
        found = explain_correlation(rule, (record.record for record in reader), known_groups(rule, profile))
        if reader.records:
            yield Explained(found)
        return
    explainer = Explainer(rule)
    for record in reader:
        yield Explained(explainer.explain(record.record), record)


def _show(found: Iterator[Explained]) -> tuple[int, bool]:
    """Print the explanations as they come; where there are several, each with its record. How many, and any match."""
    out = render.console()
    first = list(islice(found, 2))
    answers: Counter[bool] = Counter()
    for one in chain(first, found):
        show(one.made, out, one.heading() if len(first) > 1 else "")
        answers[one.made.matches] += 1
    return answers.total(), answers[True] > 0


def _print_json(found: Iterator[Explained]) -> tuple[int, bool]:
    shapes = [{**one.made.as_dict(), **one.place()} for one in found]
    print_json(shapes)
    return len(shapes), any(shape["matches"] for shape in shapes)
