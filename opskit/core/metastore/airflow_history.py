"""Writes the history of an Airflow into our metastore: ended runs with their task instances and XComs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from opskit.core.dag import states
from opskit.core.metastore.airflow_source import AirflowSource, SourceRun, conf_of, xcom_value
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.dags import touch
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.tables import dag_run, task_instance, xcom

ENDED = (states.SUCCESS, states.FAILED)
_CHUNK = 100
_INSTANCE = ["dag_run_id", "task_id", "map_index", "state", "try_number", "max_tries", "dispatches", "operator", "pool"]
_INSTANCE += ["pool_slots", "priority_weight", "queued_at", "start_date", "end_date", "hostname", "pid", "reason"]
_XCOM = ["dag_run_id", "task_id", "map_index", "key", "value", "created_at"]


@dataclass(slots=True)
class Taken:
    """What was written, and what could not be: (what, why)."""

    runs: int = 0
    instances: int = 0
    xcoms: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def known_runs(engine: Engine) -> set[tuple[str, str]]:
    """(dag_id, run_id) of all runs here."""
    with reading(engine) as connection:
        return {(row.dag_id, row.run_id) for row in connection.execute(select(dag_run.c.dag_id, dag_run.c.run_id))}


def take_history(engine: Engine, source: AirflowSource, numbers: Sequence[int], now: datetime) -> Taken:
    """Write these runs of the source, some at a time. Where one of them can't be written, the others of its
    transaction are written one by one, so that no more is lost than that one."""
    taken = Taken()
    waiting: list[SourceRun] = []
    for run in source.runs(numbers):
        waiting.append(run)
        if len(waiting) == _CHUNK:
            _write(engine, waiting, now, taken)
            waiting = []
    _write(engine, waiting, now, taken)
    return taken


def _write(engine: Engine, runs: Sequence[SourceRun], now: datetime, taken: Taken) -> None:
    try:
        part = _try(engine, runs, now)
    except (DBAPIError, ValueError) as error:
        if len(runs) == 1:
            name = f"runs/{runs[0].values['dag_id']}/{runs[0].values['run_id']}"
            taken.problems.append((name, _why(error)))
            return
        for run in runs:
            _write(engine, [run], now, taken)
        return
    taken.runs += part.runs
    taken.instances += part.instances
    taken.xcoms += part.xcoms
    taken.problems += part.problems


def _why(error: Exception) -> str:
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return " ".join(text.split())[:200]


def _try(engine: Engine, runs: Sequence[SourceRun], now: datetime) -> Taken:
    part = Taken()
    if not runs:
        return part
    with transaction(engine) as connection:
        dag_ids = {str(run.values["dag_id"]) for run in runs}
        touch(connection, dag_ids, now)
        dates = _taken_dates(connection, dag_ids)
        for run in runs:
            number = _write_run(connection, run, dates, now)
            _write_instances(connection, number, run, part)
            _write_xcoms(connection, number, run, part, now)
            part.runs += 1
    return part


def _taken_dates(connection: Connection, dag_ids: Collection[str]) -> set[tuple[str, datetime]]:
    rows = connection.execute(
        select(dag_run.c.dag_id, dag_run.c.logical_date).where(dag_run.c.dag_id.in_(sorted(dag_ids)))
    )
    return {(row.dag_id, row.logical_date) for row in rows}


def _write_run(connection: Connection, run: SourceRun, dates: set[tuple[str, datetime]], now: datetime) -> int:
    values = run.values
    at = values.get("logical_date") or values.get("execution_date") or values.get("run_after") or values["queued_at"]
    if at is None:
        raise ValueError("it has no date")
    # A run of Airflow 3 may have no logical date, and others the same moment; here each date is one run's.
    while (values["dag_id"], at) in dates:
        at += timedelta(microseconds=1)
    dates.add((values["dag_id"], at))
    done = connection.execute(
        insert(dag_run).values(
            dag_id=values["dag_id"],
            run_id=values["run_id"],
            run_type=str(values["run_type"])[:20],
            state=values["state"],
            logical_date=at,
            data_interval_start=values.get("data_interval_start") or at,
            data_interval_end=values.get("data_interval_end") or at,
            conf=json.dumps(conf_of(values.get("conf")), ensure_ascii=False),
            queued_at=values.get("queued_at") or values.get("start_date") or now,
            start_date=values.get("start_date"),
            end_date=values.get("end_date"),
        )
    )
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def _write_instances(connection: Connection, number: int, run: SourceRun, part: Taken) -> None:
    rows: list[list[Any]] = []
    for one in run.instances:
        state = one.get("state")
        reason = None
        if state is not None and state not in states.FINISHED:
            state, reason = states.FAILED, f"was {state} in Airflow when its history was taken over"
        rows.append(
            [
                *(number, one["task_id"], one["map_index"], state, one.get("try_number") or 0),
                *(max(one.get("max_tries") or 0, 0), 0, (one.get("operator") or "")[:250], one["pool"][:250]),
                *(one.get("pool_slots") or 1, one.get("priority_weight") or 1, one.get("queued_dttm")),
                *(one.get("start_date"), one.get("end_date"), (one.get("hostname") or "")[:250] or None),
                *(one.get("pid"), reason),
            ]
        )
    part.instances += len(rows)
    bulk_insert(connection, task_instance, _INSTANCE, rows)


def _write_xcoms(connection: Connection, number: int, run: SourceRun, part: Taken, now: datetime) -> None:
    rows: list[list[Any]] = []
    for one in run.xcoms:
        try:
            text = json.dumps(xcom_value(one.get("value")), ensure_ascii=False)
        except (ValueError, KeyError, TypeError) as error:
            what = f"xcoms/{one['dag_id']}/{one['run_id']}/{one['task_id']}/{one['key']}"
            part.problems.append((what, str(error)))
            continue
        rows.append([number, one["task_id"], one["map_index"], one["key"], text, one.get("timestamp") or now])
    part.xcoms += len(rows)
    bulk_insert(connection, xcom, _XCOM, rows)
