"""Lists of task instances, over one run or all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, extract, false, func, or_, select, text
from sqlalchemy.engine import Connection

from opskit.core.metastore.browsing import dags, totals
from opskit.core.metastore.browsing.runs import ANY, RunFilter, Span, filtered, within
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.tables import dag, dag_run, task_instance, task_instance_note
from opskit.core.metastore.task_instances import TI_COLUMNS, TaskInstance

_T, _N = task_instance.c, task_instance_note.c
_NAMES = ["dag_id", "run_id", "logical_date", *(column.name for column in TI_COLUMNS)]
_KEY = (_T.dag_run_id, _T.task_id, _T.map_index)
_ORDERS = {"state": _T.state, "start_date": _T.start_date, "end_date": _T.end_date}
_UPDATED_AT = func.coalesce(_T.end_date, _T.start_date, _T.queued_at)
DEFAULT_QUEUE = "default"
_SLACK = timedelta(hours=1)
"""By so much the times of a run and of its tasks may contradict each other: hosts have clocks of their own."""
_CLOCKS = 60.0
"""The same in seconds, where a duration is compared."""


@dataclass(frozen=True, slots=True)
class TaskInstanceFilter:
    """None: any. `in_states` may hold None, for those without a state; `duration` is in seconds."""

    runs: RunFilter = field(default_factory=RunFilter)
    task_ids: Collection[str] | None = None
    map_indexes: Collection[int] | None = None
    mapped: bool | None = None
    """Whether they are instances of an expanded task."""
    in_states: Collection[str | None] | None = None
    pools: Collection[str] | None = None
    queues: Collection[str] | None = None
    start_date: Span = ANY
    end_date: Span = ANY
    updated_at: Span = ANY
    duration: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Listed:
    """A task instance in a list."""

    instance: TaskInstance
    note: str | None
    version_hash: str | None
    """Of its DAG's current version."""


_LISTED = (
    select(dag_run.c.dag_id, dag_run.c.run_id, dag_run.c.logical_date, *TI_COLUMNS)
    .add_columns(_N.note.label("listed_note"), dag.c.version_hash.label("listed_version"))
    .join_from(task_instance, dag_run, dag_run.c.id == _T.dag_run_id)
    .outerjoin(dag, dag.c.dag_id == dag_run.c.dag_id)
    .outerjoin(
        task_instance_note,
        and_(_N.dag_run_id == _T.dag_run_id, _N.task_id == _T.task_id, _N.map_index == _T.map_index),
    )
)


def list_task_instances(database: Connection, which: TaskInstanceFilter, window: Window) -> tuple[list[Listed], int]:
    """Orders: map_index, state, duration, start_date, end_date; by itself the order in which the runs were made."""
    if which.runs.is_one:
        conditions = _own_conditions(database, which)
        query = _ordered(database, filtered(_LISTED, which.runs).where(*conditions), window)
        found = [_listed(row) for row in database.execute(query.limit(window.limit).offset(window.offset))]
    else:
        conditions = _numbers(database, which) + _own_conditions(database, which)
        query = _narrowed(select(*_KEY), which, conditions)
        # The keys first: far down a long list the index alone is read.
        found = _read(database, _ordered(database, query, window).limit(window.limit).offset(window.offset))

    def counted() -> int:
        return totals.total(database, _narrowed(select(_T.dag_run_id), which, conditions), repr(which))

    return found, window.total(len(found), counted)


def count(database: Connection, which: TaskInstanceFilter) -> int:
    """How many there are."""
    conditions = _numbers(database, which) + _own_conditions(database, which)
    return totals.total(database, _narrowed(select(_T.dag_run_id), which, conditions), repr(which))


def _read(database: Connection, page: Select[Any]) -> list[Listed]:
    keys = [(row.dag_run_id, row.task_id, row.map_index) for row in database.execute(page)]
    if not keys:
        return []
    query = _LISTED.where(
        _T.dag_run_id.in_(sorted({key[0] for key in keys})), _T.task_id.in_(sorted({key[1] for key in keys}))
    )
    if len({key[2] for key in keys}) <= 200:
        query = query.where(_T.map_index.in_(sorted({key[2] for key in keys})))
    else:
        indexes = [key[2] for key in keys]
        query = query.where(_T.map_index.between(min(indexes), max(indexes)))
    rows = {(row.dag_run_id, row.task_id, row.map_index): row for row in database.execute(query)}
    return [_listed(rows[key]) for key in keys if key in rows]


