"""What the page of one task instance shows: its siblings of a mapped task, its tries in other runs, its XComs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import dag_run, task_instance, xcom

SHOWN_CHARACTERS = 10_000
"""Of one XCom; the rest stays in the metastore."""
_HIDDEN = ("__deferral__",)
"""XComs that are opskit's own: what a deferred task waits for."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One instance of a mapped task."""

    map_index: int
    state: str | None
    try_number: int
    start_date: datetime | None
    end_date: datetime | None
    hostname: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class XComText:
    """`text` is JSON, cut off after SHOWN_CHARACTERS; `size` is its whole length (characters; MariaDB: bytes)."""

    key: str
    text: str
    size: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class OtherRun:
    """The same task in another run; of a mapped task one state of it."""

    dag_run_id: int
    run_id: str
    logical_date: datetime
    state: str | None
    count: int
    start_date: datetime | None
    end_date: datetime | None


_MAPPED = (
    select(task_instance.c.state, func.count())
    .where(
        task_instance.c.dag_run_id == bindparam("run"),
        task_instance.c.task_id == bindparam("task"),
        task_instance.c.map_index >= 0,
    )
    .group_by(task_instance.c.state)
)


def count_mapped(connection: Connection, run_number: int, task_id: str) -> dict[str | None, int]:
    """State → how many instances of a mapped task are in it; empty when it is not expanded."""
    rows = connection.execute(_MAPPED, {"run": run_number, "task": task_id})
    return {row[0]: row[1] for row in rows}


def list_mapped(
    connection: Connection,
    run_number: int,
    task_id: str,
    *,
    in_states: Collection[str | None] | None = None,
    limit: int,
    offset: int = 0,
) -> list[Mapped]:
    """Instances of a mapped task by map_index; `in_states` may hold None, for those without a state."""
    each = task_instance.c
    columns = (
        each.map_index,
        each.state,
        each.try_number,
        each.start_date,
        each.end_date,
        each.hostname,
        each.reason,
    )
    query = select(*columns).where(each.dag_run_id == run_number, each.task_id == task_id, each.map_index >= 0)
    if in_states is not None:
        named = each.state.in_(sorted(state for state in in_states if state is not None))
        query = query.where(named | each.state.is_(None) if None in in_states else named)
    return [Mapped(*row) for row in connection.execute(query.order_by(each.map_index).limit(limit).offset(offset))]


def map_indexes(connection: Connection, run_number: int, task_id: str, limit: int = 1) -> list[int]:
    """The lowest map indexes that the task has in this run (-1: it is not mapped, or not expanded)."""
    each = task_instance.c
    query = select(each.map_index).where(each.dag_run_id == run_number, each.task_id == task_id)
    return list(connection.execute(query.order_by(each.map_index).limit(limit)).scalars())


def list_xcoms(
    connection: Connection, run_number: int, task_id: str, map_index: int, limit: int = 200
) -> list[XComText]:
    """What a task instance has left for others, by key. A large value is cut off in the database."""
    each = xcom.c
    query = (
        select(each.key, func.substr(each.value, 1, SHOWN_CHARACTERS), func.length(each.value), each.created_at)
        .where(
            each.dag_run_id == run_number,
            each.task_id == task_id,
            each.map_index == map_index,
            each.key.not_in(_HIDDEN),
        )
        .order_by(each.key)
        .limit(limit)
    )
    return [XComText(*row) for row in connection.execute(query)]


def short_values(
    connection: Connection, run_number: int, task_id: str, map_index: int, keys: Collection[str]
) -> dict[str, str]:
    """Key → JSON of those XComs of a task instance that have at most 4,000 characters."""
    each = xcom.c
    query = select(each.key, each.value).where(
        each.dag_run_id == run_number,
        each.task_id == task_id,
        each.map_index == map_index,
        each.key.in_(sorted(keys)),
        func.length(each.value) <= 4_000,
    )
    return {row.key: row.value for row in connection.execute(query)}


def in_other_runs(
    connection: Connection, dag_id: str, task_id: str, around: datetime, each_side: int = 10
) -> list[OtherRun]:
    """The task in the runs around this logical date, by that date."""
    mine = select(dag_run.c.id).where(dag_run.c.dag_id == dag_id)
    older = mine.where(dag_run.c.logical_date <= around).order_by(dag_run.c.logical_date.desc()).limit(each_side + 1)
    newer = mine.where(dag_run.c.logical_date > around).order_by(dag_run.c.logical_date).limit(each_side)
    numbers = [*connection.execute(older).scalars(), *connection.execute(newer).scalars()]
    each = task_instance.c
    query = (
        select(
            each.dag_run_id,
            dag_run.c.run_id,
            dag_run.c.logical_date,
            each.state,
            func.count(),
            func.min(each.start_date),
            func.max(each.end_date),
        )
        .join_from(task_instance, dag_run, dag_run.c.id == each.dag_run_id)
        .where(each.dag_run_id.in_(numbers), each.task_id == task_id)
        .group_by(each.dag_run_id, dag_run.c.run_id, dag_run.c.logical_date, each.state)
        .order_by(dag_run.c.logical_date)
    )
    return [OtherRun(*row) for row in connection.execute(query)]
