"""Rows for tests of the metastore: small DAGs, their runs and task instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag import timetables
from opskit.core.metastore import dag_loads, runs, scheduling
from opskit.core.metastore.engine import Connection

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def dag_data(
    dag_id: str,
    edges: Mapping[str, Sequence[str]] | None = None,
    *,
    retries: int = 0,
    schedule: str | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """A DAG in its JSON form. `edges` maps each task to the tasks below it."""
    below = dict(edges or {"a": ["b"], "b": ["c"], "c": []})
    timetable = timetables.make_timetable(schedule, UTC)
    return {
        "format": 1,
        "dag_id": dag_id,
        "relative_fileloc": f"{dag_id}.py",
        "timetable": timetables.serialize(timetable),
        "tasks": [
            {
                "task_id": task_id,
                "operator": "PythonOperator",
                "upstream": sorted(other for other, targets in below.items() if task_id in targets),
                "downstream": sorted(below[task_id]),
                "retries": retries,
            }
            for task_id in below
        ],
        **rest,
    }


def loaded_file(path: str, *data: dict[str, Any], **rest: Any) -> dag_loads.LoadedFile:
    """A DAG file that was loaded well."""
    dags = [dag_loads.LoadedDag(str(one["dag_id"]), one, is_paused_at_creation=False) for one in data]
    return dag_loads.LoadedFile(path, content_hash="0" * 64, dags=dags, source="# source", **rest)


def store_dag(connection: Connection, dag_id: str, now: datetime = NOW, **rest: Any) -> None:
    """A DAG `a → b → c` (or as `edges` says) in `<dag_id>.py`."""
    dag_loads.store_loaded_files(connection, [loaded_file(f"{dag_id}.py", dag_data(dag_id, **rest))], now)


def start_run(
    connection: Connection,
    dag_id: str,
    logical_date: datetime,
    states: Mapping[str, str | None],
    *,
    state: str = "running",
    run_type: str = "manual",
    try_number: int = 1,
    max_tries: int = 0,
) -> runs.Run:
    """A run with task instances in these states."""
    run = runs.trigger(connection, dag_id, logical_date, logical_date=logical_date, run_type=run_type)
    ended = logical_date if state in ("success", "failed") else None
    scheduling.update_runs(connection, [(run.id, state, logical_date, ended, None)])
    scheduling.insert_instances(
        connection,
        [
            (
                *(run.id, task_id, -1, each, try_number if each else 0, 1 if each else 0, logical_date, logical_date),
                *(logical_date if each in ("success", "failed") else None, None, None, "w1", "host", 4711, None),
                *(max_tries, "PythonOperator", "default_pool", 1, 1),
            )
            for task_id, each in states.items()
        ],
    )
    return runs.get_run(connection, dag_id, run.run_id)
