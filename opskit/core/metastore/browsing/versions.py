"""The versions of a DAG that the metastore has, and their sources."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import dag_version
from opskit.errors import NotFound

MOST = 100


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a DAG."""

    hash: str
    fileloc: str
    created_at: datetime


def list_versions(connection: Connection, dag_id: str, limit: int = MOST) -> list[Version]:
    """The newest first. What they hold is not read: it may be large."""
    query = (
        select(dag_version.c.hash, dag_version.c.fileloc, dag_version.c.created_at)
        .where(dag_version.c.dag_id == dag_id)
        .order_by(dag_version.c.created_at.desc(), dag_version.c.hash)
        .limit(limit)
    )
    return [Version(*row) for row in connection.execute(query)]


def source_of(connection: Connection, dag_id: str, version_hash: str) -> str | None:
    """Text of the DAG file of one version. NotFound when the DAG has no such version."""
    query = select(dag_version.c.source).where(dag_version.c.hash == version_hash, dag_version.c.dag_id == dag_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no version {version_hash} of DAG {dag_id!r}")
    source: str | None = row.source
    return source
