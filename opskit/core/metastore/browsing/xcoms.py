"""Lists of XComs."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.browsing import totals
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.scheduling import DEFER_KEY, MISSED_KEY
from opskit.core.metastore.tables import dag_run, xcom
from opskit.errors import NotFound

INTERNAL = (DEFER_KEY, MISSED_KEY)
"""Keys that are opskit's own: what a deferred task waits for, which deadlines of a run were told. No list has them."""


@dataclass(frozen=True, slots=True)
class XComFilter:
    """None: any. `readable`: the DAGs that may be seen."""

    dag_id: str | None = None
    readable: Collection[str] | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ListedXCom:
    """An XCom without its value."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    key: str
    logical_date: datetime
    timestamp: datetime


_COLUMNS = (
    dag_run.c.dag_id,
    dag_run.c.run_id,
    xcom.c.task_id,
    xcom.c.map_index,
    xcom.c.key,
    dag_run.c.logical_date,
    xcom.c.created_at,
)
_ORDER = (xcom.c.dag_run_id, xcom.c.task_id, xcom.c.map_index, xcom.c.key)


def list_xcoms(database: Connection, which: XComFilter, window: Window) -> tuple[list[ListedXCom], int]:
    """In the order in which the runs were made, then by task, map_index and key."""
    page = _narrowed(select(*_COLUMNS), which).order_by(*_ORDER).limit(window.limit).offset(window.offset)
    found = [ListedXCom(*row) for row in database.execute(page)]
    counted = _narrowed(select(xcom.c.dag_run_id), which)
    return found, window.total(len(found), lambda: totals.total(database, counted, repr(which)))


def get_xcom(
    database: Connection, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
) -> tuple[ListedXCom, Any]:
    """One with its value, which is plain JSON. NotFound when there is none."""
    which = XComFilter(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index, key=key)
    row = database.execute(_narrowed(select(*_COLUMNS, xcom.c.value), which)).first()
    if row is None:
        mapped = f" with map_index {map_index}" if map_index >= 0 else ""
        raise NotFound(f"task {task_id!r}{mapped} of run {run_id!r} of DAG {dag_id!r} has left no XCom {key!r}")
    return ListedXCom(*row[:7]), json.loads(row.value)


def _narrowed(query: Select[Any], which: XComFilter) -> Select[Any]:
    query = query.join_from(xcom, dag_run, dag_run.c.id == xcom.c.dag_run_id).where(
        xcom.c.key.not_in(INTERNAL), xcom.c.task_id != ""
    )
    for column, value in (
        (dag_run.c.dag_id, which.dag_id),
        (dag_run.c.run_id, which.run_id),
        (xcom.c.task_id, which.task_id),
        (xcom.c.map_index, which.map_index),
        (xcom.c.key, which.key),
    ):
        if value is not None:
            query = query.where(column == value)
    if which.readable is not None:
        query = query.where(dag_run.c.dag_id.in_(sorted(which.readable)))
    return query
