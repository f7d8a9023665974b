"""The audit log, a part at a time, by whom, what and when."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.browsing.window import Window, cut, total
from opskit.core.metastore.tables import log
from opskit.errors import NotFound


@dataclass(frozen=True, slots=True)
class Filters:
    """None: whatever it is. `after` and `before` are excluded."""

    dag_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    owner: str | None = None
    event: str | None = None
    included_events: Collection[str] | None = None
    excluded_events: Collection[str] | None = None
    before: datetime | None = None
    after: datetime | None = None


def lines(connection: Connection, filters: Filters, window: Window) -> tuple[list[AuditLine], int]:
    """Orders: event_log_id, when, dag_id, task_id, run_id, event, owner, extra."""
    columns = {name: log.c[name] for name in ("dag_id", "task_id", "run_id", "event", "owner", "extra")}
    columns |= {"event_log_id": log.c.id, "when": log.c.at}
    query = _filtered(select(log), filters)
    return [_line(row) for row in connection.execute(cut(query, window, columns, log.c.id))], total(connection, query)


def line(connection: Connection, number: int) -> AuditLine:
    """One line. NotFound."""
    row = connection.execute(select(log).where(log.c.id == number)).first()
    if row is None:
        raise NotFound(f"there is no line {number} in the audit log")
    return _line(row)


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    for name in ("dag_id", "task_id", "run_id", "owner", "event"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(log.c[name] == value)
    if filters.included_events is not None:
        query = query.where(log.c.event.in_(sorted(filters.included_events)))
    if filters.excluded_events is not None:
        query = query.where(log.c.event.not_in(sorted(filters.excluded_events)))
    if filters.before is not None:
        query = query.where(log.c.at < filters.before)
    if filters.after is not None:
        query = query.where(log.c.at > filters.after)
    return query


def _line(row: Any) -> AuditLine:
    return AuditLine(**{**row._mapping, "extra": json.loads(row.extra)})
