"""The command ``keytrail``: thin commands over the library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from keytrail import __version__, render
from keytrail.cases import load_cases, load_events
from keytrail.cluster import real_elasticsearch
from keytrail.convert import TARGETS, Conversion, convert
from keytrail.data import packaged
from keytrail.errors import KeytrailError, UsageError
from keytrail.explain import explain
from keytrail.files import write_text
from keytrail.hunt import Hit, Hunt, Window, instant, worst
from keytrail.proof import ElasticsearchEngine, EmbeddedEngine, Engine, Report, prove
from keytrail.records import Reader
from keytrail.rules import LEVELS, Pack, Rule, load_rules
from keytrail.scaffold import new_rule
from keytrail.schemas import SCHEMAS, get_schema

FINE, DOES_NOT_HOLD, BAD_INPUT = 0, 1, 2
Command = TypeVar("Command", bound=Callable[..., Any])


def complain(error: object) -> None:
    """Write one error to standard error, without control characters a log could have smuggled in."""
    text = "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in str(error))
    click.secho(f"error: {text}", fg="red", err=True)


def named_errors(command: Command) -> Command:
    """Turn the errors that Keytrail names into a message and exit code 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeytrailError as error:
            complain(error)
            sys.exit(BAD_INPUT)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(FINE)

    return run  # type: ignore[return-value]


class Examples(click.Command):
    """A command whose help ends with examples, printed as they are written."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keytrail")
def main() -> None:
    """Watch the KMS keys that seal CloudTrail's log files.

    Sigma rules, Elasticsearch queries proven to mean the same, and the tools to test, hunt and explain.
    Exit codes: 0 fine, 1 what was checked does not hold, 2 wrong usage or input that could not be read.
    """


def packs(names: Sequence[str], folder: Path | None = None) -> Pack:
    """Return the rules that ``names`` mean: paths, or stems and ids of the pack's; none means all of them."""
    home = folder or packaged("rules")
    paths = [Path(name) for name in names if Path(name).suffix in (".yml", ".yaml") or Path(name).is_dir()]
    stems = [name for name in names if Path(name) not in paths]
    found = load_rules(paths) if paths else Pack()
    if stems or not names:
        whole = load_rules([home])
        unknown = [stem for stem in stems if not any(stem in (rule.stem, rule.id) for rule in whole.rules)]
        if unknown:
            raise UsageError(
                f"there is no rule {unknown[0]!r}", hint="'keytrail rules' lists them; a file ends in .yml"
            )
        found.rules += [rule for rule in whole.rules if not stems or {rule.stem, rule.id} & set(stems)]
        found.errors += whole.errors
    return found


def finish(*codes: int) -> NoReturn:
    """End with the most serious of the exit codes."""
    sys.exit(max(codes, default=FINE))


