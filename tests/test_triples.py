"""Tens of thousands of random (rule, event, mapping) triples on every engine, in every target."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from keytrail.cluster import Cluster
from keytrail.servers import SERVERS
from keytrail.targets import TARGETS

from tests.checking import Embedded, Engine, Node, Tally
from tests.shrinking import smaller
from tests.triples import run_until

LEAST = {"8": 20_000, "9": 3_000, "opensearch-3": 3_000}  # on each server, in all its targets together
# Of the rules: beyond that, refusals crowd out the proof. Only Query DSL can compare two fields.
MOST_REFUSED = {"query-dsl": 0.3, "lucene": 0.42, "esql": 0.42}


def on(node: Node, tally: Tally) -> int:
    return sum(count for name, count in tally.triples.items() if name.startswith(node.name))


@pytest.mark.parametrize("version", SERVERS)
def test_everyone_agrees_with_the_rule_or_refuses(
    version: str, servers: Mapping[str, Cluster], capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(servers[version])
    engines: list[Engine] = [Embedded(), node]
    done = run_until(lambda tally: on(node, tally) >= LEAST[version], engines, 1, node.cluster.product)
    tally = done.tally
    with capsys.disabled():
        print("\n" + "\n".join(tally.lines(reasons=6)))
    if done.wrong:
        pytest.fail(f"{done.count} disagreements, the first: {smaller(done.wrong[0], engines)}")
    assert tally.matched > tally.triples.total() / 10
    asked = {name.split(", ")[1] for name in tally.triples if name.startswith(node.name)}
    assert asked == {"query-dsl", "lucene", "lucene in Kibana", *(["esql"] if node.has_esql else [])}
    for target in TARGETS:
        assert tally.share_refused(target) < MOST_REFUSED[target], f"{target}: refusals crowd out the proof"


def test_each_language_is_proven_on_a_real_engine(servers: Mapping[str, Cluster]) -> None:
    nodes = [Node(cluster) for cluster in servers.values()]
    assert [node.name.split(".")[0] for node in nodes if node.has_esql] == ["Elasticsearch 8"]
    assert [node.name.split(".")[0] for node in nodes if node.has_scripts] == ["OpenSearch 3"]
