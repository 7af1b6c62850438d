"""The command ``keytrail``: each module of :mod:`keytrail.commands` is one of its commands."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import click

from keytrail import __version__, commands


class Commands(click.Group):
    """A group whose commands are the modules there are; one is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in iter_modules(commands.__path__) if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"{commands.__name__}.{cmd_name}").command
        found.name = cmd_name
        return found


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keytrail")
def main() -> None:
    """Watch the KMS keys that seal CloudTrail's log files.

    Sigma rules, Elasticsearch queries proven to mean the same, and the tools to test, hunt and explain.
    Exit codes: 0 fine, 1 what was checked does not hold, 2 wrong usage or input that could not be read.
    """
