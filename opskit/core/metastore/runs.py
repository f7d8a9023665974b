"""DagRuns: trigger, find, mark and delete them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, func, insert, select, update
from sqlalchemy.engine import Connection

from opskit.core.dag import run_conf, states, timetables
from opskit.core.dag.runtime import RunInfo
from opskit.core.metastore.dags import get_dag, get_serialized, nearest, touch
from opskit.core.metastore.history import delete_runs
from opskit.core.metastore.tables import dag_run, task_instance
from opskit.errors import GuardRefused, NotFound, UsageError

_RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")
_NEWEST = 10


@dataclass(frozen=True, slots=True)
class Run:
    """One DagRun."""

    id: int
    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime
    conf: dict[str, Any]
    version_hash: str | None
    queued_at: datetime
    start_date: datetime | None
    end_date: datetime | None
    note: str | None
    partition_key: str | None = None
    partition_date: datetime | None = None

    def info(self) -> RunInfo:
        """As a task sees it."""
        return RunInfo(
            dag_id=self.dag_id,
            run_id=self.run_id,
            run_type=self.run_type,
            state=self.state,
            logical_date=self.logical_date,
            data_interval_start=self.data_interval_start,
            data_interval_end=self.data_interval_end,
            conf=self.conf,
            start_date=self.start_date,
            end_date=self.end_date,
            partition_key=self.partition_key,
            partition_date=self.partition_date,
        )


def trigger(
    connection: Connection,
    dag_id: str,
    now: datetime,
    *,
    run_id: str | None = None,
    logical_date: datetime | None = None,
    conf: Mapping[str, Any] | None = None,
    run_type: str = "manual",
    data_interval: tuple[datetime, datetime] | None = None,
    note: str | None = None,
    partition_key: str | None = None,
) -> Run:
    """Create a queued run. Its data interval is the timetable's for that date, unless it is given.

    NotFound for an unknown DAG; UsageError for one whose file is gone, a run_id or a logical date that exists already,
    a run_id with other characters than A-Z a-z 0-9 _ . ~ : + - or a conf that is no JSON object, or that does not fit
    the DAG's params; and for a partition key that the DAG's schedule can't read.
    """
    if run_id is not None and not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{run_id!r} can't be a run_id", hint="use at most 250 letters, digits and the characters _ . ~ : + -"
        )
    if logical_date is not None and logical_date.tzinfo is None:
        raise UsageError(f"the logical date {logical_date.isoformat()} has no time zone", hint="write it with +00:00")
    text = _conf_text(dag_id, conf)
    # Takes the row's lock: two of us, or a scheduler that creates runs, can't both find a date free.
    touch(connection, [dag_id], now)
    dag = get_dag(connection, dag_id)
    if not dag.is_active:
        raise UsageError(
            f"DAG {dag_id} is not active: {dag.fileloc} no longer defines it", hint="deploy its file again first"
        )
    at = logical_date or _free_date(connection, dag_id, now)
    run_id = run_id or f"{run_type}__{at.isoformat()}"
    for taken in connection.execute(
        select(dag_run.c.run_id, dag_run.c.logical_date).where(
            dag_run.c.dag_id == dag_id, (dag_run.c.run_id == run_id) | (dag_run.c.logical_date == at)
        )
    ):
        if taken.run_id == run_id:
            raise UsageError(f"DAG {dag_id} has a run {run_id!r} already", hint="choose another --run-id, or clear it")
        raise UsageError(
            f"DAG {dag_id} has a run of {at.isoformat()} already: {taken.run_id}",
            hint="choose another logical date, or clear that run",
        )
    definition = get_serialized(connection, dag_id)
    run_conf.check(definition, conf or {})
    partition_date = None
    if data_interval is None or partition_key is not None or run_type == "backfill":
        from opskit.core.dag.partition_timetables import partition_of_run

        timetable = timetables.deserialize(definition.timetable)
        data_interval = data_interval or timetables.manual_interval(timetable, at)
        try:
            partition_key, partition_date = partition_of_run(timetable, run_type, data_interval[1], partition_key)
        except ValueError as error:
            raise UsageError(f"DAG {dag_id} has no partition {partition_key!r}: {error}") from error
    done = connection.execute(
        insert(dag_run).values(
            dag_id=dag_id,
            run_id=run_id,
            run_type=run_type,
            state=states.QUEUED,
            logical_date=at,
            data_interval_start=data_interval[0],
            data_interval_end=data_interval[1],
            conf=text,
            queued_at=now,
            note=note,
            partition_key=partition_key,
            partition_date=partition_date,
        )
    )
    assert done.inserted_primary_key is not None
    return _run(connection.execute(select(dag_run).where(dag_run.c.id == done.inserted_primary_key[0])).one())


def _conf_text(dag_id: str, conf: Mapping[str, Any] | None) -> str:
    if conf is None:
        return "{}"
    if not isinstance(conf, Mapping):
        raise UsageError(f"the conf for DAG {dag_id} is no JSON object", hint='write it as {"key": "value"}')
    try:
        return json.dumps(dict(conf), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the conf for DAG {dag_id} can't be written as JSON: {error}") from error


def _free_date(connection: Connection, dag_id: str, now: datetime) -> datetime:
    """`now`, or the first microsecond after it that no run has: runs triggered at once are all wanted."""
    newest = connection.execute(
        select(func.max(dag_run.c.logical_date)).where(
            dag_run.c.dag_id == dag_id,
            dag_run.c.logical_date >= now,
            dag_run.c.logical_date < now + timedelta(seconds=1),
        )
    ).scalar()
    return now if newest is None else newest + timedelta(microseconds=1)


_BY_RUN_ID = select(dag_run).where(dag_run.c.dag_id == bindparam("of_dag"), dag_run.c.run_id == bindparam("named"))


def find_run(
    connection: Connection, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None
) -> Run | None:
    """The run with this run_id or this logical date; None when there is none."""
    if run_id is not None and logical_date is None:
        row = connection.execute(_BY_RUN_ID, {"of_dag": dag_id, "named": run_id}).first()
        return None if row is None else _run(row)
    query = select(dag_run).where(dag_run.c.dag_id == dag_id)
    if run_id is not None:
        query = query.where(dag_run.c.run_id == run_id)
    if logical_date is not None:
        query = query.where(dag_run.c.logical_date == logical_date)
    row = connection.execute(query.limit(1)).first() if run_id is not None or logical_date is not None else None
    return None if row is None else _run(row)


def find_noted(connection: Connection, dag_id: str, note: str) -> Run | None:
    """The newest run with exactly this note; reads all runs of the DAG."""
    query = select(dag_run).where(dag_run.c.dag_id == dag_id, dag_run.c.note == note)
    row = connection.execute(query.order_by(dag_run.c.id.desc()).limit(1)).first()
    return None if row is None else _run(row)


def get_run(
    connection: Connection, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None
) -> Run:
    """As `find_run`; NotFound, naming the nearest run or the newest ones, when there is none."""
    found = find_run(connection, dag_id, run_id, logical_date)
    if found is not None:
        return found
    get_dag(connection, dag_id)
    what = repr(run_id) if run_id is not None else f"of {logical_date.isoformat() if logical_date else None}"
    newest = connection.execute(
        select(dag_run.c.run_id)
        .where(dag_run.c.dag_id == dag_id)
        .order_by(dag_run.c.logical_date.desc())
        .limit(_NEWEST)
    ).scalars()
    known = list(newest)
    hint = f"the newest one is {known[0]}" if known else "it has no runs yet"
    raise NotFound(f"DAG {dag_id} has no run {what}", hint=nearest(run_id or "", known) or hint)


def list_runs(
    connection: Connection,
    *,
    dag_id: str | None = None,
    state: str | None = None,
    run_type: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int | None = None,
) -> list[Run]:
    """Runs, the newest logical date first. `start` and `end` bound the logical date, both included."""
    query = select(dag_run).order_by(dag_run.c.logical_date.desc(), dag_run.c.id.desc())
    if dag_id is not None:
        query = query.where(dag_run.c.dag_id == dag_id)
    if state is not None:
        query = query.where(dag_run.c.state == state)
    if run_type is not None:
        query = query.where(dag_run.c.run_type == run_type)
    query = _within(query, start, end)
    if limit is not None:
        query = query.limit(limit)
    return [_run(row) for row in connection.execute(query)]


def _within(query: Select[Any], start: datetime | None, end: datetime | None) -> Select[Any]:
    if start is not None:
        query = query.where(dag_run.c.logical_date >= start)
    if end is not None:
        query = query.where(dag_run.c.logical_date <= end)
    return query


def previous_run(connection: Connection, dag_id: str, before: datetime, state: str | None = None) -> Run | None:
    """The newest run with a logical date before `before` (in this state)."""
    query = select(dag_run).where(dag_run.c.dag_id == dag_id, dag_run.c.logical_date < before)
    if state is not None:
        query = query.where(dag_run.c.state == state)
    row = connection.execute(query.order_by(dag_run.c.logical_date.desc()).limit(1)).first()
    return None if row is None else _run(row)


def count_runs(
    connection: Connection,
    dag_id: str,
    wanted: Collection[str] | None = None,
    logical_dates: Collection[datetime] | None = None,
) -> int:
    """How many runs are in these states and have these logical dates; None: any."""
    query = select(func.count()).select_from(dag_run).where(dag_run.c.dag_id == dag_id)
    if wanted is not None:
        query = query.where(dag_run.c.state.in_(list(wanted)))
    if logical_dates is not None:
        query = query.where(dag_run.c.logical_date.in_(list(logical_dates)))
    return int(connection.execute(query).scalar_one())


def delete_run(connection: Connection, dag_id: str, run_id: str, now: datetime) -> None:
    """Delete a run with its task instances and XComs. GuardRefused while an attempt of it is in flight."""
    run = get_run(connection, dag_id, run_id)
    touch(connection, [dag_id], now)
    in_flight = connection.execute(
        select(func.count())
        .select_from(task_instance)
        .where(task_instance.c.dag_run_id == run.id, task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    ).scalar()
    if in_flight:
        raise GuardRefused(
            f"run {run_id} of DAG {dag_id} has {in_flight} task instances in flight", hint="mark it first"
        )
    delete_runs(connection, [run.id])


def set_conf(connection: Connection, run: Run, conf: Mapping[str, Any]) -> None:
    """Give a run another conf. UsageError for what is no JSON object; call `dags.touch` in the same transaction."""
    connection.execute(update(dag_run).where(dag_run.c.id == run.id).values(conf=_conf_text(run.dag_id, conf)))


def set_note(connection: Connection, dag_id: str, run_id: str, note: str | None) -> None:
    """A line for people; no decision depends on it."""
    run = get_run(connection, dag_id, run_id)
    connection.execute(update(dag_run).where(dag_run.c.id == run.id).values(note=note))


def _run(row: Any) -> Run:
    return Run(**{**row._mapping, "conf": json.loads(row.conf)})
