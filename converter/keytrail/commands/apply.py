"""``keytrail apply``: bring a Kibana space and an index's parts to what the pack says."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import click

from keytrail import render
from keytrail.commands._common import DOES_NOT_HOLD, FINE, Examples, complain, finish, named_errors, print_json
from keytrail.commands._planning import Asked, deployment, line, options, show, stoppable
from keytrail.deploy import Deployment
from keytrail.errors import UsageError
from keytrail.render import safe
from keytrail.steps import Outcome, Plan, PlanChanged, PlanError, hold_to


@click.command(
    cls=Examples,
    examples=[
        "keytrail apply --kibana https://kibana:5601",
        "keytrail apply --kibana https://kibana:5601 --space soc --plan plan.json",
        "keytrail apply --kibana https://kibana:5601 --yes --limit-deletes 12",
        "keytrail apply --elasticsearch https://localhost:9200 --schema keytrail --yes",
    ],
)
@click.option(
    "--plan",
    "promised",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A plan file: nothing else is done, and nothing is asked.",
)
@click.option("--yes", is_flag=True, help="Ask nothing.")
@named_errors
@options
def command(asked: Asked, promised: Path | None, yes: bool) -> None:
    """Do what 'keytrail plan' with the same options says, one write at a time.

    Each rule is read again just before it is written: an edit by somebody else stops the apply. What is under way is
    finished on Ctrl-C. Where it stops, it says what was done and what was not; another apply does the rest, and one
    after that writes nothing. Exit codes: 0 done, 1 a conflict, a problem, a refused rule or stopped half-way, 2 wrong
    usage or what could not be read.
    """
    stop = threading.Event()
    with stoppable(stop) as caught, deployment(asked, stop) as (found, code):
        plan = found.plan
        if promised is not None:
            _hold_to(plan, promised)
        if asked.style != "json":
            show(plan)
        outcome = None
        if plan.writes and not plan.problems:
            _ask(promised, yes)
            outcome = _carry_out(found, asked.style, stop)
        _tell(plan.as_dict(), outcome, asked.style)
    if caught:
        finish(128 + caught[0])
    done = outcome is None or outcome.ok
    left = plan.problems or plan.conflicts or (plan.refused and not asked.allow_refused)
    finish(code, FINE if done and not left else DOES_NOT_HOLD)


def _hold_to(plan: Plan, path: Path) -> None:
    try:
        promised = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError("the plan file cannot be read", path=path, hint="'keytrail plan -o FILE' writes one") from error
    try:
        hold_to(plan, promised)
    except PlanChanged as changed:
        complain(changed)
        finish(DOES_NOT_HOLD)


def _ask(promised: Path | None, yes: bool) -> None:
    if promised is not None or yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "nobody is there to be asked", hint="--plan FILE does what a plan said, --yes what it says now"
        )
    click.confirm("Do this?", abort=True, err=True)


def _carry_out(found: Deployment, style: str, stop: threading.Event) -> Outcome:
    out = render.console()
    if style == "json":
        return found.apply(stop=stop)
    return found.apply(lambda step: out.print(f"done: {line(step)}", soft_wrap=True), stop)


def _tell(plan: dict[str, Any], outcome: Outcome | None, style: str) -> None:
    if style == "json":
        print_json({"plan": plan, "outcome": outcome.as_dict() if outcome is not None else None})
    if outcome is None:
        return
    for remark in outcome.remarks:
        complain(remark)
    if outcome.stopped:
        complain(f"stopped: {outcome.stopped}")
    if style != "json":
        out = render.console()
        for step in outcome.left:
            out.print(f"[red]not done:[/] {line(step)}", soft_wrap=True)
        out.print(
            f"{len(outcome.done)} done, {len(outcome.left)} not done"
            + safe("; interrupted" if outcome.interrupted else "")
        )
