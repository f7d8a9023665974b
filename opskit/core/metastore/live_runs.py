"""Which runs have not ended: what a clean-up must spare."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag_run


def unfinished_runs(connection: Connection) -> list[tuple[str, str]]:
    """`(dag_id, run_id)` of queued and running DagRuns."""
    query = select(dag_run.c.dag_id, dag_run.c.run_id).where(dag_run.c.state.in_([states.QUEUED, states.RUNNING]))
    return [(row.dag_id, row.run_id) for row in connection.execute(query)]