def _listed(row: Any) -> Listed:
    *values, note, version_hash = row
    return Listed(TaskInstance(**dict(zip(_NAMES, values, strict=True))), note, version_hash)


def _narrowed(query: Select[Any], which: TaskInstanceFilter, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    if not which.runs.is_open or which.queues is not None:
        query = filtered(query.join_from(task_instance, dag_run, dag_run.c.id == _T.dag_run_id), which.runs)
    return query.where(*conditions)


def _own_conditions(database: Connection, which: TaskInstanceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if which.task_ids is not None:
        conditions.append(_T.task_id.in_(sorted(set(which.task_ids))))
    if which.map_indexes is not None:
        conditions.append(_T.map_index.in_(sorted(set(which.map_indexes))))
    if which.mapped is not None:
        conditions.append(_T.map_index >= 0 if which.mapped else _T.map_index < 0)
    if which.in_states is not None:
        named = _T.state.in_(sorted(state for state in which.in_states if state is not None))
        conditions.append(or_(named, _T.state.is_(None)) if None in which.in_states else named)
    if which.pools is not None:
        conditions.append(_T.pool.in_(sorted(set(which.pools))))
    if which.queues is not None:
        conditions.append(_in_queues(dags.task_queues(database), set(which.queues)))
    spans: tuple[tuple[Any, tuple[Any, Any]], ...] = (
        (_T.start_date, which.start_date),
        (_T.end_date, which.end_date),
        (_UPDATED_AT, which.updated_at),
    )
    conditions += [within(column, span) for column, span in spans if span != ANY]
    if which.duration != ANY:
        conditions.append(within(_seconds(database, _T.start_date, _T.end_date), which.duration))
    return conditions


def _numbers(database: Connection, which: TaskInstanceFilter) -> list[ColumnElement[bool]]:
    """Bounds of `dag_run_id`, so that a list reads the part of the history that it is about, and no other. What is
    asked of a task instance says something of its run: it ended no earlier, was queued no later, and took no less."""
    implied: list[ColumnElement[bool]] = []
    for lower, upper in (which.start_date, which.end_date, which.updated_at):
        if lower is not None:
            implied.append(or_(dag_run.c.end_date.is_(None), dag_run.c.end_date >= lower - _SLACK))
        if upper is not None:
            implied.append(dag_run.c.queued_at <= upper + _SLACK)
    if which.duration[0] is not None:
        took = _seconds(database, dag_run.c.queued_at, dag_run.c.end_date)
        implied.append(or_(dag_run.c.end_date.is_(None), took >= which.duration[0] - _CLOCKS))
    if which.runs.is_open and not implied:
        return []
    bounds = filtered(select(func.min(dag_run.c.id), func.max(dag_run.c.id)), which.runs).where(*implied)
    first, last = database.execute(bounds).one()
    return [false()] if first is None else [_T.dag_run_id >= first, _T.dag_run_id <= last]


def _in_queues(queues: Mapping[str, Mapping[str, str]], wanted: Collection[str]) -> ColumnElement[bool]:
    """By the tasks of the current versions: what no version names is in the default queue."""

    def those(chosen: bool) -> ColumnElement[bool]:
        found = []
        for dag_id, of_dag in queues.items():
            tasks = sorted(task_id for task_id, queue in of_dag.items() if (queue in wanted) is chosen)
            if tasks:
                found.append(and_(dag_run.c.dag_id == dag_id, _T.task_id.in_(tasks)))
        return or_(*found) if found else false()

    return ~those(False) if DEFAULT_QUEUE in wanted else those(True)


def _seconds(database: Connection, start: Any, end: Any) -> Any:
    """From start to end; NULL where one of them is."""
    kind = database.dialect.name
    if kind == "postgresql":
        return extract("epoch", end - start)
    if kind == "sqlite":
        return (func.julianday(end) - func.julianday(start)) * 86400.0
    return func.timestampdiff(text("MICROSECOND"), start, end) / 1_000_000.0


def _ordered(database: Connection, query: Select[Any], window: Window) -> Select[Any]:
    if window.order in ("", "map_index"):
        return query.order_by(*[column.desc() if window.descending else column for column in _KEY])
    first = _seconds(database, _T.start_date, _T.end_date) if window.order == "duration" else _ORDERS[window.order]
    return query.order_by(first.desc() if window.descending else first, *_KEY)
