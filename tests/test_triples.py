"""Tens of thousands of random (rule, event, mapping) triples on every engine, in every target."""

from __future__ import annotations

import pytest
from keytrail.cluster import Cluster
from keytrail.targets import TARGETS

from tests.checking import Embedded, Engine, Node
from tests.shrinking import smaller
from tests.triples import Run, run

LEAST = 20_000


def test_everyone_agrees_with_the_rule_or_refuses(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    node = Node(cluster)
    engines: list[Engine] = [Embedded(), node]

    def enough(done: Run) -> bool:
        return done.tally.triples.total() >= 1.5 * LEAST

    done = run(engines, examples=100, enough=enough)
    with capsys.disabled():
        print("\n" + "\n".join(done.tally.lines(reasons=6)))
    if done.wrong:
        pytest.fail(f"{done.count} disagreements, the first: {smaller(done.wrong[0], engines)}")
    tally = done.tally
    assert tally.triples.total() >= LEAST
    assert tally.matched > LEAST / 10
    asked = {name.split(", ")[1] for name in tally.triples}
    assert asked >= {"query-dsl", "lucene", *(["esql"] if node.has_esql else [])}
    assert node.has_esql or not node.name.startswith("8.")
    for target in TARGETS:
        assert tally.share_refused(target) < 0.35, f"{target}: refusals crowd out the proof"
