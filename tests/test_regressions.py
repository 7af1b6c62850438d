"""What random triples once found, asked again of everyone: tests/regressions holds one small world a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from keytrail.cluster import Cluster

from tests.checking import Embedded, Node, Tally, check
from tests.oddities import LACKING
from tests.triples import REGRESSIONS
from tests.worlds import World

CASES = sorted(REGRESSIONS.glob("*.yml"))


@pytest.fixture(scope="module")
def nodes(servers: Mapping[str, Cluster]) -> list[Node]:
    return [Node(cluster) for cluster in servers.values()]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_everyone_agrees_now(path: Path, nodes: list[Node]) -> None:
    case = yaml.safe_load(path.read_text("utf-8"))
    assert case["what"]
    world, tally = World.from_dict(case), Tally()
    needed = {*world.kinds.values(), world.layout}
    # A server that has no such types cannot be asked; the others are.
    able = [node for node in nodes if not needed & set(LACKING[node.cluster.product])]
    wrong = check(world, [Embedded(), *able], tally)
    assert not wrong, "\n\n".join(map(str, wrong))
    converted = {name for (name, verdict), _ in tally.verdicts.items() if verdict in ("exact", "exact if")}
    assert converted == set(case.get("answered", ("query-dsl", "lucene", "esql")))
