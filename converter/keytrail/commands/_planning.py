"""What ``plan`` and ``apply`` share: their options, what is wanted, and how a plan is shown."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from keytrail import render
from keytrail.cluster import real_elasticsearch
from keytrail.commands._common import BAD_INPUT, FINE, FORMAT, complain, packs, plain
from keytrail.commands._narrowing import FILTERS, SITE, narrow_pack
from keytrail.commands._runs import run_options, runs
from keytrail.commands._schemas import SCHEMA
from keytrail.deploy import Deployment
from keytrail.errors import UsageError
from keytrail.filters import Filter
from keytrail.kibana.client import Kibana, connect
from keytrail.kibana.detection import OWN_TAG, detection_rules
from keytrail.kibana.exceptions import Split, split
from keytrail.kibana.plan import KEEP, OVERWRITE, Choices, Wanted
from keytrail.kibana.versions import read_versions
from keytrail.kibana.words import finds_otherwise
from keytrail.render import safe
from keytrail.schemas import get_schema
from keytrail.site import load_site
from keytrail.steps import CONFLICT, MARKS, REPLACE, SAME, UPDATE, Change, Plan, Step

Command = TypeVar("Command", bound=Callable[..., Any])
COLOURS = {"+": "green", "~": "yellow", "-": "red", "=": "dim", "!": "bold red"}

_OPTIONS = (
    click.argument("names", metavar="[RULE|FILE|DIR]...", nargs=-1),
    click.option("--kibana", "url", help="URL of the Kibana whose rules are meant."),
    click.option("--space", default="default", show_default=True, help="The space in Kibana."),
    click.option("--elasticsearch", help="URL of the Elasticsearch whose templates and pipelines are meant."),
    click.option(
        "--api-key-file",
        "key_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file with Kibana's API key, instead of KIBANA_API_KEY.",
    ),
    SCHEMA,
    FILTERS,
    SITE,
    click.option(
        "--drift",
        type=click.Choice([KEEP, OVERWRITE]),
        help="What was changed by hand: keep it or overwrite it. By default it is kept, and a conflict where the pack "
        "changes the same field.",
    ),
    click.option("--adopt", is_flag=True, help="Take over rules with the pack's ids that Keytrail has not written."),
    click.option("--prune", is_flag=True, help="Delete what is not among the RULEs named, as without any name."),
    click.option(
        "--limit-deletes",
        "deletes",
        type=click.IntRange(min=0),
        metavar="N",
        help="How many rules may be deleted. By default 5, and no more than one in five.",
    ),
    click.option(
        "--exceptions",
        is_flag=True,
        help="Filters become exception lists with their expiry, where Kibana's exceptions say the same.",
    ),
    click.option("--enable", is_flag=True, help="Rules that are created are enabled; by default they are not."),
    click.option(
        "--versions",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The file that 'keytrail convert --target kibana --versions' keeps of rules of your own.",
    ),
    click.option("--allow-refused", is_flag=True, help="Rules that the schema cannot say do not make the exit code 1."),
    FORMAT,
)


def options(command: Command) -> Command:
    """Give a command the options of both, as one :class:`Asked`."""

    def run(**given: Any) -> Any:
        own = {name: given.pop(name) for name in list(given) if name not in Asked.__dataclass_fields__}
        return command(Asked(**given), **own)

    run.__doc__ = command.__doc__
    run = runs(run)
    for option in reversed(_OPTIONS):
        run = option(run)
    return run  # type: ignore[return-value]


@dataclass(frozen=True)
class Asked:
    """What the user asked for, by the names of the options."""

    names: tuple[str, ...]
    url: str | None
    space: str
    elasticsearch: str | None
    key_file: Path | None
    name: str
    filters: tuple[str, ...]
    site: Path | None
    drift: str | None
    adopt: bool
    prune: bool
    deletes: int | None
    allow_refused: bool
    exceptions: bool
    enable: bool
    versions: Path | None
    patterns: tuple[str, ...]
    data_view: str | None
    every: int
    lateness: int
    style: str


@contextmanager
def deployment(asked: Asked, stop: threading.Event) -> Iterator[tuple[Deployment, int]]:
    """Yield what is planned, and the exit code of what could not be read.

    Errors: :class:`UsageError` for what does not fit together; those of reading the pack, Kibana and Elasticsearch.
    """
    if asked.url is None and asked.elasticsearch is None:
        raise UsageError("there is nothing to plan for", hint="name --kibana URL, --elasticsearch URL, or both")
    if asked.url is None and asked.names:
        raise UsageError("rules are planned for Kibana, and none is named", hint="name --kibana URL, or no rules")
    schema = get_schema(asked.name)
    found = Deployment({"schema": schema.name})
    with ExitStack() as stack:
        if asked.elasticsearch is not None:
            cluster = stack.enter_context(real_elasticsearch(asked.elasticsearch))
            found.add_index(cluster, schema, asked.drift)
        code = FINE
        if asked.url is not None:
            kibana = connect(asked.url, asked.space, key_file=asked.key_file, stop=stop, report=_again)
            stack.callback(kibana.close)
            code = _add_rules(found, asked, kibana)
        yield found, code


def _again(line: str) -> None:
    click.echo(plain(line), err=True)


def _add_rules(found: Deployment, asked: Asked, kibana: Kibana) -> int:
    own = load_site(asked.site)
    pack = packs(asked.names, own=own.rules)
    known = frozenset(rule.id for rule in pack.rules)
    schema = get_schema(asked.name)
    parted = Split()

    def spared(filters: Sequence[Filter]) -> Callable[[Filter], bool]:
        nonlocal parted
        parted = split(filters, pack.rules, schema)
        return parted.takes

    narrowing = narrow_pack(pack, asked.filters, own, spared=spared if asked.exceptions else None)
    narrowing.complain(notes=False)
    found.notes += narrowing.notes
    found.notes += [f"the filter {stem} stays in the query: {why}" for stem, why in parted.reasons.items()]
    for error in pack.errors:
        complain(error)
    options = run_options(vars(asked), space=asked.space, versions=read_versions(asked.versions, schema))
    made, refused = detection_rules(pack.rules, schema, options)
    found.refused |= {one.rule.stem: one.error.message if one.error else "" for one in refused}
    found.notes += [note for one in made for note in one.notes]
    # What could not be read is missing here, and is not to be deleted for it.
    whole = (asked.prune or not asked.names) and not pack.errors
    # Correlations look at the alerts of the rules that they name, which come first.
    made.sort(key=lambda one: one.rule.kind == "correlation")
    bodies = [{**one.body, "enabled": True} if asked.enable else one.body for one in made]
    wanted = Wanted(OWN_TAG, bodies, known, whole)
    choices = Choices(asked.drift, asked.adopt, asked.deletes)
    found.add_rules(kibana, wanted, choices, parted.by_rule if asked.exceptions else None)
    return BAD_INPUT if pack.errors else FINE


@contextmanager
def stoppable(stop: threading.Event) -> Iterator[list[int]]:
    """The first signal to end sets ``stop``, so that the write under way is finished; a second one ends at once.

    Yields the signals that came.
    """
    caught: list[int] = []

    def first(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        stop.set()
        if len(caught) > 1:
            raise KeyboardInterrupt
        click.echo("stopping after what is under way; once more to stop at once", err=True)

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show(plan: Plan) -> None:
    """Print a plan as text: a line a step with its sign, and beneath it what changes."""
    out = render.console()
    where = ", ".join(f"{name} {value}" for name, value in plan.where.items())
    out.print(f"[bold]{safe(where)}[/]")
    for step in plan.steps:
        if step.action != SAME or step.drift or step.why:
            out.print(line(step), soft_wrap=True)
            _show_details(step, out)
    same = sum(step.action == SAME and not step.drift for step in plan.steps)
    if same:
        out.print(f"[dim]= same     {same} as they should be[/]")
    for stem, reason in plan.refused.items():
        out.print(f"[red]! refused[/] {safe(stem)}: {safe(reason)}", soft_wrap=True)
    for note in plan.notes:
        out.print(f"note: {safe(note)}", soft_wrap=True)
    for problem in plan.problems:
        out.print(f"[bold red]problem:[/] {safe(problem)}", soft_wrap=True)
    counted = ", ".join(
        f"{count} to {action}"
        for action in MARKS
        if (count := plan.counts.get(action, 0)) and action not in (SAME, CONFLICT)
    )
    otherwise = sum(step.action in (UPDATE, REPLACE) and finds_otherwise(step) for step in plan.steps)
    if plan.counts[UPDATE] + plan.counts[REPLACE]:
        counted += f"; what is found, how severe it is or when changes in {otherwise or 'none'} of the updates"
    conflicts = f"; {len(plan.conflicts)} in conflict" if plan.conflicts else ""
    refused = f"; {len(plan.refused)} refused" if plan.refused else ""
    out.print(f"{counted or 'nothing to do'}{conflicts}{refused}")


def line(step: Step) -> str:
    """Return the line of a step, as markup."""
    colour = COLOURS[step.mark]
    why = f"  [dim]({safe(step.why)})[/]" if step.why else ""
    return f"[{colour}]{step.mark} {step.action:8}[/] {safe(step.kind)} {safe(step.name)}{why}"


def _show_details(step: Step, out: Any) -> None:
    for sentence in step.words:
        out.print(f"      {safe(sentence)}", soft_wrap=True)
    for change in step.changes:
        for text in change.lines:
            out.print(f"      {_change(change, text)}", soft_wrap=True)
    if step.drift and (step.action == CONFLICT or not step.kept):
        named = ", ".join(change.field for change in step.drift)
        said = "changed by hand" if step.action == CONFLICT else "overwrites what was changed by hand"
        out.print(f"      [magenta]{said}: {safe(named)}[/]", soft_wrap=True)
    elif step.drift:
        out.print("      [magenta]changed by hand, and kept:[/]")
        for change in step.drift:
            for text in change.lines:
                out.print(f"        {_change(change, text)}", soft_wrap=True)


def _change(change: Change, text: str) -> str:
    """One line of a change as markup, with the field that it is about."""
    colour = COLOURS.get(text.lstrip()[:1], "dim")
    named = change.placed or text[2:].startswith(f"{change.field}: ")
    return f"[{colour}]{safe(text if named else f'{text[:2]}{change.field}: {text[2:]}')}[/]"


def plan_text(plan: Plan) -> str:
    """Return the plan file."""
    return json.dumps(plan.as_dict(), indent=2) + "\n"
