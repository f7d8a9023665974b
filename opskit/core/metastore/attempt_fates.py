"""What became of attempts that were in flight: for an experiment that must lose none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag_run, task_attempt, task_instance

_AT_ONCE = 200
_LOST = "worker lost"
"""How the scheduler begins the reason of an attempt whose worker is gone."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """One attempt that is claimed or runs."""

    dag_run_id: int
    task_id: str
    map_index: int
    try_number: int
    name: str
    """For people."""


def in_flight(connection: Connection) -> list[InFlight]:
    """Every attempt that is claimed or runs."""
    ti = task_instance.c
    query = (
        select(ti.dag_run_id, ti.task_id, ti.map_index, ti.try_number, dag_run.c.dag_id, dag_run.c.run_id)
        .join(dag_run, dag_run.c.id == ti.dag_run_id)
        .where(ti.state.in_(sorted(states.IN_FLIGHT)))
    )
    return [
        InFlight(
            row.dag_run_id,
            row.task_id,
            row.map_index,
            row.try_number,
            f"{row.dag_id} {row.run_id} {row.task_id}" + (f"[{row.map_index}]" if row.map_index >= 0 else ""),
        )
        for row in connection.execute(query)
    ]


def lost(connection: Connection, attempts: Sequence[InFlight]) -> list[str]:
    """Those that ended because their worker was gone, whether or not another try followed."""
    found = []
    for start in range(0, len(attempts), _AT_ONCE):
        some = {
            (one.dag_run_id, one.task_id, one.map_index, one.try_number): one
            for one in attempts[start : start + _AT_ONCE]
        }
        for table in (task_instance, task_attempt):
            key = tuple_(table.c.dag_run_id, table.c.task_id, table.c.map_index, table.c.try_number)
            rows = connection.execute(select(*key.clauses).where(key.in_(list(some)), table.c.reason.startswith(_LOST)))
            found += [some.pop(tuple(row)).name for row in rows.all()]
            if not some:
                break
    return sorted(found)
