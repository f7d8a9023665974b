"""Whether something changed that somebody looks at: fingerprints, by a handful of indexed queries for all who look.

A fingerprint is equal as long as a page would show the same; what it is made of means nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.tables import dag, dag_file, dag_run, instance, log, question, task_instance

ACTIVE = (states.QUEUED, states.RUNNING)
_MOST_RUNS = 100
"""Active runs of one DAG, the newest, whose task instances are watched for its pages."""
_STEP_SECONDS, _MOST_STEPS = 15.0, 8
RunKey = tuple[str, str]
"""`(dag_id, run_id)`."""
TaskKey = tuple[str, str, str, int]
"""`(dag_id, run_id, task_id, map_index)`."""


def of_all_dags(connection: Connection) -> str:
    """Of the DAGs themselves and of all active runs: what begins, moves on or ends changes it."""
    each = dag.c
    rows = connection.execute(
        select(each.is_active, each.is_paused, func.count(), func.sum(each.revision), func.max(each.next_run_after))
        .group_by(each.is_active, each.is_paused)
        .order_by(each.is_active, each.is_paused)
    ).all()
    newest = connection.execute(select(func.max(dag_run.c.id))).scalar()
    active = connection.execute(
        select(dag_run.c.state, func.count(), func.sum(dag_run.c.id))
        .where(dag_run.c.state.in_(ACTIVE))
        .group_by(dag_run.c.state)
        .order_by(dag_run.c.state)
    ).all()
    return _digest(*rows, newest, *active)


def of_questions(connection: Connection) -> str:
    """Of what tasks ask people and nobody has answered. (A task that is cleared or marked changes its DAG.)"""
    query = select(func.count(), func.max(question.c.created_at)).where(question.c.is_open)
    return _digest(connection.execute(query).one())


def of_operations(connection: Connection) -> str:
    """Of the audit log, of the processes that are there, and of the files that can't be loaded."""
    line = connection.execute(select(func.max(log.c.id))).scalar()
    instances = connection.execute(
        select(instance.c.kind, func.count(), func.max(instance.c.started_at))
        .where(instance.c.ended_at.is_(None))
        .group_by(instance.c.kind)
        .order_by(instance.c.kind)
    ).all()
    broken = connection.execute(
        select(func.count(), func.max(dag_file.c.parsed_at)).where(dag_file.c.import_error.is_not(None))
    ).one()
    return _digest(line, *instances, broken)


def of_processes(connection: Connection) -> str:
    """Of the silence of the processes that have not ended, in steps of so many seconds: that one falls silent, or
    stands still, changes no row."""
    now = datetime.now(UTC)
    rows = connection.execute(
        select(instance.c.id, instance.c.heartbeat_at, instance.c.progress_at)
        .where(instance.c.ended_at.is_(None))
        .order_by(instance.c.id)
    )
    return _digest(*((row.id, _steps(now - row.heartbeat_at), _steps(now - row.progress_at)) for row in rows))


def _steps(silence: timedelta) -> int:
    return min(_MOST_STEPS, max(0, int(silence.total_seconds() // _STEP_SECONDS)))


def of_dags(connection: Connection, dag_ids: Collection[str]) -> dict[str, str]:
    """dag_id → fingerprint of the DAG, its active runs and their task instances; unknown DAGs are left out."""
    newest = (
        select(func.max(dag_run.c.logical_date))
        .where(dag_run.c.dag_id == dag.c.dag_id)
        .correlate(dag)
        .scalar_subquery()
    )
    found: dict[str, list[Any]] = {
        row.dag_id: [row]
        for row in connection.execute(
            select(
                dag.c.dag_id,
                dag.c.revision,
                dag.c.is_paused,
                dag.c.is_active,
                dag.c.version_hash,
                dag.c.next_run_after,
                newest.label("newest"),
            ).where(dag.c.dag_id.in_(sorted(dag_ids)))
        )
    }
    runs = connection.execute(
        select(dag_run.c.id, dag_run.c.dag_id, dag_run.c.state)
        .where(dag_run.c.dag_id.in_(sorted(found)), dag_run.c.state.in_(ACTIVE))
        .order_by(dag_run.c.id.desc())
    ).all()
    owners: dict[int, str] = {}
    for row in runs:
        parts = found[row.dag_id]
        if len(parts) <= _MOST_RUNS:
            parts.append(row)
            owners[row.id] = row.dag_id
    for row in _task_sums(connection, owners):
        found[owners[row.dag_run_id]].append(row)
    return {dag_id: _digest(*parts) for dag_id, parts in found.items()}


def of_runs(connection: Connection, keys: Collection[RunKey]) -> dict[RunKey, str]:
    """Run → fingerprint of it and its task instances; unknown runs are left out."""
    rows = _runs(connection, keys)
    parts: dict[int, list[Any]] = {row.id: [row] for row in rows}
    for row in _task_sums(connection, parts):
        parts[row.dag_run_id].append(row)
    return {(row.dag_id, row.run_id): _digest(*parts[row.id]) for row in rows}


def of_task_instances(connection: Connection, keys: Collection[TaskKey]) -> dict[TaskKey, str]:
    """Task instance → fingerprint of it and its run; of a run without it (not expanded, or gone) of the run alone."""
    if not keys:
        return {}
    runs = {(row.dag_id, row.run_id): row for row in _runs(connection, {key[:2] for key in keys})}
    each = task_instance.c
    known = [key for key in keys if key[:2] in runs]
    if not known:
        return {}
    rows = connection.execute(
        select(
            each.dag_run_id,
            each.task_id,
            each.map_index,
            each.state,
            each.try_number,
            each.dispatches,
            each.start_date,
            each.end_date,
            each.next_at,
            each.reason,
        ).where(
            # More than is asked for, and cheaper than naming each: a statement of 200 alternatives takes long to plan.
            each.dag_run_id.in_(sorted({runs[key[:2]].id for key in known})),
            each.task_id.in_(sorted({key[2] for key in known})),
            each.map_index.in_(sorted({key[3] for key in known})),
        )
    )
    instances = {(row.dag_run_id, row.task_id, row.map_index): row for row in rows}
    return {key: _digest(runs[key[:2]], instances.get((runs[key[:2]].id, key[2], key[3]))) for key in known}


def _runs(connection: Connection, keys: Iterable[RunKey]) -> list[Any]:
    wanted = sorted(keys)
    if not wanted:
        return []
    each = dag_run.c
    return list(
        connection.execute(
            select(each.id, each.dag_id, each.run_id, each.state, each.end_date, each.version_hash, each.note).where(
                tuple_(each.dag_id, each.run_id).in_(wanted)
            )
        )
    )


def _task_sums(connection: Connection, run_numbers: Collection[int]) -> list[Any]:
    if not run_numbers:
        return []
    each = task_instance.c
    return list(
        connection.execute(
            select(
                each.dag_run_id,
                each.state,
                func.count(),
                func.sum(each.try_number),
                func.sum(each.dispatches),
                func.max(each.start_date),
                func.max(each.end_date),
                func.max(each.next_at),
            )
            .where(each.dag_run_id.in_(sorted(run_numbers)))
            .group_by(each.dag_run_id, each.state)
            .order_by(each.dag_run_id, each.state)
        )
    )


def _digest(*parts: Any) -> str:
    text = "\n".join(repr(tuple(part) if hasattr(part, "_mapping") else part) for part in parts)
    return blake2b(text.encode(), digest_size=9).hexdigest()
