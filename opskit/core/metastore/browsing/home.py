"""What the home page shows of work: what failed, what runs, what comes. Each is one statement over an index."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.browsing.window import total
from opskit.core.metastore.tables import dag, dag_file, dag_run, log, task_instance

DagIds = Collection[str] | None
"""DAGs that may be seen; None: all of them."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a list."""

    number: int
    dag_id: str
    run_id: str
    run_type: str
    state: str
    queued_at: datetime
    start_date: datetime | None
    end_date: datetime | None


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task instance in a list."""

    number: int
    """Of its run."""
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str
    end_date: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class Upcoming:
    """When a DAG runs next."""

    dag_id: str
    schedule: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DagCounts:
    active: int
    paused: int
    """Of the active ones."""


@dataclass(frozen=True, slots=True)
class BrokenFile:
    path: str
    at: datetime
    error: str
    """The last line of it."""


def failed_runs(connection: Connection, since: datetime, limit: int, dag_ids: DagIds) -> tuple[list[RunLine], int]:
    """Runs that failed since then, the newest end first; and how many there are in all."""
    query = _runs(dag_ids).where(dag_run.c.state == states.FAILED, dag_run.c.end_date >= since)
    newest = query.order_by(dag_run.c.end_date.desc(), dag_run.c.id.desc()).limit(limit)
    return _lines(connection, newest), total(connection, query)


def active_runs(connection: Connection, limit: int, dag_ids: DagIds) -> tuple[list[RunLine], int]:
    """Runs that go on or wait to begin, the longest first; and how many there are in all."""
    query = _runs(dag_ids).where(dag_run.c.state.in_((states.RUNNING, states.QUEUED)))
    oldest = query.order_by(dag_run.c.state.desc(), dag_run.c.queued_at, dag_run.c.id).limit(limit)
    return _lines(connection, oldest), total(connection, query)


def waiting_runs(connection: Connection, queued_before: datetime, dag_ids: DagIds) -> tuple[int, datetime | None]:
    """Runs that have waited since then to begin, of DAGs that are not paused and of which nothing else runs: how many,
    and since when the oldest does."""
    other = dag_run.alias("other")
    goes_on = select(other.c.id).where(other.c.dag_id == dag_run.c.dag_id, other.c.state == states.RUNNING).exists()
    query = (
        select(func.count(), func.min(dag_run.c.queued_at))
        .select_from(dag_run.join(dag, dag.c.dag_id == dag_run.c.dag_id))
        .where(
            dag_run.c.state == states.QUEUED,
            dag_run.c.queued_at < queued_before,
            dag.c.is_active.is_(True),
            dag.c.is_paused.is_(False),
            ~goes_on,
        )
    )
    if dag_ids is not None:
        query = query.where(dag.c.dag_id.in_(sorted(dag_ids)))
    row = connection.execute(query).one()
    return int(row[0]), row[1]


def failed_tasks(connection: Connection, numbers: Sequence[int], since: datetime, limit: int) -> list[TaskLine]:
    """Task instances that failed since then in these runs (`dag_run.id`), the newest first. Those that only waited for
    a failed one are left out: they are no cause."""
    if not numbers:
        return []
    rows = connection.execute(
        select(
            dag_run.c.id,
            dag_run.c.dag_id,
            dag_run.c.run_id,
            task_instance.c.task_id,
            task_instance.c.map_index,
            task_instance.c.try_number,
            task_instance.c.state,
            task_instance.c.end_date,
            task_instance.c.reason,
        )
        .select_from(task_instance.join(dag_run, dag_run.c.id == task_instance.c.dag_run_id))
        .where(
            # On both sides: the planner then sees which partitions there are to look at.
            task_instance.c.dag_run_id.in_(list(numbers)),
            dag_run.c.id.in_(list(numbers)),
            task_instance.c.state == states.FAILED,
            task_instance.c.end_date >= since,
        )
        .order_by(task_instance.c.end_date.desc(), task_instance.c.dag_run_id.desc(), task_instance.c.task_id)
        .limit(limit)
    )
    return [TaskLine(*row[:-1], row.reason or "") for row in rows]


def upcoming(connection: Connection, limit: int, dag_ids: DagIds) -> list[Upcoming]:
    """The runs that come next, of DAGs that are not paused."""
    query = (
        select(dag.c.dag_id, dag.c.schedule, dag.c.next_run_after)
        .where(dag.c.is_active.is_(True), dag.c.is_paused.is_(False), dag.c.next_run_after.is_not(None))
        .order_by(dag.c.next_run_after, dag.c.dag_id)
        .limit(limit)
    )
    if dag_ids is not None:
        query = query.where(dag.c.dag_id.in_(sorted(dag_ids)))
    return [Upcoming(*row) for row in connection.execute(query)]


def dag_counts(connection: Connection, dag_ids: DagIds) -> DagCounts:
    """How many DAGs there are, and how many of them are paused."""
    query = select(dag.c.is_paused, func.count()).where(dag.c.is_active.is_(True)).group_by(dag.c.is_paused)
    if dag_ids is not None:
        query = query.where(dag.c.dag_id.in_(sorted(dag_ids)))
    found = {bool(paused): int(count) for paused, count in connection.execute(query)}
    return DagCounts(sum(found.values()), found.get(True, 0))


def broken_files(connection: Connection, limit: int) -> tuple[list[BrokenFile], int]:
    """DAG files whose last load failed, the newest first; and how many there are in all."""
    query = select(dag_file.c.path, dag_file.c.parsed_at, dag_file.c.import_error).where(
        dag_file.c.import_error.is_not(None)
    )
    rows = connection.execute(query.order_by(dag_file.c.parsed_at.desc(), dag_file.c.path).limit(limit)).all()
    shown = [BrokenFile(row.path, row.parsed_at, _last_line(row.import_error)) for row in rows]
    return shown, len(shown) if len(shown) < limit else total(connection, query)


def newest_lines(connection: Connection, events: Sequence[str], each: int) -> list[AuditLine]:
    """The newest audit lines of each of these events, in one statement; the newest first."""
    parts = []
    for event in events:
        newest = select(log).where(log.c.event == event).order_by(log.c.at.desc(), log.c.id.desc()).limit(each)
        parts.append(select(newest.subquery()))
    first, *others = parts
    query = first.union_all(*others)
    lines = [AuditLine(**{**row._mapping, "extra": json.loads(row.extra)}) for row in connection.execute(query)]
    return sorted(lines, key=lambda line: (line.at, line.id), reverse=True)


def _runs(dag_ids: DagIds) -> Select[Any]:
    query = select(
        dag_run.c.id,
        dag_run.c.dag_id,
        dag_run.c.run_id,
        dag_run.c.run_type,
        dag_run.c.state,
        dag_run.c.queued_at,
        dag_run.c.start_date,
        dag_run.c.end_date,
    )
    return query if dag_ids is None else query.where(dag_run.c.dag_id.in_(sorted(dag_ids)))


def _lines(connection: Connection, query: Select[Any]) -> list[RunLine]:
    return [RunLine(*row) for row in connection.execute(query)]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
