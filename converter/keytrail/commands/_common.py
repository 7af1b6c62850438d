"""What the commands share: errors, exit codes, examples in the help, finding the rules that are meant."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from keytrail.data import packaged
from keytrail.errors import KeytrailError, RuleError, UsageError
from keytrail.files import json_text
from keytrail.pack import Pack, load_rules
from keytrail.visible import visible

if TYPE_CHECKING:
    from keytrail.proof import Report

FINE, DOES_NOT_HOLD, BAD_INPUT = 0, 1, 2
STOPPED = 130  # by Ctrl-C, as shells say it; click would say 1, which is something that was checked
Command = TypeVar("Command", bound=Callable[..., Any])


def complain(error: object) -> None:
    """Write one error to standard error, without control characters a log could have smuggled in."""
    click.secho(f"error: {plain(str(error))}", fg="red", err=True)


def plain(text: str) -> str:
    """Return text whose control characters are written out, but for the ends of lines."""
    return visible(text, keep="\n")


def named_errors(command: Command) -> Command:
    """Turn the errors that Keytrail names, and those of the system, into a message and exit code 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            _mend_streams()
            with _ended_in_order():
                return command(*args, **kwargs)
        except KeytrailError as error:
            complain(error)
            sys.exit(BAD_INPUT)
        except KeyboardInterrupt:
            complain("stopped")
            sys.exit(STOPPED)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(FINE)
        except OSError as error:
            # Say, a full disk. Python writes out what is left when it ends, and would complain a second time.
            sys.stdout = None
            where = error.filename or "the output, or a temporary file"
            complain(f"{where} cannot be read or written: {error.strerror or error}")
            sys.exit(BAD_INPUT)

    return run  # type: ignore[return-value]


def _mend_streams() -> None:
    """See to it that standard error is there, and that standard output takes every letter, whatever its encoding.

    Raises :class:`UsageError` where standard output is closed: what is printed would be lost.
    """
    if sys.stderr is None:
        # Else the next file that is opened would take its number, and what is written to it.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end
    if sys.stdout is None:
        raise UsageError("standard output is closed", hint="lead it somewhere: > /dev/null where nobody is to read it")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Leave by way of an exception when asked to end (SIGTERM, SIGHUP), so that processes and servers end as well."""
    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a process that searches for this one: it has nothing to put in order
            os._exit(128 + number)
        sys.exit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored, as by nohup, stays so; and only a program's first thread may ask for signals.
    asked = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if asked and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


class Examples(click.Command):
    """A command whose help ends with examples, printed as they are written."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"  {example}\n")


def packs(names: Sequence[str], folder: Path | None = None, own: Path | None = None) -> Pack:
    """Return the rules that ``names`` mean: paths, or stems and ids; none means all of them.

    Parameters: ``folder`` holds the rules instead of the pack, ``own`` a site's beside them.
    """
    homes = [folder or packaged("rules"), *([] if own is None else [own])]
    paths = [Path(name) for name in names if Path(name).suffix in (".yml", ".yaml") or Path(name).is_dir()]
    stems = [name for name in names if Path(name) not in paths]
    found = load_rules(paths) if paths else Pack()
    if stems or not names:
        whole = _alone(stems, homes) or load_rules(homes)
        unknown = [stem for stem in stems if not any(stem in (rule.stem, rule.id) for rule in whole.rules)]
        if unknown:
            raise UsageError(
                f"there is no rule {unknown[0]!r}", hint="'keytrail rules' lists them; a file ends in .yml"
            )
        found.rules += [rule for rule in whole.rules if not stems or {rule.stem, rule.id} & set(stems)]
        found.errors += whole.errors
        found.filters += whole.filters
    return found


def _alone(stems: Sequence[str], homes: Sequence[Path]) -> Pack | None:
    """The rules of these files alone, where each stem is a file's and none is about other rules."""
    files = {path.stem: path for home in homes for path in sorted(home.rglob("*.yml"))}
    if not stems or not all(stem in files for stem in stems):
        return None
    try:
        found = load_rules([files[stem] for stem in stems])
    except RuleError:
        return None
    return None if found.errors or any(rule.kind == "correlation" for rule in found.rules) else found


def finish(*codes: int) -> NoReturn:
    """End with the most serious of the exit codes."""
    sys.exit(max(codes, default=FINE))


def print_json(value: object) -> None:
    """Print ``value`` as JSON, in ASCII: a log's control characters do not reach the terminal."""
    click.echo(json_text(value, ascii_only=True))


FORMAT = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True, help="What to print."
)


def show_report(report: Report) -> None:
    """Print the proof as a table, failures last."""
    from keytrail import render
    from keytrail.verdict_tables import show_verdicts

    out = render.console()
    show_verdicts(report.conversions)
    out.print(render.proof_table(report))
    for failure in report.failures:
        place = f"{failure.path}:{failure.line}: " if failure.path else ""
        complain(f"{place}{failure.rule or 'all rules'}: {failure.pair} disagree: {failure.what}")
    for engine, stems in report.unproven.items():
        out.print(f"not proven on {engine}, which has no painless for their script: {', '.join(sorted(stems))}")
    total = report.checks.total()
    out.print(f"{report.cases:,} cases, {total:,} checks, {len(report.failures):,} failures")
