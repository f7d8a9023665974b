"""What would go with a DAG that somebody deletes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag_run, task_instance


@dataclass(frozen=True, slots=True)
class Going:
    """Its runs, between which logical dates; `in_flight`: task instances that stand in the way."""

    runs: int
    oldest: datetime | None
    newest: datetime | None
    in_flight: int


def going(connection: Connection, dag_id: str) -> Going:
    """Two statements, along indexes; task instances that are over are not counted."""
    each = dag_run.c.logical_date
    query = select(func.count(), func.min(each), func.max(each)).where(dag_run.c.dag_id == dag_id)
    runs, oldest, newest = connection.execute(query).one()
    busy = (
        select(func.count())
        .select_from(task_instance.join(dag_run, dag_run.c.id == task_instance.c.dag_run_id))
        .where(dag_run.c.dag_id == dag_id, task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    )
    return Going(int(runs), oldest, newest, int(connection.execute(busy).scalar_one()))
