"""How long a rule takes to convert, against the stock Elasticsearch backend for sigma-cli, in one run.

``python -m benchmarks.conversion`` converts the pack in turn with each, several times over, and prints the time of a
rule and their ratio: once for the conversion alone, once as the commands do it, from files to queries.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from keytrail.backend import pipeline
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.pack import load_rules
from keytrail.schemas import get_schema
from sigma.backends.elasticsearch.elasticsearch_lucene import LuceneBackend

RUNS = 7


def main() -> None:
    """Print the figures."""
    schema = get_schema("keytrail")
    rules = [rule for rule in load_rules([packaged("rules")]).rules if "detection" in rule.document]
    names = pipeline(schema)

    def ours() -> None:
        for rule in rules:
            convert(rule, schema)

    def stock() -> None:
        for rule in rules:
            with suppress(NotImplementedError):  # it has no |cased
                LuceneBackend(names).convert(rule.collection())

    report("conversion alone", len(rules), ours, stock)
    with TemporaryDirectory() as folder:
        paths = [str(rule.path) for rule in rules]
        keytrail = [sys.executable, "-m", "keytrail", "convert", "--schema", "keytrail", "-o", folder, *paths]
        sigma = [str(Path(sys.executable).with_name("sigma")), "convert", "-t", "lucene", "-p", "keytrail_keytrail"]
        report("whole commands", len(rules), command(keytrail), command([*sigma, *paths]))


def command(words: list[str]) -> Callable[[], None]:
    """Return what runs a command and throws its output away."""

    def run() -> None:
        subprocess.run(words, capture_output=True, check=False)

    return run


def report(what: str, rules: int, ours: Callable[[], None], stock: Callable[[], None]) -> None:
    """Time both in turn and print the medians."""
    times: list[tuple[float, float]] = [(seconds(ours), seconds(stock)) for _ in range(RUNS)]
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(theirs / own for own, theirs in times)
    print(f"{what:18} ours {1000 * mine / rules:6.2f} ms a rule, stock {1000 * other / rules:6.2f}, ratio {ratio:.2f}")


def seconds(run: Callable[[], None]) -> float:
    """Return how long one run takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
