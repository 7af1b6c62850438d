"""``keytrail test``: the proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

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
    show_report,
)
from keytrail.data import packaged
from keytrail.proof import ElasticsearchEngine, EmbeddedEngine, Engine, prove
from keytrail.schemas import SCHEMAS, get_schema


@contextmanager
def engines(names: Sequence[str], url: str | None) -> Iterator[list[Engine]]:
    """Yield the engines called ``names``; a real node is started for the length of the block where there is no URL."""
    with ExitStack() as stack:
        found: list[Engine] = []
        if "embedded" in names:
            found.append(EmbeddedEngine())
        if "elasticsearch" in names:
            cluster = stack.enter_context(real_elasticsearch(url, report=lambda text: click.echo(text, err=True)))
            found.append(ElasticsearchEngine(cluster))
        yield found


@click.command(
    cls=Examples,
    examples=[
        "keytrail test",
        "keytrail test trail_key_disabled --schema ecs",
        "keytrail test --engine embedded --engine elasticsearch",
        "keytrail test --rules my-rules/ --cases my-cases/ --format json",
    ],
)
@click.argument("names", metavar="[RULE]...", nargs=-1)
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="A folder of Sigma rules instead of the pack.")
@click.option("--cases", type=click.Path(path_type=Path), help="Their cases; the pack's by default.")
@click.option("--events", type=click.Path(path_type=Path), help="The events that cases patch; the pack's by default.")
@click.option(
    "--schema", "schemas", multiple=True, type=click.Choice(list(SCHEMAS)), help="Only these; all by default."
)
@click.option(
    "--engine",
    "wanted",
    multiple=True,
    type=click.Choice(["embedded", "elasticsearch"]),
    default=["embedded"],
    show_default=True,
    help="Which engines; elasticsearch is started here unless a URL is given.",
)
@click.option("--elasticsearch", "url", help="URL of a running Elasticsearch (else ELASTICSEARCH_URL).")
@FORMAT
@named_errors
def command(
    names: tuple[str, ...],
    folder: Path | None,
    cases: Path | None,
    events: Path | None,
    schemas: tuple[str, ...],
    wanted: tuple[str, ...],
    url: str | None,
    style: str,
) -> None:
    """Prove the rules: their cases, then each rule over every event in every schema on every engine."""
    pack = packs(names, folder)
    for error in pack.errors:
        complain(error)
    fixtures = packaged("fixtures")
    known = load_events(events or fixtures / "events")
    chosen = [get_schema(name) for name in schemas or SCHEMAS]
    with engines(("elasticsearch", *wanted) if url else wanted, url) as running:
        report = prove(pack.rules, load_cases(cases or fixtures / "cases", known), known, chosen, running)
    if style == "json":
        print_json(report.as_dict())
    else:
        show_report(report)
    finish(BAD_INPUT if pack.errors else FINE, FINE if report.ok else DOES_NOT_HOLD)
