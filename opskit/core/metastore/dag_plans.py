"""Plans: the next run of DAGs whose file alone can tell it (`opskit.core.dag.asked_timetable`), in `dag.plan`.

The JSON is the answer of the DAG file, and beside it: `version`, the version_hash it is of; `after`, the data interval
of the newest automated run then; `asked_at`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from opskit.core.dag.asked_timetable import pending_run
from opskit.core.metastore.dag_loads import last_automated
from opskit.core.metastore.dags import touch
from opskit.core.metastore.tables import dag, dag_run


@dataclass(frozen=True, slots=True)
class Planned:
    """A DAG with its plan, None when it has none yet."""

    dag_id: str
    fileloc: str
    version_hash: str
    is_paused: bool
    unpaused_at: datetime | None
    last: tuple[datetime, datetime] | None
    plan: dict[str, Any] | None
    run: dict[str, Any] | None
    """What the plan says comes after `last`."""
    run_exists: bool
    """There is a run of that logical date already: somebody has made it by hand."""


def signs(connection: Connection, dag_ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Of each of these DAGs that is active, what changes with all that a plan depends on, but the time. Cheap."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.version_hash, dag.c.is_paused, dag.c.revision, dag.c.next_logical_date).where(
            dag.c.dag_id.in_(list(dag_ids)), dag.c.is_active.is_(True)
        )
    )
    return {row.dag_id: tuple(row) for row in rows}


def read(connection: Connection, dag_ids: Collection[str]) -> list[Planned]:
    """The active ones of these DAGs."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.fileloc, dag.c.version_hash, dag.c.is_paused, dag.c.unpaused_at, dag.c.plan)
        .where(dag.c.dag_id.in_(list(dag_ids)), dag.c.is_active.is_(True))
        .order_by(dag.c.dag_id)
    ).all()
    last = last_automated(connection, [row.dag_id for row in rows])
    plans = {row.dag_id: json.loads(row.plan) for row in rows if row.plan is not None}
    next_runs: dict[str, dict[str, Any]] = {}
    for dag_id, plan in plans.items():
        newest = last.get(dag_id)
        _, run = pending_run(plan, None if newest is None else [edge.isoformat() for edge in newest])
        if run is not None:
            next_runs[dag_id] = run
    starts = {dag_id: datetime.fromisoformat(run["start"]) for dag_id, run in next_runs.items()}
    existing = connection.execute(
        select(dag_run.c.dag_id, dag_run.c.logical_date).where(
            dag_run.c.dag_id.in_(list(starts)), dag_run.c.logical_date.in_(set(starts.values()))
        )
    )
    taken = {row.dag_id for row in existing if starts[row.dag_id] == row.logical_date}
    return [
        Planned(
            row.dag_id,
            row.fileloc,
            row.version_hash,
            row.is_paused,
            row.unpaused_at,
            last.get(row.dag_id),
            plans.get(row.dag_id),
            next_runs.get(row.dag_id),
            row.dag_id in taken,
        )
        for row in rows
    ]


def store(connection: Connection, plans: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """Write plans, with what lists show of the next run, and tell the schedulers. After the commit, wake them."""
    touch(connection, plans, now)
    for dag_id, plan in plans.items():
        run = plan["run"] or {}
        shown = {
            "next_logical_date": run.get("start"),
            "next_interval_start": run.get("start"),
            "next_interval_end": run.get("end"),
            "next_run_after": run.get("run_after"),
        }
        values = {name: text and datetime.fromisoformat(text) for name, text in shown.items()}
        connection.execute(
            update(dag)
            .where(dag.c.dag_id == dag_id, dag.c.version_hash == plan["version"])
            .values(plan=json.dumps(plan, sort_keys=True, ensure_ascii=False), **values)
        )


def warnings(connection: Connection) -> dict[str, str]:
    """dag_id → what the author's code of its schedule has raised, of active DAGs."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.plan).where(dag.c.plan.is_not(None), dag.c.is_active.is_(True))
    )
    told = {row.dag_id: json.loads(row.plan).get("warning") for row in rows}
    return {dag_id: str(text) for dag_id, text in told.items() if text}
