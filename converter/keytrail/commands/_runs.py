"""The options of commands that make Kibana's rules: where a rule searches, and when it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keytrail.errors import UsageError

if TYPE_CHECKING:
    from keytrail.kibana.runs import Options

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULTS: Mapping[str, Any] = {"patterns": (), "data_view": None, "every": 5, "lateness": 30}
_FLAGS = {"patterns": "--index-pattern", "data_view": "--data-view", "every": "--every", "lateness": "--lateness"}
_OPTIONS = (
    click.option(
        _FLAGS["patterns"],
        "patterns",
        multiple=True,
        metavar="PATTERN",
        help="Kibana: the indices that rules search, instead of the schema's; may be given several times.",
    ),
    click.option(
        _FLAGS["data_view"],
        metavar="ID",
        help="Kibana: the data view that rules search, by its id; ES|QL has none and searches the indices.",
    ),
    click.option(
        _FLAGS["every"],
        type=click.IntRange(1, 24 * 60),
        default=DEFAULTS["every"],
        show_default=True,
        metavar="MINUTES",
        help="Kibana: how often rules run.",
    ),
    click.option(
        _FLAGS["lateness"],
        type=click.IntRange(0, 7 * 24 * 60),
        default=DEFAULTS["lateness"],
        show_default=True,
        metavar="MINUTES",
        help="Kibana: how late events may come where the index does not keep when they arrived.",
    ),
)


def runs(command: Command) -> Command:
    """Give a command the options; they come as ``patterns``, ``data_view``, ``every`` and ``lateness``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def refuse_options(target: str, given: Mapping[str, Any]) -> None:
    """Raise :class:`UsageError` where one of the options is given for a target that does not know it."""
    for name, option in _FLAGS.items():
        if given[name] != DEFAULTS[name]:
            raise UsageError(f"{option} is for --target kibana, not {target}", hint="leave it out")


def run_options(given: Mapping[str, Any], **more: Any) -> Options:
    """Return what was asked for. Raises :class:`UsageError` for a pattern that is none."""
    from keytrail.kibana.runs import Options

    for one in given["patterns"]:
        if not re.fullmatch(r"[^\s,\"\\/?|<>#A-Z]+", one):
            raise UsageError(f"{one!r} names no indices", hint="like logs-aws.cloudtrail-*, the option once for each")
    if given["data_view"] == "":
        raise UsageError("a data view has an id", hint="Kibana shows it in the address of the data view")
    return Options(
        index=given["patterns"],
        data_view=given["data_view"],
        interval=given["every"],
        lateness=given["lateness"],
        **more,
    )
