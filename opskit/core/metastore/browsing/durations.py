"""How long the tasks of some runs took."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import task_instance


@dataclass(frozen=True, slots=True)
class TaskTimes:
    """One task in one run: from the first start of its instances to their last end."""

    dag_run_id: int
    task_id: str
    queued_at: datetime | None
    start_date: datetime | None
    end_date: datetime | None


def task_times(
    connection: Connection, run_numbers: Collection[int], task_ids: Collection[str] | None = None
) -> list[TaskTimes]:
    """Times of the tasks of these runs (`dag_run.id`), of those that have begun."""
    if not run_numbers:
        return []
    each = task_instance.c
    query = (
        select(
            each.dag_run_id,
            each.task_id,
            func.min(each.queued_at),
            func.min(each.start_date),
            func.max(each.end_date),
        )
        .where(each.dag_run_id.in_(sorted(run_numbers)), each.start_date.is_not(None))
        .group_by(each.dag_run_id, each.task_id)
    )
    if task_ids is not None:
        query = query.where(each.task_id.in_(sorted(task_ids)))
    return [TaskTimes(*row) for row in connection.execute(query)]
