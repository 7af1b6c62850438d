"""How fast a hunt is, against unpacking alone: the time of libdeflate's gunzip over the same files is 1.0.

``python -m benchmarks.hunting`` writes the logs of ``benchmarks.logs`` (or takes those in ``--logs``) and hunts in them
with the pack, with a rule that matches three events in four, and with the rules in each ``--rules`` folder. Ratios are
of processor time, unpacking and hunting in turn, the best of several runs each, for all files and file by file (which
does not have what a hunt does once, nor as much of what else runs on the machine). Hits are compared with those of
``keytrail.reference`` on the first files; a difference is an error. Then how much faster two processes are, beside what
unpacking alone gains from the second, and the memory that a hunt takes over a sixteenth, a fourth and all of the files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import deflate
from keytrail import reference
from keytrail.data import packaged
from keytrail.hunt import Hit, Hunt, Window
from keytrail.logfiles import Files, Found
from keytrail.pack import Rule, load_rules
from keytrail.records import Reader
from keytrail.schemas import get_schema
from keytrail.search import Search

from benchmarks import logs

NOISY = """title: Three events in four
id: 7d0c8f9e-2b3a-4c5d-8e6f-1a2b3c4d5e6f
logsource: {product: aws, service: cloudtrail}
detection:
  selection: {readOnly: true}
  condition: selection
"""


class Wrong(SystemExit):
    """The hits are not those of the reference."""


@dataclass(frozen=True)
class Run:
    """One hunt: how long it took by the clock and by the processor, and how many hits it had."""

    clock: float
    processor: float
    hits: int


def gunzip(paths: Iterable[Path]) -> Run:
    """Unpack every file and throw it away."""
    clock, processor = time.perf_counter(), time.process_time()
    for path in paths:
        deflate.gzip_decompress(path.read_bytes())
    return Run(time.perf_counter() - clock, time.process_time() - processor, 0)


def hunt(rules: list[Rule], paths: list[Path], jobs: int = 1) -> Run:
    """Hunt in every file."""
    hunting = Hunt.prepare(rules, get_schema("keytrail"))
    reader = Reader(Found(Files(paths), size=sum(path.stat().st_size for path in paths)))
    clock, processor = time.perf_counter(), time.process_time()
    hits = sum(1 for _ in hunting.run(reader, jobs=jobs))
    run = Run(time.perf_counter() - clock, time.process_time() - processor, hits)
    if reader.bad_count:
        raise Wrong(f"the logs are not sound: {reader.bad[0]}")
    return run


def by_file(rules: list[Rule], paths: list[Path], runs: int) -> float:
    """Return the ratio of unpacking to hunting, file by file in turn, the best of each file's runs.

    What else runs on the machine disturbs this less than a whole hunt. What a hunt does once is not in it.
    """
    hunting = Hunt.prepare(rules, get_schema("keytrail"))
    search = Search(hunting, Window(), lambda place, marks: None, lambda path, span: None)
    reader = Reader(Found(Files(paths)))
    times: dict[Path, list[tuple[float, float]]] = {path: [] for path in paths}
    for _ in range(runs + 1):
        for path in paths:
            alone = gunzip([path]).processor
            started = time.process_time()
            for found in search.run(reader, [path]):
                for place, number, source in found.found:
                    Hit(hunting.ready[place].rule, source, found.path, number)
            times[path].append((alone, time.process_time() - started))
    alone, both = (sum(min(one[place] for one in found) for found in times.values()) for place in (0, 1))
    return alone / both


def check(rules: list[Rule], paths: list[Path]) -> int:
    """Compare the hits of single rules in some files with the reference's; return how many there are."""
    hunting = Hunt.prepare(rules, get_schema("keytrail"))
    found = Counter(
        (hit.rule.id, hit.path, hit.number) for hit in hunting.run(Reader(Found(Files(paths)))) if isinstance(hit, Hit)
    )
    meant = {one.rule.id: reference.compile_rule(one.rule.document) for one in hunting.ready if one.shown}
    expected = Counter(
        (name, str(path), number)
        for path in paths
        for number, record in enumerate(json.loads(gzip.decompress(path.read_bytes()))["Records"], 1)
        for name, matches in meant.items()
        if matches(record)
    )
    if found != expected:
        wrong = sorted((found - expected) + (expected - found))
        raise Wrong(f"{len(wrong)} hits are not those of the reference, the first is {wrong[0]}")
    return expected.total()


def best(run: Callable[[], Run], runs: list[Run]) -> Run:
    """Run once more and return the one that took the processor least."""
    runs.append(run())
    return min(runs, key=lambda one: one.processor)


