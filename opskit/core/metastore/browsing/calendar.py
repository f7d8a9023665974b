"""Runs of a DAG by day and state."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import dag_run


def runs_by_day(connection: Connection, dag_id: str, start: datetime, end: datetime) -> dict[date, dict[str, int]]:
    """Day (UTC, of the logical date) → state → how many runs; `start` is included, `end` is not."""
    # Every session has UTC as its time zone, so the database's own day is that of UTC.
    day = func.date(dag_run.c.logical_date)
    query = (
        select(day, dag_run.c.state, func.count())
        .where(dag_run.c.dag_id == dag_id, dag_run.c.logical_date >= start, dag_run.c.logical_date < end)
        .group_by(day, dag_run.c.state)
    )
    found: dict[date, dict[str, int]] = {}
    for at, state, count in connection.execute(query):
        found.setdefault(date.fromisoformat(str(at)), {})[state] = count
    return found


def logical_bounds(connection: Connection, dag_id: str) -> tuple[datetime | None, datetime | None]:
    """The first and the last logical date that a DAG has runs of."""
    query = select(func.min(dag_run.c.logical_date), func.max(dag_run.c.logical_date)).where(dag_run.c.dag_id == dag_id)
    first, last = connection.execute(query).one()
    return first, last
