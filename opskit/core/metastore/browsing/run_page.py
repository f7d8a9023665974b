"""What the page of one run shows: its tasks with their times and tries, and the runs beside it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, literal, select, union_all
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import dag_run, task_attempt, task_instance

MOST_ATTEMPTS = 2_000
"""Earlier tries that one page reads."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """The instances of one task of a run that are in one state: one, or of a mapped task several."""

    task_id: str
    state: str | None
    count: int
    first_map_index: int
    """-1: the task is not mapped, or not expanded yet."""
    queued_at: datetime | None
    """The earliest."""
    start_date: datetime | None
    end_date: datetime | None
    """The latest."""
    try_number: int
    """The highest."""
    max_tries: int
    next_at: datetime | None
    """The earliest."""
    hostname: str | None
    reason: str | None
    """Of one of them."""


@dataclass(frozen=True, slots=True)
class EarlierTry:
    """A try that a later one has superseded; of a mapped task, all instances' tries of this number together."""

    task_id: str
    try_number: int
    state: str | None
    count: int
    start_date: datetime | None
    end_date: datetime | None


# Made once: every page of a run asks these.
_TASKS = (
    select(
        task_instance.c.task_id,
        task_instance.c.state,
        func.count(),
        func.min(task_instance.c.map_index),
        func.min(task_instance.c.queued_at),
        func.min(task_instance.c.start_date),
        func.max(task_instance.c.end_date),
        func.max(task_instance.c.try_number),
        func.max(task_instance.c.max_tries),
        func.min(task_instance.c.next_at),
        func.max(task_instance.c.hostname),
        func.max(task_instance.c.reason),
    )
    .where(task_instance.c.dag_run_id == bindparam("run"))
    .group_by(task_instance.c.task_id, task_instance.c.state)
)
_MINE = select(dag_run.c.run_id, dag_run.c.id).where(dag_run.c.dag_id == bindparam("of_dag"))
_DATE = bindparam("at", type_=dag_run.c.logical_date.type)
_BEFORE = _MINE.where(dag_run.c.logical_date < _DATE).order_by(dag_run.c.logical_date.desc()).limit(1).subquery()
_AFTER = _MINE.where(dag_run.c.logical_date > _DATE).order_by(dag_run.c.logical_date).limit(1).subquery()
_NEIGHBOURS = union_all(select(_BEFORE, literal(0)), select(_AFTER, literal(1)))


def tasks_of_run(connection: Connection, run_number: int, task_id: str | None = None) -> list[TaskRow]:
    """Per task (or only of this one) and state of a run (`dag_run.id`), one row, however many instances a mapped task
    has."""
    query, named = _TASKS, {"run": run_number}
    if task_id is not None:
        query = query.where(task_instance.c.task_id == task_id)
    return [TaskRow(*row) for row in connection.execute(query, named).all()]


def earlier_tries(connection: Connection, run_number: int) -> list[EarlierTry]:
    """Tries of a run that a retry or a clear has superseded, by task and number."""
    each = task_attempt.c
    query = (
        select(
            each.task_id,
            each.try_number,
            func.max(each.state),
            func.count(),
            func.min(each.start_date),
            func.max(each.end_date),
        )
        .where(each.dag_run_id == run_number)
        .group_by(each.task_id, each.try_number)
        .order_by(each.task_id, each.try_number)
        .limit(MOST_ATTEMPTS)
    )
    return [EarlierTry(*row) for row in connection.execute(query)]


def neighbours(
    connection: Connection, dag_id: str, logical_date: datetime
) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """`(run_id, dag_run.id)` of the run before this date, and of the one after it."""
    rows = connection.execute(_NEIGHBOURS, {"of_dag": dag_id, "at": logical_date}).all()
    found = {is_newer: (run_id, number) for run_id, number, is_newer in rows}
    return found.get(0), found.get(1)


def run_id_of(connection: Connection, dag_id: str, run_number: int) -> str | None:
    """The run_id of a run of this DAG by its `dag_run.id`."""
    query = select(dag_run.c.run_id).where(dag_run.c.id == run_number, dag_run.c.dag_id == dag_id)
    found: str | None = connection.execute(query).scalar()
    return found
