"""``keytrail new``: begin something new."""

from __future__ import annotations

from pathlib import Path

import click

from keytrail.commands._common import Examples, named_errors
from keytrail.scaffold import new_rule


@click.group()
def command() -> None:
    """Begin something new."""


@command.command(
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
