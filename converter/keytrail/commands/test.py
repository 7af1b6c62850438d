"""``keytrail test``: the proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import click

from keytrail import reports
from keytrail.cases import load_cases, load_equivalents, load_events
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
from keytrail.commands._narrowing import FILTERS, SITE, filters_among, narrow_pack
from keytrail.correlation_mutants import mutate_correlations
from keytrail.data import packaged
from keytrail.files import write_text
from keytrail.mutate import mutate, report_lines
from keytrail.proof import ElasticsearchEngine, EmbeddedEngine, Engine
from keytrail.proving import failures_of, prove_all, subjects
from keytrail.schemas import SCHEMAS, get_schema
from keytrail.sequence_cases import load_sequences
from keytrail.site import load_site
from keytrail.telemetry import blind_lines, blind_on


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
        "keytrail test --mutate",
        "keytrail test --site site.yml --junit report.xml --sarif report.sarif",
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
@FILTERS
@SITE
@click.option("--mutate", "mutating", is_flag=True, help="Change one thing of a rule at a time: a case must notice.")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as JUnit XML.")
@click.option("--sarif", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as SARIF 2.1.0.")
@click.option(
    "--github/--no-github",
    default=None,
    help="Write GitHub's annotations to standard error; by default where GITHUB_ACTIONS is true.",
)
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
    filters: tuple[str, ...],
    site: Path | None,
    mutating: bool,
    junit: Path | None,
    sarif: Path | None,
    github: bool | None,
    style: str,
) -> None:
    """Prove the rules: their cases, then each rule over every event in every schema on every engine.

    With filters, the cases are about the narrowed rules. With a site, the narrowed rules are proven too, and its own
    rules by its own cases. An exclusion or a level that has expired fails.
    """
    own = load_site(site)
    pack = packs(names, folder, own.rules)
    narrowing = narrow_pack(pack, filters, own, folder, to_site=False)
    fixtures = packaged("fixtures")
    known = load_events(events or fixtures / "events")
    places = [cases or fixtures / "cases", *([] if own.cases is None else [own.cases])]
    listed = list(chain.from_iterable(load_cases(place, known) for place in places))
    sequences = list(chain.from_iterable(load_sequences(place, known) for place in places))
    chosen = [get_schema(name) for name in schemas or SCHEMAS]
    with engines(("elasticsearch", *wanted) if url else wanted, url) as running:
        report = prove_all(pack.rules, listed, known, chosen, running, sequences, narrowing.profile)
    report.blind = blind_on([*known.values(), *(case.record for case in listed)], pack.rules)
    report.failures += failures_of(narrowing.expired, "filter")
    report.failures += failures_of(filters_among(pack, folder), "filter")
    mutation = None
    if mutating:
        declared = dict(chain.from_iterable(load_equivalents(place).items() for place in reversed(places)))
        mutation = mutate(subjects(pack.rules, listed, declared, narrowing.profile), known)
        mutate_correlations(pack.rules, sequences, declared, mutation)
    outcome = reports.Outcome(pack.rules, [*listed, *sequences], report, pack.errors, mutation)
    _write(outcome, junit, sarif)
    _show(outcome, style)
    for line in reports.github(outcome.findings) if github or (github is None and reports.in_github()) else ():
        click.echo(line, err=True)
    finish(BAD_INPUT if pack.errors else FINE, FINE if outcome.ok else DOES_NOT_HOLD)


def _write(outcome: reports.Outcome, junit: Path | None, sarif: Path | None) -> None:
    if junit is not None:
        write_text(junit, reports.junit(outcome))
    if sarif is not None:
        write_text(sarif, reports.sarif(outcome))


def _show(outcome: reports.Outcome, style: str) -> None:
    """Print the table or the JSON, and what is wrong."""
    for error in outcome.errors:
        complain(error)
    report, mutation = outcome.report, outcome.mutation
    if style == "json":
        print_json({**report.as_dict(), "ok": outcome.ok, **({"mutation": mutation.as_dict()} if mutation else {})})
        return
    show_report(report)
    if report.waiting:
        click.echo(f"not tested without a site profile (--site): {', '.join(report.waiting)}")
    for line in blind_lines(outcome.rules, report.blind):
        click.echo(line)
    if mutation is not None:
        for line in report_lines(mutation):
            complain(line)
        made = sum(counts[0] for counts in mutation.counts.values())
        click.echo(
            f"{made:,} mutants of {len(mutation.counts)} rules, {len(mutation.survivors):,} survivors, "
            f"{len(mutation.equivalent):,} declared equivalent, score {mutation.score:.1%}"
        )
    if not outcome.ok and not report.failures and not report.checks:
        complain("there was nothing to test")