def print_json(value: object) -> None:
    """Print ``value`` as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


FORMAT = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="What to print."
)


@main.command(cls=Examples, examples=["keytrail rules", "keytrail rules trail_key_disabled", "keytrail rules --json"])
@click.argument("rule", required=False)
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="A folder of Sigma rules instead of the pack.")
@click.option("--json", "as_json", is_flag=True, help="Print a list, one object a rule.")
@named_errors
def rules(rule: str | None, folder: Path | None, as_json: bool) -> None:
    """List the rules; with RULE (a stem, an id or a file), show one in full."""
    pack = packs([rule] if rule else [], folder)
    for error in pack.errors:
        complain(error)
    if as_json:
        # YAML has dates, JSON has not.
        shown = [{"stem": one.stem, **one.document} for one in pack.rules]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
    elif rule:
        for one in pack.rules:
            click.echo(one.text)
    else:
        render.console().print(render.rules_table(pack.rules))
    finish(BAD_INPUT if pack.errors else FINE)


@main.command(
    "convert",
    cls=Examples,
    examples=[
        "keytrail convert trail_key_disabled --schema ecs",
        "keytrail convert --schema keytrail -o queries/",
        "keytrail convert my-rules/ --schema ecs --format json",
    ],
)
@click.argument("names", metavar="[RULE|FILE|DIR]...", nargs=-1)
@click.option(
    "--target", type=click.Choice(list(TARGETS)), default="query-dsl", show_default=True, help="Query language."
)
@click.option(
    "--schema", type=click.Choice(list(SCHEMAS)), default="ecs", show_default=True, help="How the index is laid out."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write one .json a rule into this folder."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["query", "json"]),
    default="query",
    show_default=True,
    help="The query as the target takes it, or with rule, verdict and conditions.",
)
@named_errors
def convert_command(names: tuple[str, ...], target: str, schema: str, output: Path | None, style: str) -> None:
    """Compile rules into queries, and say of each: exact, exact if, or refused and why.

    Queries go to standard output or to -o, the verdicts to standard error. A refused rule makes the exit code 1.
    """
    pack = packs(names)
    made = [convert(rule, get_schema(schema), target) for rule in pack.rules]
    shapes = {one.rule.stem: one.as_dict() for one in made if style == "json" or one.query is not None}
    if style == "query":
        shapes = {stem: shape["query"] for stem, shape in shapes.items()}
    if output is not None:
        for stem, shape in shapes.items():
            write_text(output / f"{stem}.json", json.dumps(shape, indent=2, ensure_ascii=False) + "\n")
    elif style == "json":
        print_json(list(shapes.values()))
    else:
        for shape in shapes.values():
            print_json(shape)
    for error in pack.errors:
        complain(error)
    if len(made) == 1 and made[0].error is not None:
        complain(made[0].error)
    elif made:
        show_verdicts(made, render.console(stderr=True))
    finish(BAD_INPUT if pack.errors else FINE, DOES_NOT_HOLD if any(one.query is None for one in made) else FINE)


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


@main.command(
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
def test(
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
        print_json(report_shape(report))
    else:
        show_report(report)
    finish(BAD_INPUT if pack.errors else FINE, FINE if report.ok else DOES_NOT_HOLD)


def report_shape(report: Report) -> dict[str, Any]:
    """Return the proof as JSON has it."""
    return {
        "ok": report.ok,
        "cases": report.cases,
        "checks": [
            {"schema": key[0], "engine": key[1], "checks": count, "outside_condition": report.outside[key]}
            for key, count in sorted(report.checks.items())
        ],
        "verdicts": [made.as_dict() for made in report.conversions],
        "failures": [failure.as_dict() for failure in report.failures],
    }


def show_report(report: Report) -> None:
    """Print the proof as a table, failures last."""
    out = render.console()
    show_verdicts(report.conversions, out)
    out.print(render.proof_table(report))
    for failure in report.failures:
        place = f"{failure.path}:{failure.line}: " if failure.path else ""
        complain(f"{place}{failure.rule or 'all rules'}: {failure.pair} disagree: {failure.what}")
    total = report.checks.total()
    out.print(f"{report.cases:,} cases, {total:,} checks, {len(report.failures):,} failures")


def show_verdicts(conversions: Sequence[Conversion], out: Console) -> None:
    """Print the verdicts, and what they depend on."""
    out.print(render.verdict_table(conversions))
    if any(made.verdict != "exact" for made in conversions):
        out.print(render.why_table(conversions))


class Output:
    """Prints hits as they come (ndjson) or keeps them for the end (table, json)."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.hits: list[Hit] = []

    def take(self, hit: Hit) -> None:
        """Take one hit."""
        if self.style == "ndjson":
            click.echo(json.dumps(hit.as_dict(), ensure_ascii=False))
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


@main.command(
    cls=Examples,
    examples=[
        "keytrail hunt AWSLogs/",
        "keytrail hunt logs.json.gz --rules my-rules/ --format json",
        "zcat *.json.gz | keytrail hunt - --since 2026-11-20 --fail-on high",
    ],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="Any folder of Sigma rules for CloudTrail.")
