"""XComs: what task instances leave for others, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.runs import get_run
from opskit.core.metastore.tables import dag_run, xcom
from opskit.errors import UsageError


def get_xcoms(
    connection: Connection,
    dag_id: str,
    run_id: str,
    task_ids: Sequence[str] | None,
    key: str,
    map_index: int | None = None,
) -> list[tuple[str, int, Any]]:
    """`(task_id, map_index, value)` in the order of `task_ids` (None: all, by task_id), then map_index.

    Those that are not there are left out.
    """
    query = (
        select(xcom.c.task_id, xcom.c.map_index, xcom.c.value)
        .join_from(xcom, dag_run, dag_run.c.id == xcom.c.dag_run_id)
        .where(dag_run.c.dag_id == dag_id, dag_run.c.run_id == run_id, xcom.c.key == key)
        .order_by(xcom.c.task_id, xcom.c.map_index)
    )
    if task_ids is not None:
        query = query.where(xcom.c.task_id.in_(list(task_ids)))
    if map_index is not None:
        query = query.where(xcom.c.map_index == map_index)
    found = [(row.task_id, row.map_index, json.loads(row.value)) for row in connection.execute(query)]
    if task_ids is not None:
        place = {task_id: index for index, task_id in reversed(list(enumerate(task_ids)))}
        found.sort(key=lambda item: (place[item[0]], item[1]))
    return found


def set_xcom(
    connection: Connection,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    key: str,
    value: Any,
    now: datetime,
) -> None:
    """Write one XCom, in the place of an older one. NotFound for an unknown run, UsageError for what is no JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"XCom {key!r} of task {task_id} can't be written as JSON: {error}") from error
    run = get_run(connection, dag_id, run_id)
    bulk_insert(
        connection,
        xcom,
        ["dag_run_id", "task_id", "map_index", "key", "value", "created_at"],
        [(run.id, task_id, map_index, key, text, now)],
        on_conflict="update",
    )


def list_xcoms(connection: Connection, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
    """Key → value of one task instance."""
    rows = connection.execute(
        select(xcom.c.key, xcom.c.value)
        .join_from(xcom, dag_run, dag_run.c.id == xcom.c.dag_run_id)
        .where(
            dag_run.c.dag_id == dag_id,
            dag_run.c.run_id == run_id,
            xcom.c.task_id == task_id,
            xcom.c.map_index == map_index,
        )
        .order_by(xcom.c.key)
    )
    return {row.key: json.loads(row.value) for row in rows}


def delete_xcoms(connection: Connection, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> int:
    """Forget the XComs of one task instance; how many there were."""
    run = get_run(connection, dag_id, run_id)
    done = connection.execute(
        delete(xcom).where(xcom.c.dag_run_id == run.id, xcom.c.task_id == task_id, xcom.c.map_index == map_index)
    )
    return done.rowcount
