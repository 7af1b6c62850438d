"""``keytrail hunt``: the rules over CloudTrail files."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keytrail.commands._common import (
    BAD_INPUT,
    DOES_NOT_HOLD,
    FINE,
    Examples,
    complain,
    finish,
    named_errors,
    packs,
    plain,
)
from keytrail.commands._narrowing import FILTERS, SITE, Narrowing, narrow_pack
from keytrail.commands._outputs import STYLES, Output, Quiet
from keytrail.correlation import Group
from keytrail.correlation_hunt import known_groups
from keytrail.errors import RecordError, StateError, UsageError
from keytrail.hunt import AnyHit, Hit, Hunt, Window, instant, worst
from keytrail.pack import LEVELS, Pack, needs_profile
from keytrail.progress import Course, Work, to_a_terminal, watched
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.since import SinceLast
from keytrail.site import load_site
from keytrail.state import load_state, locked
from keytrail.summary import Summary
from keytrail.telemetry import blind_lines
from keytrail.visible import path_text
from keytrail.workers import cores

if TYPE_CHECKING:
    from keytrail.report import Findings

LAST = "last"


@dataclass
class Run:
    """A hunt that is ready to run: its hits, the work to watch, its summary in the end, and what to save then.

    ``lose`` is told of a file that is another by the time when its hits are read.
    """

    hits: Iterator[AnyHit]
    work: Work
    summary: Callable[[], Summary]
    lose: Callable[[RecordError], None]
    save: Callable[[], None] | None = None


@click.command(
    cls=Examples,
    examples=[
        "keytrail hunt AWSLogs/",
        "keytrail hunt AWSLogs/ --site site.yml --filter aws_config_recorder",
        "keytrail hunt AWSLogs/ --report report.html",
        "keytrail hunt AWSLogs/ --since last --state keytrail.state --format ndjson --fail-on high",
        "keytrail hunt logs.json.gz --rules my-rules/ --format json",
        "keytrail hunt --elasticsearch https://siem:9200 --index logs-aws.cloudtrail-* --since 2026-11-20",
        "zcat *.json.gz | keytrail hunt - --since 2026-11-20 --fail-on high",
    ],
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--elasticsearch", "url", help="Hunt in an index instead of files: URL of the Elasticsearch that has it.")
@click.option("--index", help="With --elasticsearch: the index, data stream, alias or pattern.")
@click.option("--rules", "folder", type=click.Path(path_type=Path), help="Any folder of Sigma rules for CloudTrail.")
@FILTERS
@SITE
@click.option("--since", help="Only events from this time on (ISO 8601, UTC unless it says otherwise), or: last.")
@click.option("--until", help="Only events before this time.")
@click.option("--state", type=click.Path(path_type=Path), help="For --since last: where it is kept what was read.")
@click.option("--jobs", type=click.IntRange(min=1), help="How many processes search; one per core if not said.")
@click.option("--fail-on", type=click.Choice(LEVELS), help="Exit with 1 on a hit of this level or above.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a report, one HTML file, to this path.")
@click.option(
    "--format", "style", type=click.Choice(list(STYLES)), default="table", show_default=True, help="What to print."
)
@click.option("--quiet", is_flag=True, help="Print no table, no notes and no progress: errors, and other formats.")
@named_errors
def command(
    paths: tuple[str, ...],
    url: str | None,
    index: str | None,
    folder: Path | None,
    filters: tuple[str, ...],
    site: Path | None,
    since: str | None,
    until: str | None,
    state: Path | None,
    jobs: int | None,
    fail_on: str | None,
    report: Path | None,
    style: str,
    quiet: bool,
) -> None:
    """Run the rules over CloudTrail files: .json, .json.gz, NDJSON, folders of them, or - for standard input.

    With --elasticsearch and --index they run over the events of an index instead, with the same output.
    """
    _check(since, until, state)
    _check_place(paths, url, index, state)
    window = _window(since, until)
    own = load_site(site)
    pack = packs([], folder, own.rules)
    narrowing = narrow_pack(pack, filters, own, folder)
    narrowing.complain(notes=not quiet)
    output: Output = Quiet() if quiet and style == "table" else STYLES[style]()
    findings = _findings(pack, narrowing) if report is not None else None
    with ExitStack() as stack:
        if state is not None:
            stack.enter_context(locked(state))
        if url is not None and index is not None:
            run = _in_index(pack, narrowing, url, index, window, stack)
        elif state is not None:
            run = _since_last(pack, narrowing, paths, state, quiet, jobs or cores())
        else:
            run = _whole(pack, narrowing, paths, window, jobs or cores())
        levels = _tell(run, output, findings, progress=not quiet)
        summary = run.summary()
        _close(run, output, pack, summary)
        if report is not None and findings is not None:
            stretch = " to ".join((since or "the first", until or "the last")) if since or until else None
            _write(report, findings, summary, narrowing, stretch)
        if run.save is not None:
            run.save()
    if not quiet:
        _note(pack, summary, style)
    _finish(pack, summary, levels, fail_on, some=run.save is None)


def _check(since: str | None, until: str | None, state: Path | None) -> None:
    if since == LAST and state is None:
        raise UsageError("--since last needs --state", hint="name a file in which to keep what was read: --state FILE")
    if since != LAST and state is not None:
        raise UsageError("--state is for --since last", hint="write --since last, or leave --state out")
    if state is not None and until is not None:
        hint = "leave --until out: the events after it would never be hunted in"
        raise UsageError("--until does not go with --since last", hint=hint)


def _window(since: str | None, until: str | None) -> Window:
    window = Window(instant(since) if since not in (None, LAST) else None, instant(until) if until else None)
    if window.since is not None and window.until is not None and window.since >= window.until:
        raise UsageError(
            "--since is not before --until: nothing lies between them", hint="are they the wrong way round?"
        )
    return window


def _check_place(paths: tuple[str, ...], url: str | None, index: str | None, state: Path | None) -> None:
    if bool(url) != bool(index):
        raise UsageError("--elasticsearch and --index go together", hint="which index of which Elasticsearch?")
    if bool(paths) == bool(url):
        what = "files and an index cannot be hunted in at once" if paths else "there is nothing to hunt in"
        raise UsageError(what, hint="give paths, or --elasticsearch URL --index INDEX")
    if url and state is not None:
        raise UsageError("--since last is for files", hint="an index is asked by time: --since 2026-11-20T10:00:00Z")


def _known(pack: Pack, narrowing: Narrowing) -> dict[str, frozenset[Group]]:
    return {rule.id: known_groups(rule, narrowing.profile) for rule in pack.rules}


def _prepare(pack: Pack, narrowing: Narrowing) -> Hunt:
    return Hunt.prepare(pack.rules, get_schema("keytrail"), _known(pack, narrowing))


def _whole(pack: Pack, narrowing: Narrowing, paths: tuple[str, ...], window: Window, jobs: int) -> Run:
    hunt, reader = _prepare(pack, narrowing), Reader(paths)
    return Run(hunt.run(reader, window, jobs=jobs), Course(reader), lambda: Summary.of(hunt, reader), reader.lose)


def _in_index(pack: Pack, narrowing: Narrowing, url: str, index: str, window: Window, stack: ExitStack) -> Run:
    from keytrail.cluster import real_elasticsearch
    from keytrail.index_hunt import IndexHunt

    cluster = stack.enter_context(real_elasticsearch(url))
    hunt = IndexHunt.prepare(cluster, index, pack.rules, _known(pack, narrowing))
    # However the hunt ends, the point in time is closed before the connection is.
    hits = stack.enter_context(closing(hunt.run(window)))
    return Run(hits, hunt, hunt.summary, _raised)


def _since_last(pack: Pack, narrowing: Narrowing, paths: tuple[str, ...], state: Path, quiet: bool, jobs: int) -> Run:
    if not state.exists() and not quiet:
        click.echo(f"note: there is no state {state} yet: everything is read", err=True)
    found = SinceLast(
        pack.rules,
        lambda: _prepare(pack, narrowing),
        paths,
        load_state(state, paths),
        now=time.time_ns() // 1_000_000,
        jobs=jobs,
    )
    return Run(found.run(), found, found.summary, found.lose, lambda: found.state.save(state))


def _raised(error: RecordError) -> None:
    raise error


def _tell(run: Run, output: Output, findings: Findings | None, *, progress: bool) -> set[str]:
    """Give every hit to those who take them; return the levels that there were."""
    levels: set[str] = set()
    lost: set[str] = set()
    count = 0
    with ExitStack() as stack:
        if progress and to_a_terminal(streaming=output.streaming):
            stack.enter_context(watched(run.work, lambda: f"{count:,} hits"))
        try:
            for hit in run.hits:
                count += 1
                levels.add(hit.rule.level)
                if isinstance(hit, Hit) and hit.path in lost:
                    continue
                try:
                    if findings is not None:
                        findings.take(hit)
                    output.take(hit)
                except RecordError as error:
                    lost.add(str(error.path))
                    run.lose(error)
        except BrokenPipeError:
            _closed(run)
    return levels


def _close(run: Run, output: Output, pack: Pack, summary: Summary) -> None:
    try:
        output.close(summary, pack.rules)
        sys.stdout.flush()
    except BrokenPipeError:
        _closed(run)


def _closed(run: Run) -> None:
    """Who reads the output has gone. That is no failure, but where hits would be taken for told that nobody got."""
    if run.save is None:
        raise BrokenPipeError
    # Python writes out what is left when it ends, and would complain a second time.
    sys.stdout = None
    hint = "the state stays as it was, so the next run tells all of it again"
    raise StateError("the output was closed before all was written", hint=hint)


def _findings(pack: Pack, narrowing: Narrowing) -> Findings:
    from keytrail.report import Findings

    # Of a trail without a key nothing can be seen: CloudTrail asks for a data key where there is one.
    known = narrowing.profile.trails if narrowing.profile is not None else ()
    return Findings(pack.rules, [trail.arn for trail in known if trail.keys and not trail.earlier])


def _write(path: Path, findings: Findings, summary: Summary, narrowing: Narrowing, stretch: str | None) -> None:
    from keytrail.report import About, write_report

    site = narrowing.profile.site if narrowing.profile is not None else None
    about = About(_spoken(), site, tuple(one.stem for one in narrowing.filters), stretch)
    write_report(path, findings, summary, about)


def _spoken() -> str:
    """The command as it was given, without what a URL in it says of a user."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", path_text(shlex.join(["keytrail", *sys.argv[1:]])))


