"""Fixtures: clusters that a watchdog looks after, on SQLite and on a PostgreSQL that can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import Databases
from tests.integration.watchdog.cluster import FAST, Cluster
from tests.proxy import Proxy

Make = Callable[[str], Cluster]


@pytest.fixture
def make_cluster(home: Path, opskit: Callable[..., Any]) -> Iterator[Make]:
    made = []

    def make(url: str) -> Cluster:
        environment = {**FAST, "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url, "OPSKIT_HOME": str(home)}
        cluster = Cluster(home, url, opskit, environment)
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.end()


@pytest.fixture
def cluster(make_cluster: Make, databases: Databases) -> Iterator[Cluster]:
    url = databases.migrated("sqlite")
    made = make_cluster(url)
    yield made
    made.end()
    databases.drop(url)


@pytest.fixture
def postgres(make_cluster: Make, databases: Databases) -> Iterator[tuple[Cluster, Proxy]]:
    """A cluster that reaches PostgreSQL through a proxy which can fail."""
    url = databases.migrated("postgresql")
    proxy = Proxy(url)
    made = make_cluster(url)
    made.environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = proxy.url
    yield made, proxy
    made.end()
    proxy.close()
    databases.drop(url)
