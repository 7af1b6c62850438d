"""``keytrail demo``: the main job on what ships with the project."""

from __future__ import annotations

import click

from keytrail.cases import load_cases, load_events
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
    show_report,
)
from keytrail.commands._outputs import Table
from keytrail.data import packaged
from keytrail.hunt import Hunt
from keytrail.proof import EmbeddedEngine
from keytrail.proving import prove_all
from keytrail.records import Reader
from keytrail.schemas import SCHEMAS, get_schema
from keytrail.sequence_cases import load_sequences
from keytrail.summary import Summary


@click.command(cls=Examples, examples=["keytrail demo"])
@FORMAT
@named_errors
def command(style: str) -> None:
    """Compile every rule for every schema, prove the queries on the fixtures, hunt in a sample of logs."""
    pack = packs([])
    fixtures = packaged("fixtures")
    known = load_events(fixtures / "events")
    cases = load_cases(fixtures / "cases", known)
    sequences = load_sequences(fixtures / "cases", known)
    report = prove_all(pack.rules, cases, known, list(SCHEMAS.values()), [EmbeddedEngine()], sequences)
    running = Hunt.prepare(pack.rules, get_schema("keytrail"))
    reader = Reader([str(fixtures / "sample")])
    hits = list(running.run(reader))
    summary = Summary.of(running, reader)
    if style == "json":
        shown = [hit.as_dict() for hit in hits]
        print_json({"proof": report.as_dict(), "hits": shown, "read": summary.read()})
    else:
        show_report(report)
        output = Table()
        for hit in hits:
            output.take(hit)
        output.close(summary, pack.rules)
    for error in (*pack.errors, *reader.bad):
        complain(error)
    finish(BAD_INPUT if pack.errors or reader.bad_count else FINE, FINE if report.ok else DOES_NOT_HOLD)