def _note(pack: Pack, summary: Summary, style: str) -> None:
    """Say what the hits do not tell; what JSON has of it stays there."""
    for line in blind_lines(pack.rules, summary.blind) if style != "json" else ():
        click.echo(f"note: {line}", err=True)
    for rule in pack.rules if style != "json" else ():
        if rule.id in summary.doubtful:
            click.echo(plain(f"note: {rule.stem} {summary.doubtful[rule.id]}"), err=True)
    waiting = ", ".join(rule.stem for rule in pack.rules if needs_profile(rule))
    if waiting:
        click.echo(f"note: without a site profile (--site) these say nothing: {waiting}", err=True)


def _finish(pack: Pack, summary: Summary, levels: set[str], fail_on: str | None, *, some: bool) -> None:
    """Say what went wrong, and end with the exit code for it. ``some`` records are expected."""
    waiting = [rule for rule in pack.rules if needs_profile(rule)]
    refused = [
        f"rule {rule.stem} refused: {summary.refused[rule.id]}"
        for rule in pack.rules
        if rule.id in summary.refused and rule not in waiting
    ]
    for error in (*pack.errors, *summary.bad, *refused):
        complain(error)
    if summary.bad_count > len(summary.bad):
        complain(f"{summary.bad_count - len(summary.bad):,} more bad inputs")
    unread = some and not summary.searched
    if unread:
        complain("no record lies in the time searched" if summary.records else "no CloudTrail record was read")
    failed = fail_on is not None and worst(sorted(levels)) >= LEVELS.index(fail_on)
    bad = bool(pack.errors or summary.bad_count or unread)
    finish(BAD_INPUT if bad else FINE, DOES_NOT_HOLD if failed or refused else FINE)
