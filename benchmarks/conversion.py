"""How long a rule takes to convert, against the stock Elasticsearch backend for sigma-cli, in one run.

``python -m benchmarks.conversion`` converts the pack in turn with each, many times over, and prints the time of a rule
and the ratio of the two: of the library calls, from a rule's text to its query; of the whole commands, from files to
queries; and of what one more rule adds to a command, whose start-up is then left out. Stock takes ``|cased`` by the
pipeline that is there for it. Commands run with their modules compiled, as they are once installed. Times are the
processor's, which a busy machine stretches, for both: each run of one is followed by one of the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from keytrail import automaton, regex
from keytrail.backend import pipeline
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.pack import Rule, load_rules
from keytrail.schemas import get_schema
from keytrail.stock import case_sensitive
from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend
from sigma.collection import SigmaCollection

RUNS = 15
Pair = tuple[Callable[[], float], Callable[[], float]]


def main() -> None:
    """Print the figures."""
    rules = [rule for rule in load_rules([packaged("rules")]).rules if rule.kind == "rule"]
    report("library, text to query", len(rules), library(rules))
    with TemporaryDirectory() as folder:
        paths = [str(rule.path) for rule in rules]
        whole, single = commands(Path(folder), paths), commands(Path(folder), paths[:1])
        times = [report("whole commands", len(rules), whole), report("commands, one rule", 1, single)]
    many = len(rules) - 1
    ours, stock = (1000 * (times[0][one] - times[1][one]) / many for one in (0, 1))
    print(f"{'one more rule':24} ours {ours:7.2f} ms a rule, stock {stock:7.2f}, ratio {stock / ours:.2f}")


def library(rules: Sequence[Rule]) -> Pair:
    """Return what converts the rules with each, from their texts on, as if none had been seen before."""
    schema, paths = get_schema("keytrail"), [rule.path for rule in rules]
    names = pipeline(schema) + case_sensitive()

    def ours() -> None:
        for forget in (regex.to_lucene, automaton.of_regexp, automaton.of_wildcard):
            forget.cache_clear()
        for rule in load_rules(paths).rules:
            convert(rule, schema)

    def stock() -> None:
        for path in paths:
            LuceneBackend(names).convert(SigmaCollection.from_yaml(path.read_text(encoding="utf-8")))

    return timed(ours), timed(stock)


def commands(folder: Path, paths: Sequence[str]) -> Pair:
    """Return what runs the two commands on the same files."""
    keytrail = [sys.executable, "-m", "keytrail", "convert", "--schema", "keytrail", *paths]
    sigma = [str(Path(sys.executable).with_name("sigma")), "convert", "-t", "lucene"]
    names = ["-p", "keytrail_keytrail", "-p", "keytrail_case_sensitive"]
    # Rules that need a profile make our exit code 1; stock's says that it stopped before the end.
    return command(keytrail, folder / "keytrail", 1), command([*sigma, *names, *paths], folder / "sigma", 0)


def timed(run: Callable[[], None]) -> Callable[[], float]:
    """Return what tells the processor's seconds that a run takes."""

    def seconds() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return seconds


def command(words: Sequence[str], output: Path, most: int) -> Callable[[], float]:
    """Return what runs a command and tells the processor's seconds that it takes, start-up included.

    Raises :class:`RuntimeError` where its exit code is more than ``most``.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(output.with_name("compiled"))

    def seconds() -> float:
        with (
            output.open("wb") as out,
            output.with_suffix(".errors").open("wb") as errors,
            subprocess.Popen(words, stdout=out, stderr=errors, env=environment) as process,
        ):
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode > most:
            raise RuntimeError(output.with_suffix(".errors").read_text(encoding="utf-8"))
        return used.ru_utime + used.ru_stime

    return seconds


def report(what: str, rules: int, pair: Pair) -> tuple[float, float]:
    """Time both in turn, print the medians of a rule and of the ratio, and return the seconds of a run."""
    times = [tuple(one() for one in pair) for _ in range(RUNS + 1)][1:]  # the first one compiles
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(theirs / own for own, theirs in times)
    shown = f"ours {1000 * mine / rules:7.2f} ms a rule, stock {1000 * other / rules:7.2f}, ratio {ratio:.2f}"
    print(f"{what:24} {shown}", flush=True)
    return mine, other


if __name__ == "__main__":
    main()
