"""The newest lines of what only grows: the audit log from some id backwards, and the last event of assets."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.tables import asset_event, log


def audit_lines(
    connection: Connection,
    *,
    below: int | None = None,
    owner: str = "",
    event: str = "",
    dag_id: str = "",
    run_id: str = "",
    task_id: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
) -> list[AuditLine]:
    """Lines with an id lower than `below`, the newest first. `event` is the begin of one; nothing is counted."""
    query = select(log).order_by(log.c.id.desc()).limit(limit)
    for name, value in (("owner", owner), ("dag_id", dag_id), ("run_id", run_id), ("task_id", task_id)):
        if value:
            query = query.where(log.c[name] == value)
    if event:
        query = query.where(log.c.event.startswith(event, autoescape=True))
    if below is not None:
        query = query.where(log.c.id < below)
    if since is not None:
        query = query.where(log.c.at >= since)
    if until is not None:
        query = query.where(log.c.at < until)
    return [AuditLine(**{**row._mapping, "extra": json.loads(row.extra)}) for row in connection.execute(query)]


def last_events(connection: Connection, asset_ids: Collection[int]) -> dict[int, datetime]:
    """asset.id → time of its newest event, of those that have one."""
    query = (
        select(asset_event.c.asset_id, func.max(asset_event.c.at))
        .where(asset_event.c.asset_id.in_(sorted(asset_ids)))
        .group_by(asset_event.c.asset_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
