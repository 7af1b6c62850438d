"""``keytrail verify``: will the rules mean the same on my index?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from keytrail import render
from keytrail.cases import load_cases, load_events
from keytrail.cluster import real_elasticsearch
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
from keytrail.data import packaged
from keytrail.holding import BROKEN, HOLDS, Holding
from keytrail.render import coloured, safe
from keytrail.site import load_site
from keytrail.trial import Stopped
from keytrail.verdict_tables import condition_letters
from keytrail.verify import Verification, Verified, verify

STATES = {HOLDS: "[green]holds[/]", BROKEN: "[red]broken[/]"}
MOST_NAMES = 3


@click.command(
    cls=Examples,
    examples=[
        "keytrail verify --elasticsearch https://localhost:9200 --index logs-aws.cloudtrail-*",
        "keytrail verify trail_key_disabled --elasticsearch http://localhost:9200 --index cloudtrail --format json",
        "keytrail verify --rules my-rules/ --elasticsearch https://siem:9200 --index cloudtrail --prove-on http://localhost:9200",
    ],
)
@click.argument("names", metavar="[RULE]...", nargs=-1)
@click.option("--elasticsearch", "url", required=True, help="URL of the Elasticsearch that holds the index.")
@click.option("--index", "pattern", required=True, help="Index, data stream, alias or pattern with CloudTrail events.")
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="A folder of Sigma rules instead of the pack.")
@click.option("--prove-on", help="URL of another Elasticsearch for the temporary index; the same by default.")
@FILTERS
@SITE
@FORMAT
@named_errors
def command(
    names: tuple[str, ...],
    url: str,
    pattern: str,
    folder: Path | None,
    prove_on: str | None,
    filters: tuple[str, ...],
    site: Path | None,
    style: str,
) -> None:
    """Say of each rule whether its query means the same on an index, and what would make it so.

    Nothing is written to the index. Its mapping is read, the rules are compiled for it, and the queries are run over
    the fixture events in a temporary index with that mapping, which is deleted again. Where the cluster lets none be
    made, --prove-on names another, or else the embedded engine is used. Conditions and telemetry are looked up in the
    index by queries. Exit code 1: a rule is refused, has no field, differs, is blind, or a condition does not hold.

    Credentials: ELASTICSEARCH_API_KEY, the file that ELASTICSEARCH_API_KEY_FILE names, or ELASTICSEARCH_USERNAME and
    ELASTICSEARCH_PASSWORD; a private certificate authority: ELASTICSEARCH_CA_CERTS.
    """
    own = load_site(site)
    pack = packs(names, folder, own.rules)
    narrow_pack(pack, filters, own, folder).complain()
    fixtures = packaged("fixtures")
    known = load_events(fixtures / "events")
    cases = load_cases(fixtures / "cases", known)
    try:
        with ExitStack() as stack:
            cluster = stack.enter_context(real_elasticsearch(url))
            other = stack.enter_context(real_elasticsearch(prove_on)) if prove_on else None
            found = verify(cluster, pattern, pack.rules, cases, known, other, lambda text: click.echo(text, err=True))
    except Stopped as stopped:
        complain("stopped; the temporary index is deleted")
        finish(128 + stopped.number)
    for error in pack.errors:
        complain(error)
    if style == "json":
        print_json(found.as_dict())
    else:
        _show(found, render.console())
    finish(BAD_INPUT if pack.errors else FINE, FINE if found.ok else DOES_NOT_HOLD)


def _show(found: Verification, out: Console) -> None:
    schema = found.schema
    index, used, limit = schema.fullest
    indices = "1 index" if len(schema.indices) == 1 else f"{len(schema.indices)} indices"
    out.print(f"[bold]{safe(schema.index)}[/] on Elasticsearch {safe(found.server)}: {indices}, ", end="")
    out.print(f"{safe(schema.title)}; {safe(index)} has {used:,} of {limit:,} fields")
    out.print(f"{found.events - len(found.tried.refused)} of {found.events} events tried on {safe(found.tried.engine)}")
    for note in found.tried.notes:
        out.print(f"[yellow]{safe(note)}[/]")
    if schema.unusable:
        rows = [(safe(name), safe(problem[0])) for name, problem in sorted(schema.unusable.items())]
        out.print(render.table(f"{len(rows)} fields in conflict", ("field", "what is wrong"), rows))
    if found.tried.refused:
        rows = [(safe(name), safe(reason)) for name, reason in list(found.tried.refused.items())[:10]]
        out.print(render.table(f"{len(found.tried.refused)} events that this index refuses", ("event", "reason"), rows))
    letters = condition_letters([one.made for one in found.rules])
    _show_rules(found, letters, out)
    _show_conditions(found, letters, out)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.most_common())
    broken, blind = (
        sum(map(bool, each)) for each in zip(*((one.broken, one.blind) for one in found.rules), strict=True)
    )
    out.print(f"{len(found.rules)} rules: {counts}; {broken} with a broken condition, {blind} blind")


def _show_rules(found: Verification, letters: dict[str, str], out: Console) -> None:
    rows = [(safe(one.made.rule.stem), _outcome(one, letters), safe(_names(one.blind) or "")) for one in found.rules]
    out.print(render.table("Verdicts", ("rule", "here", "blind: the index has no"), rows))
    reasons = [
        (coloured(one.outcome), safe(one.made.rule.stem), safe(why), safe(_fix(one, found)))
        for one in found.rules
        if (why := _why(one))
    ]
    if reasons:
        out.print(render.table("Why not", ("", "rule", "reason", "fix"), reasons))


def _why(one: Verified) -> str | None:
    if one.made.error is not None:
        return one.made.error.message
    if one.rejected or one.diverges:
        return one.rejected or f"differs on {_names(one.diverges)}"
    return "; ".join(dict.fromkeys(f"not so here: {holding.condition.text}" for holding in one.broken)) or None


def _outcome(one: Verified, letters: dict[str, str]) -> str:
    states = {letters[holding.condition.text]: holding.state for holding in one.holdings}
    marks = [f"[red]{letter}![/]" if state == BROKEN else letter for letter, state in states.items()]
    return " ".join([coloured(one.outcome), *marks])


def _show_conditions(found: Verification, letters: dict[str, str], out: Console) -> None:
    by_letter: dict[str, Holding] = {}
    for one in found.rules:
        for holding in one.holdings:
            letter = letters[holding.condition.text]
            if letter not in by_letter or holding.state == BROKEN:
                by_letter[letter] = holding
    rows = []
    for letter in letters.values():
        holding = by_letter[letter]
        condition = holding.condition
        rows.append((letter, safe(condition.text), _state(holding), safe(condition.breaker)))
    if rows:
        columns = ("", "exact if", "here, for the events that the rules ask about", "who can break it")
        out.print(render.table("Conditions (! is broken here)", columns, rows))


def _state(holding: Holding) -> str:
    shown = STATES.get(holding.state, safe(holding.state))
    if holding.documents:
        shown += f" by {holding.documents:,} documents: {safe(', '.join(holding.examples))}"
    return f"{shown}: {safe(holding.why)}" if holding.why else shown


def _names(names: list[str]) -> str:
    left = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + left


def _fix(one: Verified, found: Verification) -> str:
    return "; ".join(one.fixes(found.schema)) or "-"
