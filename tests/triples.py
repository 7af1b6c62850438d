"""Random (rule, event, mapping) triples, and what everyone who evaluates them says: they must agree or refuse.

Run any number of them against a node that is started for it, in every target; what disagrees is made small and written
into tests/regressions, where tests/test_regressions.py finds it::

    python -m tests.triples --triples 100000 --seed 7
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import yaml
from keytrail.cluster import real_elasticsearch
from keytrail.servers import SERVERS

from tests.checking import Disagreement, Embedded, Engine, Node, Tally, check
from tests.oddities import LACKING
from tests.shrinking import smaller
from tests.worlds import World, worlds

AT_ONCE = 20  # worlds; the first of them are always small
REGRESSIONS = Path(__file__).parent / "regressions"


@dataclass
class Run:
    """A run over random worlds: its tally, and its disagreements, one for each engine and kind of field."""

    tally: Tally = field(default_factory=Tally)
    wrong: list[Disagreement] = field(default_factory=list)
    count: int = 0

    def add(self, found: Sequence[Disagreement]) -> None:
        """Keep the first disagreements and count all."""
        self.count += len(found)
        self.wrong.extend(found[: max(0, 60 - len(self.wrong))])


def run(engines: Sequence[Engine], examples: int, seed: int, product: str = "Elasticsearch") -> Run:
    """Check random worlds that ``product`` has types for; the same seed gives the same ones."""
    done = Run()

    def checked(world: World) -> None:
        done.add(check(world, engines, done.tally))

    settings = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(seed)(settings(hypothesis.given(worlds(LACKING[product]))(checked)))()
    return done


def run_until(
    enough: Callable[[Tally], bool], engines: Sequence[Engine], seed: int, product: str = "Elasticsearch"
) -> Run:
    """Check random worlds, a few at a time, until ``enough`` of them have been."""
    total = Run()
    for part in range(10_000):
        _merge(total, run(engines, AT_ONCE, seed * 10_000 + part, product))
        if enough(total.tally):
            break
    return total


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.triples", description=__doc__)
    parser.add_argument("--triples", type=int, default=100_000, help="how many to check at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", choices=list(SERVERS), default="8", help="which one to start")
    given = parser.parse_args(arguments)
    started = time.monotonic()
    with real_elasticsearch(version=given.server, report=lambda line: print(line, file=sys.stderr)) as cluster:
        engines: list[Engine] = [Embedded(), Node(cluster)]
        total = run_until(lambda tally: tally.triples.total() >= given.triples, engines, given.seed, cluster.product)
        print("\n".join(total.tally.lines()))
        print(f"{total.count} disagreements in {time.monotonic() - started:.0f} seconds")
        for found in _different(total.wrong, engines):
            print(f"\n{found}\n{_kept(found)}")
    return 1 if total.count else 0


def _merge(total: Run, done: Run) -> None:
    for name in ("triples", "verdicts", "refusals", "conditions", "outside", "unproven"):
        getattr(total.tally, name).update(getattr(done.tally, name))
    total.tally.matched += done.tally.matched
    total.tally.refused_events += done.tally.refused_events
    total.add(done.wrong)
    total.count += done.count - len(done.wrong)


def _different(wrong: Sequence[Disagreement], engines: Sequence[Engine]) -> list[Disagreement]:
    """Small disagreements, one for each rule and event that is left."""
    small: dict[str, Disagreement] = {}
    for found in wrong[:20]:
        made = smaller(found, engines)
        small.setdefault(json.dumps(made.world.as_dict(), sort_keys=True), made)
    return list(small.values())


def _kept(found: Disagreement) -> Path:
    """Write a disagreement down as a regression case."""
    REGRESSIONS.mkdir(exist_ok=True)
    number = 1 + len(list(REGRESSIONS.glob("*.yml")))
    path = REGRESSIONS / f"found_{number:03}.yml"
    case = {"what": found.says.splitlines()[0], **found.world.as_dict()}
    path.write_text(yaml.safe_dump(case, sort_keys=False, width=110, allow_unicode=True), "utf-8")
    return path


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1:]))
