"""Pausing all DAGs at once, and resuming exactly those that ran before: for planned work on the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore import dags
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import dag, held_dag

_OWNER_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Held:
    """DAGs that wait for a resume: how many, and who paused the first of them when."""

    count: int
    owner: str
    at: datetime


def held(connection: Connection) -> Held | None:
    """None: nobody has paused all DAGs, or they were resumed."""
    first = connection.execute(select(held_dag).order_by(held_dag.c.at, held_dag.c.dag_id).limit(1)).first()
    if first is None:
        return None
    count = connection.execute(select(func.count()).select_from(held_dag)).scalar_one()
    return Held(int(count), first.owner, first.at)


def pause_all(connection: Connection, owner: str, now: datetime) -> list[str]:
    """Pause every DAG that is not paused, and remember which those are. Attempts that run go on.

    Called again it pauses what was unpaused or is new since, and remembers those, too.
    """
    running = connection.execute(select(dag.c.dag_id).where(dag.c.is_paused.is_(False)).order_by(dag.c.dag_id))
    changed = dags.set_paused(connection, running.scalars().all(), True, now)
    bulk_insert(
        connection, held_dag, ["dag_id", "owner", "at"], [[dag_id, owner[:_OWNER_LENGTH], now] for dag_id in changed]
    )
    return changed


def resume_all(connection: Connection, now: datetime) -> list[str]:
    """Unpause what `pause_all` paused, and nothing else; the ids. What was deleted or unpaused since is left alone."""
    rows = connection.execute(
        select(held_dag.c.dag_id)
        .join(dag, dag.c.dag_id == held_dag.c.dag_id)
        .where(dag.c.is_paused.is_(True))
        .order_by(held_dag.c.dag_id)
    )
    changed = dags.set_paused(connection, rows.scalars().all(), False, now)
    connection.execute(delete(held_dag))
    return changed
