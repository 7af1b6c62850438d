"""``keytrail schema``: a schema as Elasticsearch takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from keytrail.commands._common import Examples, named_errors, print_json
from keytrail.errors import UsageError
from keytrail.schemas import SCHEMAS, Schema, ecs_custom, get_schema

FLEETS = ("ecs", "ecs-custom")


def _mapping(schema: Schema) -> Mapping[str, Any]:
    return schema.body


def _template(schema: Schema) -> Mapping[str, Any]:
    if schema.name in FLEETS:
        hint = "keytrail schema ecs-custom --part component-template adds to it"
        raise UsageError(f"the index template of schema {schema.name} is the AWS integration's own", hint=hint)
    return {"index_patterns": [schema.index], "priority": 500, "template": schema.body}


def _extension(name: str, made: Callable[[], dict[str, Any]]) -> Callable[[Schema], Mapping[str, Any]]:
    def part(schema: Schema) -> Mapping[str, Any]:
        if schema.name != "ecs-custom":
            hint = f"keytrail schema ecs-custom --part {name}"
            raise UsageError(f"schema {schema.name} has no {name}, schema ecs-custom has", hint=hint)
        return made()

    return part


PARTS: dict[str, Callable[[Schema], Mapping[str, Any]]] = {
    "mapping": _mapping,
    "template": _template,
    "pipeline": _extension("pipeline", ecs_custom.pipeline),
    "component-template": _extension("component-template", ecs_custom.component_template),
}


@click.command(
    cls=Examples,
    examples=[
        "keytrail schema keytrail --part template",
        "keytrail schema ecs-custom --part pipeline",
        "keytrail schema ecs-custom --part component-template",
    ],
)
@click.argument("name", type=click.Choice(list(SCHEMAS)))
@click.option(
    "--part", type=click.Choice(list(PARTS)), default="mapping", show_default=True, help="Which of its parts."
)
@named_errors
def command(name: str, part: str) -> None:
    """Print a part of a schema as JSON, the body of a PUT request to Elasticsearch.

    The mapping is for an index (PUT /INDEX), the template for _index_template. The pipeline of ecs-custom is for
    _ingest/pipeline/logs-aws.cloudtrail@custom and its component template for
    _component_template/logs-aws.cloudtrail@custom, which Elastic's AWS integration uses by itself; documents get the
    new fields from then on.
    """
    print_json(PARTS[part](get_schema(name)))
