"""``keytrail convert``: rules into queries, with their verdicts."""

from __future__ import annotations

import json
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
from keytrail.commands._schemas import INDEX, MAPPING_FROM, SCHEMA, chosen
from keytrail.convert import convert
from keytrail.errors import UsageError
from keytrail.files import write_text
from keytrail.index_parts import parts
from keytrail.schemas import Schema
from keytrail.targets import TARGETS

INDEX_PARTS = "index"


@click.command(
    cls=Examples,
    examples=[
        "keytrail convert trail_key_disabled --schema ecs",
        "keytrail convert --schema keytrail -o queries/",
        "keytrail convert trail_key_disabled --target esql",
        "keytrail convert my-rules/ --schema ecs --format json",
        "keytrail convert --target index --schema ecs-custom",
        "keytrail convert --mapping-from https://localhost:9200 --index logs-aws.cloudtrail-* -o queries/",
    ],
)
@click.argument("names", metavar="[RULE|FILE|DIR]...", nargs=-1)
@click.option(
    "--target",
    type=click.Choice([*TARGETS, INDEX_PARTS]),
    default="query-dsl",
    show_default=True,
    help="Query language; or index, for the templates and pipelines that the schema needs.",
)
@SCHEMA
@MAPPING_FROM
@INDEX
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write one file a rule into this folder."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["query", "json"]),
    default="query",
    show_default=True,
    help="The query as the target takes it, or with rule, verdict and conditions.",
)
@FILTERS
@SITE
@named_errors
@chosen
def command(
    names: tuple[str, ...],
    target: str,
    schema: Schema,
    output: Path | None,
    style: str,
    filters: tuple[str, ...],
    site: Path | None,
) -> None:
    """Compile rules into queries, and say of each: exact, exact if, or refused and why.

    Queries go to standard output or to -o, the verdicts to standard error. A refused rule makes the exit code 1.
    """
    if target == INDEX_PARTS:
        finish(_write_parts(names, schema, output))
    pack = packs(names)
    narrow_pack(pack, filters, site).complain()
    made = [convert(rule, schema, target) for rule in pack.rules]
    shapes = {one.rule.stem: one.as_dict() for one in made if style == "json" or one.query is not None}
    if style == "query":
        shapes = {stem: shape["query"] for stem, shape in shapes.items()}
    if output is not None:
        for stem, shape in shapes.items():
            ending = target if isinstance(shape, str) else "json"
            written = shape if isinstance(shape, str) else json.dumps(shape, indent=2, ensure_ascii=False)
            write_text(output / f"{stem}.{ending}", written + "\n")
    elif style == "json":
        print_json(list(shapes.values()))
    else:
        for shape in shapes.values():
            click.echo(shape) if isinstance(shape, str) else print_json(shape)
    for error in pack.errors:
        complain(error)
    if len(made) == 1 and made[0].error is not None:
        complain(made[0].error)
    elif made:
        render.show_verdicts(made, render.console(stderr=True))
    finish(BAD_INPUT if pack.errors else FINE, DOES_NOT_HOLD if any(one.query is None for one in made) else FINE)


def _write_parts(names: tuple[str, ...], schema: Schema, output: Path | None) -> int:
    """Print what Elasticsearch is to hold for the schema, by the path of its PUT; or write a file each."""
    if names:
        raise UsageError("the parts of an index follow from the schema alone", hint="leave out the rules")
    made = {part.path: part.body for part in parts(schema)}
    if output is None:
        print_json(made)
    else:
        for path, body in made.items():
            write_text(output / f"{path.replace('/', '.')}.json", json.dumps(body, indent=2) + "\n")
    return FINE
