"""``keytrail schema``: a schema as Elasticsearch takes it."""

from __future__ import annotations

import click

from keytrail import index_parts
from keytrail.commands._common import Examples, named_errors, print_json
from keytrail.index_parts import COMPONENT, PIPELINE, TEMPLATE
from keytrail.schemas import SCHEMAS, get_schema

KINDS = {"template": TEMPLATE, "pipeline": PIPELINE, "component-template": COMPONENT}


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
    "--part", type=click.Choice(["mapping", *KINDS]), default="mapping", show_default=True, help="Which of its parts."
)
@named_errors
def command(name: str, part: str) -> None:
    """Print a part of a schema as JSON, the body of a PUT request to Elasticsearch.

    The mapping is for an index (PUT /INDEX), the template for _index_template. The pipeline of ecs-custom is for
    _ingest/pipeline/logs-aws.cloudtrail@custom and its component template for
    _component_template/logs-aws.cloudtrail@custom, which Elastic's AWS integration uses by itself; documents get the
    new fields from then on. 'keytrail apply --elasticsearch URL' puts them there, never over what is the site's own.
    """
    schema = get_schema(name)
    print_json(schema.body if part == "mapping" else index_parts.part(schema, KINDS[part]).body)
