"""What random triples once found, asked again of everyone: tests/regressions holds one small world a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from keytrail.cluster import Cluster

from tests.checking import Embedded, Engine, Node, Tally, check
from tests.triples import REGRESSIONS
from tests.worlds import World

CASES = sorted(REGRESSIONS.glob("*.yml"))


@pytest.fixture(scope="module")
def engines(cluster: Cluster) -> list[Engine]:
    return [Embedded(), Node(cluster)]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_everyone_agrees_now(path: Path, engines: list[Engine]) -> None:
    case = yaml.safe_load(path.read_text("utf-8"))
    assert case["what"]
    tally = Tally()
    wrong = check(World.from_dict(case), engines, tally)
    assert not wrong, "\n\n".join(map(str, wrong))
    converted = {name for (name, verdict), _ in tally.verdicts.items() if verdict in ("exact", "exact if")}
    assert converted == set(case.get("answered", ("query-dsl", "lucene", "esql")))
