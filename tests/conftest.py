"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from keytrail.cluster import Cluster, real_elasticsearch


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Elasticsearch, the one at ELASTICSEARCH_URL or a node of our own. Without one the tests fail."""
    with real_elasticsearch() as cluster:
        yield cluster
