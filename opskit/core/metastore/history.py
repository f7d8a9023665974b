"""What belongs to a DagRun, and goes with it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, delete
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import (
    asset_event_run,
    dag_run,
    question,
    task_attempt,
    task_instance,
    task_instance_note,
    task_state,
    xcom,
)

CHILDREN = (xcom, task_attempt, task_instance)
"""Tables with rows of DagRuns, by `dag_run_id`. No foreign key ties them to dag_run: see ARCHITECTURE.md, "History"."""


def delete_runs(connection: Connection, numbers: Sequence[int] | Select[tuple[int]]) -> int:
    """Delete runs by their `dag_run.id`, or those that a query finds, with all that is theirs; how many went. The
    caller holds the rows of their DAGs, and knows that no attempt is in flight."""
    found = connection.execute(numbers).scalars().all() if isinstance(numbers, Select) else numbers
    removed = 0
    for start in range(0, len(found), 1000):
        some = found[start : start + 1000]
        for table in CHILDREN:
            connection.execute(delete(table).where(table.c.dag_run_id.in_(some)))
        for table in (asset_event_run, task_state, task_instance_note, question):
            connection.execute(delete(table).where(table.c.dag_run_id.in_(some)))
        removed += connection.execute(delete(dag_run).where(dag_run.c.id.in_(some))).rowcount
    return removed
