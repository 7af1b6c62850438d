"""``keytrail convert``: rules into queries, with their verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    Examples,
    complain,
    finish,
    named_errors,
    packs,
    plain,
    print_json,
)
from keytrail.commands._narrowing import FILTERS, SITE, narrow_pack
from keytrail.commands._runs import refuse_options, run_options, runs
from keytrail.commands._schemas import INDEX, MAPPING_FROM, SCHEMA, chosen
from keytrail.convert import Conversion, convert
from keytrail.errors import UsageError
from keytrail.files import json_text, write_text
from keytrail.generators import GENERATORS
from keytrail.pack import Rule
from keytrail.schemas import Schema
from keytrail.site import load_site
from keytrail.verdict import Query
from keytrail.verdict_tables import show_verdicts


@click.command(
    cls=Examples,
    examples=[
        "keytrail convert trail_key_disabled --schema ecs",
        "keytrail convert --schema keytrail -o queries/",
        "keytrail convert trail_key_disabled --target esql",
        "keytrail convert --target kibana --schema ecs -o rules.ndjson",
        "keytrail convert --target index --schema ecs-custom",
        "keytrail convert my-rules/ --schema ecs --format json",
        "keytrail convert --mapping-from https://localhost:9200 --index logs-aws.cloudtrail-* -o queries/",
    ],
)
@click.argument("names", metavar="[RULE|FILE|DIR]...", nargs=-1)
@click.option(
    "--target",
    type=click.Choice([*GENERATORS, "kibana", "index"]),
    default="query-dsl",
    show_default=True,
    help="Query language; kibana: detection rules that it imports; index: the schema's templates and pipelines.",
)
@SCHEMA
@MAPPING_FROM
@INDEX
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write one file a rule into this folder; with --target kibana, all rules into this file.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["query", "json"]),
    default="query",
    show_default=True,
    help="The query as the target takes it, or with rule, verdict and conditions.",
)
@click.option(
    "--versions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --target kibana: a file that keeps the version of each rule, and raises it when the meaning changes.",
)
@FILTERS
@SITE
@runs
@named_errors
@chosen
def command(
    names: tuple[str, ...],
    target: str,
    schema: Schema,
    output: Path | None,
    style: str,
    versions: Path | None,
    filters: tuple[str, ...],
    site: Path | None,
    **asked: Any,
) -> None:
    """Compile rules into queries, and say of each: exact, exact if, or refused and why.

    Queries go to standard output or to -o, the verdicts to standard error. A refused rule makes the exit code 1.
    """
    if target != "kibana":
        refuse_options(target, asked)
    if target == "index":
        finish(_index_parts(names, schema, output))
    own = load_site(site)
    pack = packs(names, own=own.rules)
    narrow_pack(pack, filters, own).complain()
    if target == "kibana":
        made = _kibana(pack.rules, schema, output, style, versions, asked)
    else:
        made = _queries(pack.rules, schema, target, output, style)
    for error in pack.errors:
        complain(error)
    if len(made) == 1 and made[0].error is not None:
        complain(made[0].error)
    elif made:
        show_verdicts(made, stderr=True)
    finish(BAD_INPUT if pack.errors else FINE, DOES_NOT_HOLD if any(one.query is None for one in made) else FINE)


def _queries(rules: Sequence[Rule], schema: Schema, target: str, output: Path | None, style: str) -> list[Conversion]:
    """Write a query for each rule."""
    if output is not None and output.is_file():
        raise UsageError("is a file, and queries go into a folder", path=output)
    made = [convert(rule, schema, target) for rule in rules]
    shapes = {one.rule.stem: one.as_dict() for one in made if style == "json" or one.query is not None}
    if style == "query":
        shapes = {stem: shape["query"] for stem, shape in shapes.items()}
    if output is not None:
        for stem, shape in shapes.items():
            ending = target if isinstance(shape, str) else "json"
            written = shape if isinstance(shape, str) else json_text(shape)
            write_text(output / f"{stem}.{ending}", written + "\n")
    elif style == "json":
        print_json(list(shapes.values()))
    else:
        for shape in shapes.values():
            click.echo(shape) if isinstance(shape, str) else print_json(shape)
    return made


def _kibana(
    rules: Sequence[Rule],
    schema: Schema,
    output: Path | None,
    style: str,
    versions: Path | None,
    asked: Mapping[str, Any],
) -> list[Conversion]:
    """Write all rules as Kibana imports them, a line each."""
    from keytrail.kibana.body import check_file
    from keytrail.kibana.detection import detection_rules
    from keytrail.kibana.versions import read_versions, write_versions

    if output is not None and output.is_dir():
        raise UsageError("is a folder, and rules go into a file", path=output, hint="name a file, rules.ndjson")
    known = read_versions(versions, schema)
    found, refused = detection_rules(rules, schema, run_options(asked, versions=known))
    made = [Conversion(one.rule, schema, Query(one.body, one.conditions)) for one in found]
    bodies = [one.body for one in found] if style == "query" else [one.as_dict() for one in [*made, *refused]]
    text = "".join(json.dumps(body) + "\n" for body in bodies) if style == "query" else json_text(bodies) + "\n"
    if style == "query":
        check_file(text, len(bodies))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text)
    if versions is not None:
        write_versions(versions, schema, found)
    for note in (note for one in found for note in one.notes):
        click.echo(f"note: {plain(note)}", err=True)
    return made + refused


def _index_parts(names: Sequence[str], schema: Schema, output: Path | None) -> int:
    """Print what Elasticsearch is to hold for the schema, by the path of its PUT; or write a file each."""
    from keytrail.index_parts import parts

    if names:
        raise UsageError("the parts of an index follow from the schema alone", hint="leave out the rules")
    made = {part.path: part.body for part in parts(schema)}
    if output is None:
        print_json(made)
    else:
        for path, body in made.items():
            write_text(output / f"{path.replace('/', '.')}.json", json_text(body) + "\n")
    return FINE
