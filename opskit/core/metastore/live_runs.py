"""Which runs have not ended, and which task instances of any run are held by somebody: what a clean-up must spare."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag_run, task_instance

_HELD = (
    states.QUEUED,
    states.RUNNING,
    states.RESTARTING,
    states.DEFERRED,
    states.UP_FOR_RETRY,
    states.UP_FOR_RESCHEDULE,
)


@dataclass(frozen=True, slots=True)
class LiveTask:
    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def unfinished_runs(connection: Connection) -> list[tuple[str, str]]:
    """`(dag_id, run_id)` of queued and running DagRuns."""
    query = select(dag_run.c.dag_id, dag_run.c.run_id).where(dag_run.c.state.in_([states.QUEUED, states.RUNNING]))
    return [(row.dag_id, row.run_id) for row in connection.execute(query)]


def live_tasks(connection: Connection) -> list[LiveTask]:
    """Task instances that are queued or running, or wait for their retry or their next poke."""
    query = (
        select(dag_run.c.dag_id, dag_run.c.run_id, task_instance.c.task_id, task_instance.c.map_index)
        .join(dag_run, dag_run.c.id == task_instance.c.dag_run_id)
        .where(task_instance.c.state.in_(_HELD))
    )
    return [LiveTask(row.dag_id, row.run_id, row.task_id, row.map_index) for row in connection.execute(query)]