@click.option("--since", help="Only events from this time on (ISO 8601, UTC unless it says otherwise).")
@click.option("--until", help="Only events before this time.")
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
def hunt(
    paths: tuple[str, ...], folder: Path | None, since: str | None, until: str | None, fail_on: str | None, style: str
) -> None:
    """Run the rules over CloudTrail files: .json, .json.gz, NDJSON, folders of them, or - for standard input."""
    window = Window(instant(since) if since else None, instant(until) if until else None)
    pack = packs([], folder)
    running = Hunt.prepare(pack.rules, get_schema("keytrail"))
    reader = Reader(paths)
    output = Output(style)
    levels = set()
    for hit in running.run(reader, window):
        levels.add(hit.rule.level)
        output.take(hit)
    output.close(running, reader, pack.rules)
    refused = [
        f"rule {rule.stem} refused: {running.refused[rule.id]}" for rule in pack.rules if rule.id in running.refused
    ]
    for error in (*pack.errors, *reader.bad, *refused):
        complain(error)
    if reader.bad_count > len(reader.bad):
        complain(f"{reader.bad_count - len(reader.bad):,} more bad inputs")
    if not reader.records:
        complain("no CloudTrail record was read")
    unread = bool(pack.errors or reader.bad_count or not reader.records)
    failed = fail_on is not None and worst(sorted(levels)) >= LEVELS.index(fail_on)
    finish(BAD_INPUT if unread else FINE, DOES_NOT_HOLD if failed or running.refused else FINE)


@main.command("explain", cls=Examples, examples=["keytrail explain trail_key_disabled event.json"])
@click.argument("rule")
@click.argument("event")
@FORMAT
@named_errors
def explain_command(rule: str, event: str, style: str) -> None:
    """Say why the records in EVENT (a file, or -) match RULE or do not. Exit code 1 when none of them does."""
    pack = packs([rule])
    reader = Reader([event])
    found = [explain(one, record.record) for one in pack.rules for record in reader]
    for error in (*pack.errors, *reader.bad):
        complain(error)
    if style == "json":
        print_json([one.as_dict() for one in found])
    else:
        out = render.console()
        for one in found:
            render.explanation_tree(one, lambda line: out.print(line, soft_wrap=True))
    unread = bool(reader.bad_count or pack.errors or not found)
    finish(BAD_INPUT if unread else FINE, FINE if any(one.matches for one in found) else DOES_NOT_HOLD)


@main.group()
def new() -> None:
    """Begin something new."""


@new.command(
    "rule",
    cls=Examples,
    examples=["keytrail new rule key/key_tagged", "keytrail new rule mine/odd_login --rules . --cases cases"],
)
@click.argument("name", metavar="FOLDER/STEM")
@click.option(
    "--rules",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("rules"),
    show_default=True,
    help="Where rules are.",
)
@click.option(
    "--cases",
    type=click.Path(path_type=Path),
    default=Path("fixtures/cases"),
    show_default=True,
    help="Where cases are.",
)
@named_errors
def new_rule_command(name: str, folder: Path, cases: Path) -> None:
    """Write a rule and its cases to start from, under the same name."""
    for path in new_rule(name, folder, cases):
        click.echo(path)


@main.command(cls=Examples, examples=["keytrail demo"])
@FORMAT
@named_errors
def demo(style: str) -> None:
    """Compile every rule for every schema, prove the queries on the fixtures, hunt in a sample of logs."""
    pack = packs([])
    fixtures = packaged("fixtures")
    known = load_events(fixtures / "events")
    report = prove(pack.rules, load_cases(fixtures / "cases", known), known, list(SCHEMAS.values()), [EmbeddedEngine()])
    running = Hunt.prepare(pack.rules, get_schema("keytrail"))
    reader = Reader([str(fixtures / "sample")])
    hits = list(running.run(reader))
    if style == "json":
        read = {"files": reader.files, "records": reader.records, "bad": reader.bad_count}
        print_json({"proof": report_shape(report), "hits": [hit.as_dict() for hit in hits], "read": read})
    else:
        show_report(report)
        output = Output("table")
        output.hits = hits
        output.close(running, reader, pack.rules)
    for error in (*pack.errors, *reader.bad):
        complain(error)
    finish(BAD_INPUT if pack.errors or reader.bad_count else FINE, FINE if report.ok else DOES_NOT_HOLD)
