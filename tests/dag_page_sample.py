"""A small metastore with what the pages of a DAG show: groups, mapped tasks, retries, states of every kind."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from opskit.core.dag import timetables
from opskit.core.metastore import dag_loads, runs, tables
from opskit.core.metastore.engine import Connection
from opskit.telemetry import task_logs
from tests.metastore_rows import loaded_file

START = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
DAG_ID = "orders_daily"
TASKS: dict[str, tuple[list[str], str | None, str | None]] = {
    # task_id: (downstream, group, state in the newest run)
    "start": (["extract.orders", "extract.customers"], None, "success"),
    "extract.orders": (["transform.clean"], "extract", "success"),
    "extract.customers": (["transform.clean"], "extract", "success"),
    "transform.clean": (["transform.files"], "transform", "success"),
    "transform.files": (["transform.deep.join"], "transform", "success"),
    "transform.deep.join": (["load"], "transform.deep", "failed"),
    "load": (["report", "notify"], None, "upstream_failed"),
    "report": ([], None, "upstream_failed"),
    "wait_for_file": (["notify"], None, "deferred"),
    "notify": ([], None, None),
    "branch_a": ([], None, "skipped"),
    "again": ([], None, "up_for_retry"),
}
MAPPED = "transform.files"


def sample_data(dag_id: str = DAG_ID) -> dict[str, Any]:
    """The JSON form of the DAG."""
    upstream: dict[str, list[str]] = {}
    for task_id, (below, _, _) in TASKS.items():
        for other in below:
            upstream.setdefault(other, []).append(task_id)
    return {
        "format": 1,
        "dag_id": dag_id,
        "relative_fileloc": f"{dag_id}.py",
        "timetable": timetables.serialize(timetables.make_timetable("30 6 * * *", UTC)),
        "description": "What was ordered yesterday",
        "owners": ["data"],
        "tags": ["daily", "orders"],
        "params": {"region": "eu", "password": "hunter2-param"},
        "groups": [
            {"group_id": "extract", "parent": None, "tooltip": "from the shop"},
            {"group_id": "transform", "parent": None, "tooltip": ""},
            {"group_id": "transform.deep", "parent": "transform", "tooltip": ""},
        ],
        "ui": {
            "schedule_words": "every day at 06:30",
            "doc_md": "# Orders\n\nRuns **daily**. See [wiki](https://wiki.example/orders) <script>alert(1)</script>",
            "edges": {"load": {"report": {"label": "if <all> went well"}}},
        },
        "tasks": [
            {
                "task_id": task_id,
                "operator": "BashOperator",
                "upstream": sorted(upstream.get(task_id, [])),
                "downstream": sorted(below),
                "retries": 2,
                **({"group": group} if group else {}),
                **({"expand": {"const": 40}} if task_id == MAPPED else {}),
                **({"is_setup": True} if task_id == "start" else {}),
                **({"is_teardown": True} if task_id == "notify" else {}),
                "ui": {
                    "fields": {"bash_command": f"echo {task_id} {{{{ ds }}}} <b>"},
                    **({"doc_md": "Joins. **Carefully**."} if task_id == "transform.deep.join" else {}),
                },
            }
            for task_id, (below, group, _) in TASKS.items()
        ],
    }


def fill(connection: Connection, dag_id: str = DAG_ID, *, many_runs: int = 6) -> list[runs.Run]:
    """The DAG and its runs, the oldest first; the newest is running and has a failed task."""
    source = f'from opskit import DAG\n\nwith DAG("{dag_id}"):  # <b>\n    ...\n'
    file = replace(loaded_file(f"{dag_id}.py", sample_data(dag_id)), source=source)
    dag_loads.store_loaded_files(connection, [file], START)
    made = []
    for number in range(many_runs):
        at = START + timedelta(days=number)
        run = runs.trigger(
            connection,
            dag_id,
            at,
            logical_date=at,
            run_type="scheduled" if number % 3 else "manual",
            conf={"file": "<i>x</i>"} if number == many_runs - 1 else None,
        )
        newest = number == many_runs - 1
        begun = at + timedelta(minutes=1)
        version = sample_version(connection, dag_id)
        connection.execute(
            update(tables.dag_run)
            .where(tables.dag_run.c.id == run.id)
            .values(
                state="running" if newest else "failed" if number % 4 == 1 else "success",
                start_date=begun,
                end_date=None if newest else begun + timedelta(minutes=5 + number),
                version_hash=version,
            )
        )
        rows = []
        for place, (task_id, (_, _, state)) in enumerate(TASKS.items()):
            own = state if newest else "success"
            indexes = range(40) if task_id == MAPPED else [-1]
            rows += [
                _instance(run.id, task_id, index, _mapped_state(own, index, newest), begun, place) for index in indexes
            ]
        connection.execute(insert(tables.task_instance), rows)
        made.append(runs.get_run(connection, dag_id, run.run_id))
    last = made[-1]
    for number in (1, 2):
        connection.execute(
            insert(tables.task_attempt),
            [
                {
                    "dag_run_id": last.id,
                    "task_id": "transform.deep.join",
                    "map_index": -1,
                    "try_number": number,
                    "state": "failed",
                    "start_date": last.logical_date + timedelta(minutes=6 + number),
                    "end_date": last.logical_date + timedelta(minutes=6 + number, seconds=40),
                    "hostname": "host-<1>",
                    "pid": 4710 + number,
                    "reason": "exit code 1",
                }
            ],
        )
    connection.execute(
        insert(tables.xcom),
        [
            {
                "dag_run_id": last.id,
                "task_id": "extract.orders",
                "map_index": -1,
                "key": key,
                "value": json.dumps(value),
                "created_at": last.logical_date,
            }
            for key, value in (("return_value", {"rows": 12, "html": "<img src=x>"}), ("large", "x" * 30_000))
        ],
    )
    return made


def _mapped_state(state: str | None, map_index: int, newest: bool) -> str | None:
    if map_index < 0 or not newest:
        return state
    return "failed" if map_index in (7, 8) else "running" if map_index > 35 else state


def _instance(run: int, task_id: str, map_index: int, state: str | None, begun: datetime, place: int) -> dict[str, Any]:
    started = begun + timedelta(seconds=30 * place) if state not in (None, "skipped", "upstream_failed") else None
    ended = started + timedelta(seconds=20 + 3 * place) if started and state in ("success", "failed") else None
    return {
        "dag_run_id": run,
        "task_id": task_id,
        "map_index": map_index,
        "state": state,
        "try_number": 3 if task_id == "transform.deep.join" and state == "failed" else 1 if started else 0,
        "max_tries": 2,
        "dispatches": 1,
        "operator": "BashOperator",
        "queued_at": started - timedelta(seconds=5) if started else None,
        "start_date": started,
        "end_date": ended or (begun if state in ("skipped", "upstream_failed") else None),
        "next_at": begun + timedelta(hours=1) if state == "up_for_retry" else None,
        "hostname": "host-<1>" if started else None,
        "pid": 4713 if started else None,
        "reason": "exit code 1: <no> file" if state == "failed" else None,
    }


def sample_version(connection: Connection, dag_id: str = DAG_ID) -> str:
    """Hash of the DAG's current version."""
    from opskit.core.metastore import dags

    return dags.get_dag(connection, dag_id).version_hash


def write_log(folder: Path, run: runs.Run, task_id: str, attempt: int, text: str, map_index: int = -1) -> str:
    """A log of an attempt; its path below the log folder."""
    path = task_logs.log_path(run.dag_id, run.run_id, task_id, map_index, attempt)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)
    return path
