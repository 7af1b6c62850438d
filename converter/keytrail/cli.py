"""The command ``keytrail``: each module of :mod:`keytrail.commands` is one of its commands."""

from __future__ import annotations

import ast
from importlib import import_module
from pkgutil import get_data, iter_modules

import click

from keytrail import __version__, commands


class Commands(click.Group):
    """A group whose commands are the modules there are; one is imported when it is called, and not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(module.name for module in iter_modules(commands.__path__) if not module.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f"{commands.__name__}.{cmd_name}").command
        found.name = cmd_name
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name, limit)) for name in names])


def summary(name: str, limit: int) -> str:
    """Return the first sentence of a command's help, cut at ``limit`` characters, from its source alone."""
    source = get_data(commands.__name__, f"{name}.py") or b""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    found = next((ast.get_docstring(node) for node in functions if node.name == "command"), None)
    return click.Command(name, help=found).get_short_help_str(limit)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keytrail")
def main() -> None:
    """Watch the KMS keys that seal CloudTrail's log files.

    Sigma rules, Elasticsearch queries proven to mean the same, and the tools to test, hunt and explain.
    Exit codes: 0 fine, 1 what was checked does not hold, 2 wrong usage or input that could not be read.
    """