def measure(name: str, rules: list[Rule], paths: list[Path], given: argparse.Namespace) -> None:
    """Print the figures of one set of rules."""
    checked = check(rules, paths[: given.check])
    unpacking: list[Run] = []
    hunting: list[Run] = []
    for _ in range(given.runs):
        alone = best(lambda: gunzip(paths), unpacking)
        one = best(lambda: hunt(rules, paths), hunting)
    events = given.events or 1
    print(
        f"{name:24} {len(rules):4} rules {one.hits:9,} hits  ratio {alone.processor / one.processor:.2f}, "
        f"file by file {by_file(rules, paths[: given.by_file], given.runs):.2f}; "
        f"{1e6 * alone.processor / events:.2f} and {1e6 * one.processor / events:.2f} us an event; "
        f"{checked:,} hits in {len(paths[: given.check])} files as the reference has them"
    )
    if given.jobs > 1:
        gains(rules, paths, given.jobs, given.runs)


def gains(rules: list[Rule], paths: list[Path], jobs: int, runs: int) -> None:
    """Print how much faster several processes are than one, and how much the machine has to give: that of unpacking."""
    times: dict[str, list[float]] = {}
    for _ in range(runs):
        alone, shared = hunt(rules, paths), hunt(rules, paths, jobs)
        if shared.hits != alone.hits:
            raise Wrong("several processes have other hits than one")
        found = alone.clock, shared.clock, gunzip(paths).clock, unpacked(paths, jobs)
        for name, clock in zip(("one", "several", "unpacking", "unpacking in several"), found, strict=True):
            times.setdefault(name, []).append(clock)
    one, several, unpacking, unpacking_in_several = map(min, times.values())
    print(
        f"{'':24} {jobs} processes are {one / several:.2f} times as fast as one; "
        f"unpacking alone is {unpacking / unpacking_in_several:.2f} times as fast in {jobs}"
    )


def unpacked(paths: list[Path], jobs: int) -> float:
    """Unpack every file in several processes; return the seconds by the clock, without starting them."""
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(gunzip, [[]] * jobs))
        clock = time.perf_counter()
        list(pool.map(gunzip, [paths[place : place + 8] for place in range(0, len(paths), 8)]))
        return time.perf_counter() - clock


def memory(paths: list[Path]) -> None:
    """Print the peak memory of a hunt with the pack, in a process of its own, over ever more files."""
    for share in (16, 4, 1):
        some = paths[: max(len(paths) // share, 1)]
        words = [sys.executable, "-m", "benchmarks.hunting", "--peak"]
        done = subprocess.run(words, input="\0".join(map(str, some)), capture_output=True, text=True, check=True)
        print(f"{len(some):7,} files {int(done.stdout) / 1024:8.0f} MB at most")


def peak() -> None:
    """Hunt in the files that standard input names, and print the most memory that it took, in KB."""
    hunt(load_rules([packaged("rules")]).rules, [Path(name) for name in sys.stdin.read().split("\0")])
    # Not that of getrusage, which is never less than what the process had that started this one.
    print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))


def noisy(folder: Path) -> list[Rule]:
    """Return the rule that matches three events in four."""
    path = folder / "noisy.yml"
    path.write_text(NOISY, encoding="utf-8")
    return load_rules([path]).rules


def report(folder: Path, given: argparse.Namespace) -> None:
    """Print all figures for the logs in a folder."""
    paths = sorted(folder.rglob("*.json.gz"))
    if not paths:
        raise SystemExit(f"no .json.gz file in {folder}")
    given.events = sum(len(json.loads(gzip.decompress(path.read_bytes()))["Records"]) for path in paths)
    packed = sum(path.stat().st_size for path in paths)
    print(f"{given.events:,} events in {len(paths):,} files, {packed:,} bytes packed")
    measure("our pack", load_rules([packaged("rules")]).rules, paths, given)
    with TemporaryDirectory() as other:
        measure("three events in four", noisy(Path(other)), paths, given)
    for foreign in given.rules:
        measure(foreign.name, load_rules([foreign]).rules, paths, given)
    memory(paths)


def main() -> None:
    """Print the figures that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hunting", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--logs", type=Path, help="hunt in the .json.gz files of this folder instead of made ones")
    parser.add_argument("--rules", type=Path, action="append", default=[], help="measure the rules of this folder, too")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--check", type=int, default=10, help="how many files the reference reads as well")
    parser.add_argument("--by-file", type=int, default=100, help="how many files are measured one by one as well")
    parser.add_argument("--jobs", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        peak()
    elif given.logs:
        report(given.logs, given)
    else:
        with TemporaryDirectory() as folder:
            logs.write(Path(folder), given.events, given.files)
            report(Path(folder), given)


if __name__ == "__main__":
    main()
