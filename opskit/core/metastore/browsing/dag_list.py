"""What the list of DAGs shows: all DAGs in few columns, what runs, how the last runs ended."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, and_, cast, func, or_, select, type_coerce
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag, dag_run, dag_version


@dataclass(frozen=True, slots=True)
class ListedDag:
    """One DAG whose file still defines it."""

    dag_id: str
    is_paused: bool
    description: str
    owners: tuple[str, ...]
    tags: tuple[str, ...]
    schedule: str
    version_hash: str
    next_run_after: datetime | None


@dataclass(frozen=True, slots=True)
class RecentRun:
    """One run of a DAG. `number` is `dag_run.id`."""

    number: int
    run_id: str
    state: str
    logical_date: datetime
    queued_at: datetime
    start_date: datetime | None
    end_date: datetime | None

    def seconds(self, now: datetime) -> float | None:
        """How long it has run; until now, while it does. None: it has not begun."""
        return None if self.start_date is None else max(0.0, ((self.end_date or now) - self.start_date).total_seconds())


def active_dags(connection: Connection, within: Collection[str] | None = None) -> list[ListedDag]:
    """All, by dag_id, or those among `within`."""
    each = dag.c
    query = (
        select(
            each.dag_id,
            each.is_paused,
            each.description,
            each.owners,
            each.tags,
            each.schedule,
            each.version_hash,
            each.next_run_after,
        )
        .where(each.is_active.is_(True))
        .order_by(each.dag_id)
    )
    if within is not None:
        query = query.where(each.dag_id.in_(sorted(within)))
    return [
        ListedDag(
            dag_id,
            paused,
            description or "",
            _owners(owners),
            _tags(tags),
            *rest,
        )
        for dag_id, paused, description, owners, tags, *rest in connection.execute(query).all()
    ]


@lru_cache(2000)
def _owners(text: str) -> tuple[str, ...]:
    return tuple(name for owner in text.split(",") if (name := owner.strip()))


@lru_cache(2000)
def _tags(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def running_dags(connection: Connection) -> dict[str, int]:
    """dag_id → how many runs are queued or running."""
    query = (
        select(dag_run.c.dag_id, func.count())
        .where(dag_run.c.state.in_((states.QUEUED, states.RUNNING)))
        .group_by(dag_run.c.dag_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def last_states(connection: Connection) -> dict[str, str]:
    """dag_id → state of the newest run, of each active DAG that has one."""
    newest = (
        select(dag_run.c.state)
        .where(dag_run.c.dag_id == dag.c.dag_id)
        .order_by(dag_run.c.logical_date.desc())
        .limit(1)
        .correlate(dag)
        .scalar_subquery()
    )
    rows = connection.execute(select(dag.c.dag_id, newest).where(dag.c.is_active.is_(True))).all()
    return {dag_id: state for dag_id, state in rows if state is not None}


def recent_runs(connection: Connection, dag_ids: Collection[str], each_last: int) -> dict[str, list[RecentRun]]:
    """dag_id → its newest runs, the oldest of them first. Two statements, and they read no older runs."""
    found: dict[str, list[RecentRun]] = {dag_id: [] for dag_id in dag_ids}
    if not found:
        return found
    each = dag_run.c
    newest = select(each.logical_date).where(each.dag_id == dag.c.dag_id).order_by(each.logical_date.desc())
    nth = newest.limit(1).offset(each_last - 1).correlate(dag).scalar_subquery()
    starts = connection.execute(select(dag.c.dag_id, nth).where(dag.c.dag_id.in_(sorted(found))))
    # Named one by one: as a join, PostgreSQL reads all runs there are.
    wanted = [
        each.dag_id == dag_id if date is None else and_(each.dag_id == dag_id, each.logical_date >= date)
        for dag_id, date in starts
    ]
    if not wanted:
        return found
    query = (
        select(
            each.dag_id,
            each.id,
            each.run_id,
            each.state,
            each.logical_date,
            each.queued_at,
            each.start_date,
            each.end_date,
        )
        .where(or_(*wanted))
        .order_by(each.dag_id, each.logical_date)
    )
    for row in connection.execute(query).all():
        found[row.dag_id].append(RecentRun(*row[1:]))
    return found


def run_of_number(connection: Connection, number: int) -> tuple[str, str] | None:
    """dag_id and run_id of a `dag_run.id`; None when there is none."""
    row = connection.execute(select(dag_run.c.dag_id, dag_run.c.run_id).where(dag_run.c.id == number)).first()
    return (row.dag_id, row.run_id) if row else None


def schedule_words(connection: Connection, version_hashes: Collection[str]) -> dict[str, tuple[str, str]]:
    """version_hash → its schedule in words as the DAG file was loaded with, and the DAG's time zone. Only these two are
    read of a version, which may be large."""
    if not version_hashes:
        return {}
    if connection.dialect.name == "postgresql":
        data: Any = cast(dag_version.c.data, JSON)
    else:
        data = type_coerce(dag_version.c.data, JSON)
    query = select(dag_version.c.hash, data["ui"]["schedule_words"].as_string(), data["timezone"].as_string()).where(
        dag_version.c.hash.in_(sorted(version_hashes))
    )
    return {row[0]: (row[1] or "", row[2] or "") for row in connection.execute(query)}
