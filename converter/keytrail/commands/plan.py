"""``keytrail plan``: what an apply would do to a Kibana space and to an index's parts."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from keytrail.commands._common import Examples, finish, named_errors, print_json
from keytrail.commands._planning import Asked, deployment, options, plan_text, show
from keytrail.files import write_text


@click.command(
    cls=Examples,
    examples=[
        "keytrail plan --kibana https://kibana:5601",
        "keytrail plan --kibana https://kibana:5601 --space soc --schema ecs-custom --site site.yml -o plan.json",
        "keytrail plan --kibana https://kibana:5601 --drift overwrite --format json",
        "keytrail plan --elasticsearch https://localhost:9200 --schema ecs-custom",
    ],
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan file that apply holds to."
)
@named_errors
@options
def command(asked: Asked, output: Path | None) -> None:
    """Say what an apply would change: created +, updated ~, deleted -, same =, in conflict !, each with its diff.

    Nothing is written. Only rules that Keytrail has written are ever updated or deleted; exceptions, actions, timelines
    and whether a rule is enabled stay as analysts have them. Exit codes: 0 nothing would change, 3 something would, 1 a
    conflict, a problem or a refused rule, 2 wrong usage or what could not be read.

    Credentials: KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD, or --api-key-file; a private certificate
    authority: KIBANA_CA_CERTS. For Elasticsearch: ELASTICSEARCH_API_KEY and so on.
    """
    with deployment(asked, threading.Event()) as (found, code):
        plan = found.plan
    if output is not None:
        write_text(output, plan_text(plan))
    if asked.style == "json":
        print_json(plan.as_dict())
    else:
        show(plan)
    finish(code or plan.code(refusals_count=not asked.allow_refused))
