"""``python -m benchmarks.fidelity``: the figures on the screen, or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from keytrail import render
from keytrail.cluster import real_elasticsearch
from keytrail.commands._common import BAD_INPUT, DOES_NOT_HOLD, FINE, complain
from keytrail.data import packaged
from keytrail.errors import KeytrailError
from keytrail.render import safe
from keytrail.schemas import SCHEMAS
from rich.console import Console

from benchmarks.fidelity import __doc__ as about
from benchmarks.fidelity.comparison import DYNAMIC, Comparison, Score, Setting, compare
from benchmarks.fidelity.material import KINDS, Events, Rules, own_events, read_events, read_rules

COLUMNS = (
    *("backend", "exact", "with hits", "wrong", "condition false", "missed", "false hits"),
    *("no such field", "refused", "rejected"),
)
STOCK = "pysigma-backend-elasticsearch"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print, and return the exit code: 1 where one of ours is wrong unsaid, 2 for unreadable input."""
    given = _parser().parse_args(arguments)
    out = render.console()
    setting = Setting(
        given.mapping, not given.no_date_detection, given.field_limit, given.ignore_above, given.count_refused
    )
    try:
        setting.layout()
        pairs = list(_material(given))
        with real_elasticsearch(given.elasticsearch, given.server, _progress) as cluster:
            done = [(title, compare(cluster, rules, events, setting, _progress)) for title, rules, events in pairs]
    except KeytrailError as error:
        complain(error)
        return BAD_INPUT
    if given.json:
        print(json.dumps([{"material": title, **found.as_dict()} for title, found in done], indent=2))
    else:
        for title, found in done:
            show(title, found, out, given.details)
    bad = [error for _, found in done for error in (*found.rules.bad, *found.events.bad)]
    for problem in dict.fromkeys(map(str, bad)):
        complain(problem)
    return BAD_INPUT if bad else FINE if all(found.ok for _, found in done) else DOES_NOT_HOLD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Without RULES and EVENTS it compares the pack, and rules of the kinds on which queries go wrong "
        "(the folder kinds), over the fixture events and the sample.",
    )
    parser.add_argument("rules", nargs="?", metavar="RULES", help="a folder of Sigma rules, or a file")
    parser.add_argument("events", nargs="*", metavar="EVENTS", help="files or folders of CloudTrail events")
    parser.add_argument("--server", choices=("8", "9"), default="8", help="start Elasticsearch 8.19 (default) or 9.5")
    parser.add_argument("--elasticsearch", metavar="URL", help="a running one instead, or ELASTICSEARCH_URL")
    named = ", ".join(SCHEMAS)
    parser.add_argument(
        "--mapping", default=DYNAMIC, help=f"{DYNAMIC} (default, no mapping at all), {named}, or a file with a mapping"
    )
    parser.add_argument("--no-date-detection", action="store_true", help="strings that look like dates stay strings")
    parser.add_argument("--field-limit", type=int, metavar="N", help="fields that the index takes (default: 1000)")
    parser.add_argument("--ignore-above", type=int, metavar="N", help="of dynamic keywords (default: 256)")
    parser.add_argument("--count-refused", action="store_true", help="count events that the index refuses as missed")
    parser.add_argument("--details", action="store_true", help="name each rule that is not exact, and why")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _material(given: argparse.Namespace) -> Iterator[tuple[str, Rules, Events]]:
    """What is to be compared: what was named, else what the project ships."""
    events = read_events(given.events) if given.events else own_events()
    what = ", ".join(given.events) if given.events else "the project's own events"
    if given.rules is None:
        yield f"the pack on {what}", read_rules([packaged("rules")]), events
    rules = KINDS if given.rules is None else Path(given.rules)
    yield f"{rules.name} on {what}", read_rules([rules]), events


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def show(title: str, found: Comparison, out: Console, details: bool = False) -> None:
    """Print one comparison."""
    out.print(f"[bold]{safe(title)}[/], Elasticsearch {found.server}, {STOCK} {version(STOCK)}")
    for note in notes(found):
        out.print(safe(note))
    run = [one for one in found.scores if one.runs]
    out.print(render.table("", COLUMNS, [_row(one) for one in run]))
    if details:
        rows = [row for one in run for row in _details(one)]
        out.print(render.table("Not exact", ("backend", "rule", "", ""), rows))
    out.print()


def notes(found: Comparison) -> Iterator[str]:
    """Yield what makes the comparison kinder or harder to either side."""
    setting, (used, limit) = found.setting, found.fields
    strings = f", strings over {setting.ignore_above or 256} characters not searched" * (setting.mapping == DYNAMIC)
    dates = "on" if setting.date_detection else "off"
    yield f"mapping {setting.mapping}: {used:,} fields of at most {limit:,}, date detection {dates}{strings}"
    reasons = Counter(reason.split(":")[0] for reason in found.refused.values())
    shown = "".join(f" ({count} {reason})" for reason, count in reasons.most_common(3))
    counted = "count as missed for all" if setting.count_refused else "are left out for all"
    yield f"{len(found.events.records):,} events; the index refuses {len(found.refused):,}{shown}, which {counted}"
    yield (
        f"{len(found.rules.rules)} rules, of which {found.matching} match an event; a query that finds nothing is "
        "exact for the others"
    )
    for why, count in Counter(found.rules.left_out.values()).most_common():
        yield f"left out: {count} rules: {why}"
    yield f"no backend that is run converts {len(found.neither)} rules"
    yield "of the pipelines that the stock backend ships none is for CloudTrail; it is given ours, which only rename"
    for one in found.scores:
        if one.unanswered:
            yield f"{one.way}: {len(one.unanswered)} rules got no answer, which is counted for nobody: the node's limit"
        if not one.runs:
            converts = len(found.rules.rules) - len(one.refused) - len(one.unmapped)
            yield f"{one.way} converts {converts} rules and cannot be run on this node, which has no such engine"


def _row(score: Score) -> tuple[str, ...]:
    wrong, explained = len(score.differences) - len(score.explained), str(len(score.explained)) if score.ours else "-"
    counts = (score.missed, score.added, len(score.unmapped), len(score.refused), len(score.rejected))
    return (score.way, str(score.exact), str(score.matching), str(wrong), explained, *(f"{n:,}" for n in counts))


def _details(score: Score) -> Iterator[tuple[str, str, str, str]]:
    for one in score.differences:
        outcome = "condition false" if one.explained else "wrong"
        yield score.way, safe(one.rule), outcome, f"{one.missed:,} missed, {one.added:,} false"
    for outcome, problems in (
        ("no such field", score.unmapped),
        ("refused", score.refused),
        ("rejected", score.rejected),
        ("no answer", score.unanswered),
    ):
        for rule, reason in problems.items():
            yield score.way, safe(rule), outcome, safe(reason[:90])


if __name__ == "__main__":
    sys.exit(main())
