"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from keytrail.cluster import Cluster, real_elasticsearch

# In a fresh clone the first example takes seconds: hypothesis then works out the characters that there are.
settings.register_profile("keytrail", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("keytrail")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real Elasticsearch, the one at ELASTICSEARCH_URL or a node of our own. Without one the tests fail."""
    with real_elasticsearch() as cluster:
        yield cluster
