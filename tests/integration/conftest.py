"""Installations that are backed up and restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backup_site import Site, make_site
from tests.sample_metastore import drop_kept


@pytest.fixture
def site(home: Path, metastore_url: str) -> Iterator[Site]:
    yield make_site(home, metastore_url, "{home}/backups")
    drop_kept(metastore_url)


@pytest.fixture(params=["folder", "s3"])
def site_anywhere(home: Path, metastore_url: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """On each kind of database, with a store of each kind."""
    if request.param == "folder":
        yield make_site(home, metastore_url, "{home}/backups")
    else:
        s3 = request.getfixturevalue("s3")
        yield make_site(home, metastore_url, f"s3://{s3.make_bucket()}/deep/prefix", s3.endpoint_url)
    drop_kept(metastore_url)


@pytest.fixture
def small_site(home: Path, databases: Any) -> Site:
    """On SQLite, for what does not depend on the database."""
    return make_site(home, databases.migrated("sqlite"), "{home}/backups")
