"""Which schema a command is for: one by its name, or that of an index that exists."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from keytrail.errors import UsageError
from keytrail.schemas import SCHEMAS, Schema, get_schema

Command = TypeVar("Command", bound=Callable[..., Any])

SCHEMA = click.option(
    "--schema",
    "name",
    type=click.Choice(list(SCHEMAS)),
    default="ecs",
    show_default=True,
    help="How the index is laid out.",
)
MAPPING_FROM = click.option(
    "--mapping-from",
    "source",
    metavar="URL|FILE",
    help="Instead of a schema: an Elasticsearch that has your index, or a file with what GET /INDEX answers.",
)
INDEX = click.option("--index", help="With --mapping-from: the index, data stream, alias or pattern.")


def chosen(command: Command) -> Command:
    """Give the command the ``schema`` that the three options mean."""

    @wraps(command)
    def run(*, name: str, source: str | None, index: str | None, **options: Any) -> Any:
        if index and not source:
            raise UsageError("--index goes with --mapping-from", hint="a schema names its own index pattern")
        return command(schema=_live(source, index) if source else get_schema(name), **options)

    return run  # type: ignore[return-value]


def _live(source: str, index: str | None) -> Schema:
    from keytrail.schemas.live import load_schema  # with what talks to Elasticsearch, which few calls need

    return load_schema(source, index)
