"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from keytrail.cluster import Cluster, real_elasticsearch
from keytrail.servers import SERVERS

# In a fresh clone the first example takes seconds: hypothesis then works out the characters that there are.
settings.register_profile("keytrail", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keytrail")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Elasticsearch, the one at ELASTICSEARCH_URL or a node of our own. Without one the tests fail."""
    with real_elasticsearch() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def servers(cluster: Cluster) -> Iterator[Mapping[str, Cluster]]:
    """Every server that Keytrail can start, by its version; those beside ``cluster`` are started at the same time."""
    others = [version for version in SERVERS if version != "8"]
    with ExitStack() as stack:
        made = [stack.enter_context(ExitStack()) for _ in others]

        def started(version: str, own: ExitStack) -> Cluster:
            return own.enter_context(real_elasticsearch(version=version))

        with ThreadPoolExecutor(len(others)) as pool:
            running = dict(zip(others, pool.map(started, others, made), strict=True))
        yield {"8": cluster, **running}
