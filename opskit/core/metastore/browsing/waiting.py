"""What is asked of the rows to tell why a task instance is not running."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.scheduling import DEFER_KEY
from opskit.core.metastore.tables import dag_file, instance, task_instance, xcom


def row_of(connection: Connection, run_number: int, task_id: str, map_index: int) -> Any:
    """The row of a task instance, with all columns; None when there is none."""
    each = task_instance.c
    query = select(task_instance).where(
        each.dag_run_id == run_number, each.task_id == task_id, each.map_index == map_index
    )
    return connection.execute(query).first()


def deferral_of(connection: Connection, run_number: int, task_id: str, map_index: int) -> dict[str, Any] | None:
    """What a deferred task instance waits for, as `core/dag/deferral_frames.py` packs it."""
    each = xcom.c
    query = select(each.value).where(
        each.dag_run_id == run_number, each.task_id == task_id, each.map_index == map_index, each.key == DEFER_KEY
    )
    text = connection.execute(query).scalar()
    return None if text is None else json.loads(text)


def is_expanded(connection: Connection, run_number: int, task_id: str) -> bool:
    """Whether a task has instances with a map_index in this run."""
    each = task_instance.c
    query = select(each.map_index).where(each.dag_run_id == run_number, each.task_id == task_id, each.map_index >= 0)
    return connection.execute(query.limit(1)).first() is not None


def import_error_of(connection: Connection, path: str) -> str | None:
    """Why a DAG file could not be loaded the last time; None when it could."""
    found: str | None = connection.execute(select(dag_file.c.import_error).where(dag_file.c.path == path)).scalar()
    return found


def last_heartbeat(connection: Connection, kind: str) -> datetime | None:
    """The newest sign of life of any process of this kind, also of one that has ended."""
    found: datetime | None = connection.execute(
        select(func.max(instance.c.heartbeat_at)).where(instance.c.kind == kind)
    ).scalar()
    return found


def count_in_flight(connection: Connection) -> int:
    """Task instances of all DAGs that are claimed or run."""
    query = select(func.count()).where(task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    return int(connection.execute(query).scalar_one())
