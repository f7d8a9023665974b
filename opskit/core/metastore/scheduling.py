"""The scheduler's queries: leases, reading the runs of a DAG, and the one transaction of a wave.

Protocol: ARCHITECTURE.md, "Leases" and "A wave". Each function is a fixed number of statements, however many rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection, Engine, Row

from opskit.core.dag import lengths, states
from opskit.core.metastore import audit
from opskit.core.metastore.bulk import bulk_insert, bulk_update, guarded_move
from opskit.core.metastore.engine import autocommitted
from opskit.core.metastore.tables import (
    attempt_result,
    dag,
    dag_run,
    dag_version,
    instance,
    pool,
    task_attempt,
    task_instance,
    xcom,
)

SKIP_KEY = "skipmixin_key"
"""XCom key under which a branch's choice is kept, as in Airflow."""
DEFER_KEY = "__deferral__"
"""XCom key under which lies what a deferred task instance waits for, until an attempt of it ends."""

MISSED_KEY = "__missed__"
"""XCom key, with the task_id "", under which lies what of a run was too late and has been told: a list of names."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the metastore shows a scheduler."""

    mine: Mapping[str, tuple[int, int]]
    """dag_id → (lease_epoch, revision) of the DAGs that I own."""
    claimable: Sequence[str]
    """DAGs that are due and that nobody owns, or whose owner is gone."""
    schedulers: int
    """Schedulers alive, this one included."""


def look(connection: Connection, me: str, now: datetime, alive_since: datetime) -> Look:
    """One indexed query on `dag`; a second one only when other schedulers hold leases or DAGs are to be claimed."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.lease_owner, dag.c.lease_epoch, dag.c.revision).where(
            or_(dag.c.lease_owner.is_not(None), dag.c.wake_at <= now)
        )
    ).all()
    mine = {row.dag_id: (row.lease_epoch, row.revision) for row in rows if row.lease_owner == me}
    others = [row for row in rows if row.lease_owner != me]
    if not others:
        return Look(mine, [], 1)
    alive = alive_schedulers(connection, alive_since) | {me}
    claimable = [row.dag_id for row in others if row.lease_owner is None or row.lease_owner not in alive]
    return Look(mine, claimable, len(alive))


def alive_schedulers(connection: Connection, alive_since: datetime) -> set[str]:
    """Ids of the schedulers whose heartbeat is fresh."""
    rows = connection.execute(
        select(instance.c.id).where(
            instance.c.kind == "scheduler", instance.c.ended_at.is_(None), instance.c.heartbeat_at > alive_since
        )
    )
    return {row.id for row in rows}


def claim(connection: Connection, dag_ids: Sequence[str], me: str, alive_since: datetime) -> list[str]:
    """Take the lease of these DAGs, as far as they are free. Rows that another scheduler is taking are skipped."""
    alive = alive_schedulers(connection, alive_since) - {me}
    query = (
        select(dag.c.dag_id, dag.c.lease_owner, dag.c.is_paused, dag.c.unpaused_at)
        .where(dag.c.dag_id.in_(dag_ids))
        .order_by(dag.c.dag_id)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    taken = [row.dag_id for row in rows if row.lease_owner not in alive]
    if taken:
        connection.execute(
            update(dag).where(dag.c.dag_id.in_(taken)).values(lease_owner=me, lease_epoch=dag.c.lease_epoch + 1)
        )
    # Whoever unpaused it without saying when (the facade for Airflow's models): it was just now.
    unsaid = [row.dag_id for row in rows if row.dag_id in taken and row.unpaused_at is None and not row.is_paused]
    if unsaid:
        connection.execute(update(dag).where(dag.c.dag_id.in_(unsaid)).values(unpaused_at=datetime.now(UTC)))
    return taken


def release(connection: Connection, wake_at: Mapping[str, datetime | None], me: str) -> None:
    """Give leases back. `wake_at`: when each DAG should be looked at again. The caller holds the rows' locks."""
    by_time: dict[datetime | None, list[str]] = {}
    for dag_id, at in wake_at.items():
        by_time.setdefault(at, []).append(dag_id)
    for at, dag_ids in by_time.items():
        connection.execute(
            update(dag).where(dag.c.dag_id.in_(dag_ids), dag.c.lease_owner == me).values(lease_owner=None, wake_at=at)
        )


def release_all(connection: Connection, me: str, now: datetime) -> None:
    """Give every lease back at a clean stop; the next scheduler looks at once."""
    connection.execute(update(dag).where(dag.c.lease_owner == me).values(lease_owner=None, wake_at=now))


@dataclass(slots=True)
class DagRows:
    """All that a scheduler reads of one DAG."""

    dag_id: str
    fileloc: str
    version_hash: str
    is_paused: bool
    is_active: bool
    epoch: int
    revision: int
    release: str | None = None
    """Of the DAG folder, from which the version was loaded."""
    runs: list[Row[Any]] = field(default_factory=list)
    """Active DagRuns (queued, running), in the order of their logical dates."""
    instances: dict[int, list[Row[Any]]] = field(default_factory=dict)
    """Task instances of the running ones, by dag_run.id."""
    skipped: dict[int, list[tuple[tuple[str, int], list[str]]]] = field(default_factory=dict)
    """What branches have skipped, by dag_run.id: `((task_id, map_index) of the branch, task_ids)`."""
    deferrals: dict[int, dict[tuple[str, int], Any]] = field(default_factory=dict)
    """What deferred task instances wait for, by dag_run.id and `(task_id, map_index)`."""
    missed: dict[int, list[str]] = field(default_factory=dict)
    """Deadlines and SLAs that have passed and were told, by dag_run.id."""
    last_automated: tuple[datetime, datetime] | None = None
    """Data interval of the newest scheduled or backfill run."""
    unpaused_at: datetime | None = None
    plan: str | None = None
    """JSON, see `dag_plans`."""


def read_dags(connection: Connection, dag_ids: Collection[str]) -> dict[str, DagRows]:
    """The rows of these DAGs with their active runs, in five statements."""
    found = {
        row.dag_id: DagRows(
            row.dag_id,
            row.fileloc,
            row.version_hash,
            row.is_paused,
            row.is_active,
            row.lease_epoch,
            row.revision,
            row.release,
            unpaused_at=row.unpaused_at,
            plan=row.plan,
        )
        for row in connection.execute(select(dag).where(dag.c.dag_id.in_(dag_ids)))
    }
    runs = connection.execute(
        select(dag_run)
        .where(dag_run.c.dag_id.in_(dag_ids), dag_run.c.state.in_([states.QUEUED, states.RUNNING]))
        .order_by(dag_run.c.logical_date, dag_run.c.id)
    ).all()
    by_run = {}
    for row in runs:
        found[row.dag_id].runs.append(row)
        if row.state == states.RUNNING:
            by_run[row.id] = found[row.dag_id]
    if by_run:
        for row in connection.execute(select(task_instance).where(task_instance.c.dag_run_id.in_(list(by_run)))):
            by_run[row.dag_run_id].instances.setdefault(row.dag_run_id, []).append(row)
        for row in connection.execute(
            select(xcom.c.dag_run_id, xcom.c.task_id, xcom.c.map_index, xcom.c.key, xcom.c.value).where(
                xcom.c.dag_run_id.in_(list(by_run)), xcom.c.key.in_([SKIP_KEY, DEFER_KEY, MISSED_KEY])
            )
        ):
            if row.key == MISSED_KEY:
                by_run[row.dag_run_id].missed[row.dag_run_id] = json.loads(row.value)
                continue
            if row.key == DEFER_KEY:
                deferrals = by_run[row.dag_run_id].deferrals.setdefault(row.dag_run_id, {})
                deferrals[row.task_id, row.map_index] = json.loads(row.value)
                continue
            skipped = by_run[row.dag_run_id].skipped.setdefault(row.dag_run_id, [])
            skipped.append(((row.task_id, row.map_index), json.loads(row.value).get("skipped", [])))
    newest = (
        select(dag_run.c.dag_id, func.max(dag_run.c.logical_date).label("at"))
        .where(dag_run.c.dag_id.in_(dag_ids), dag_run.c.run_type.in_(["scheduled", "backfill"]))
        .group_by(dag_run.c.dag_id)
        .subquery()
    )
    for row in connection.execute(
        select(dag_run.c.dag_id, dag_run.c.data_interval_start, dag_run.c.data_interval_end).join(
            newest, and_(dag_run.c.dag_id == newest.c.dag_id, dag_run.c.logical_date == newest.c.at)
        )
    ):
        found[row.dag_id].last_automated = (row.data_interval_start, row.data_interval_end)
    return found


def average_seconds(connection: Connection, dag_id: str, most: int, least: int) -> float | None:
    """How long the newest successful runs of a DAG took on average; None while there are fewer than `least`."""
    rows = connection.execute(
        select(dag_run.c.start_date, dag_run.c.end_date)
        .where(dag_run.c.dag_id == dag_id, dag_run.c.state == states.SUCCESS)
        .order_by(dag_run.c.logical_date.desc())
        .limit(most)
    )
    took = [(row.end_date - row.start_date).total_seconds() for row in rows if row.start_date and row.end_date]
    return sum(took) / len(took) if took and len(took) >= least else None


def read_versions(connection: Connection, hashes: Collection[str]) -> dict[str, str]:
    """JSON text of DAG versions, by hash."""
    rows = connection.execute(select(dag_version.c.hash, dag_version.c.data).where(dag_version.c.hash.in_(hashes)))
    return {row.hash: row.data for row in rows}


def previous_states(
    connection: Connection, dag_id: str, before: datetime, *, scheduled_only: bool
) -> tuple[int, dict[str, str | None]] | None:
    """`(dag_run.id, task_id → state)` of the newest run before a logical date; None when there is none."""
    query = select(dag_run.c.id).where(dag_run.c.dag_id == dag_id, dag_run.c.logical_date < before)
    if scheduled_only:
        query = query.where(dag_run.c.run_type == "scheduled")
    row = connection.execute(query.order_by(dag_run.c.logical_date.desc()).limit(1)).first()
    if row is None:
        return None
    rows = connection.execute(
        select(task_instance.c.task_id, task_instance.c.state).where(task_instance.c.dag_run_id == row.id)
    )
    found: dict[str, str | None] = {}
    for item in rows:
        # Of a mapped task, the instance that holds others back counts.
        if item.state not in (states.SUCCESS, states.SKIPPED, states.REMOVED) or item.task_id not in found:
            found[item.task_id] = states.SUCCESS if item.state == states.REMOVED else item.state
    return row.id, found


def xcom_lengths(
    connection: Connection, run_ids: Sequence[int], sources: Collection[tuple[str, str]]
) -> list[tuple[int, str, int, str, int]]:
    """`(dag_run_id, task_id, map_index, key, length)` of the XComs of these runs with these `(task_id, key)`; one that
    has no length is left out, or has 0 where it is one of a mapped task."""
    rows = connection.execute(
        select(xcom.c.dag_run_id, xcom.c.task_id, xcom.c.map_index, xcom.c.key, xcom.c.value).where(
            xcom.c.dag_run_id.in_(run_ids),
            xcom.c.task_id.in_({task_id for task_id, _ in sources}),
            xcom.c.key.in_({key for _, key in sources}),
        )
    )
    found = []
    for row in rows:
        length = lengths.of_value(json.loads(row.value))
        if (row.task_id, row.key) in sources and (length is not None or row.map_index >= 0):
            found.append((row.dag_run_id, row.task_id, row.map_index, row.key, length or 0))
    return found


def lock_dags(connection: Connection, dag_ids: Iterable[str]) -> dict[str, tuple[str | None, int, int]]:
    """Lock the rows of these DAGs for this transaction: dag_id → (lease_owner, lease_epoch, revision)."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.lease_owner, dag.c.lease_epoch, dag.c.revision)
        .where(dag.c.dag_id.in_(list(dag_ids)))
        .order_by(dag.c.dag_id)
        .with_for_update()
    )
    return {row.dag_id: (row.lease_owner, row.lease_epoch, row.revision) for row in rows}


def lock_pools(connection: Connection, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Lock pools for this transaction: name → (slots, used_slots). Unknown ones are missing."""
    rows = connection.execute(
        select(pool.c.pool, pool.c.slots, pool.c.used_slots)
        .where(pool.c.pool.in_(list(names)))
        .order_by(pool.c.pool)
        .with_for_update()
    )
    return {row.pool: (row.slots, row.used_slots) for row in rows}


def add_used_slots(connection: Connection, deltas: Mapping[str, int]) -> None:
    """Raise or lower `used_slots`; only pools whose sum changes cost a statement."""
    for name in sorted(deltas):
        if deltas[name]:
            connection.execute(
                update(pool).where(pool.c.pool == name).values(used_slots=pool.c.used_slots + deltas[name])
            )


def read_pools(connection: Connection) -> dict[str, tuple[int, int]]:
    """Name → (slots, used_slots) of all pools."""
    return {row.pool: (row.slots, row.used_slots) for row in connection.execute(select(pool))}


def recount_pools(connection: Connection) -> None:
    """Count the used slots anew from the task instances in flight. Waits for waves that are under way."""
    names = connection.execute(select(pool.c.pool).order_by(pool.c.pool).with_for_update()).scalars().all()
    counted = connection.execute(
        select(task_instance.c.pool, func.sum(task_instance.c.pool_slots).label("used"))
        .where(task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
        .group_by(task_instance.c.pool)
    )
    used = {row.pool: row.used for row in counted}
    for name in names:
        connection.execute(update(pool).where(pool.c.pool == name).values(used_slots=int(used.get(name, 0))))


def insert_run(connection: Connection, values: Mapping[str, Any]) -> int:
    """A new DagRun; its id."""
    result = connection.execute(insert(dag_run).values(**values))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def run_exists(connection: Connection, dag_id: str, logical_date: datetime, run_id: str) -> bool:
    """Whether a run of this logical date or this run_id is there already, whoever made it."""
    row = connection.execute(
        select(dag_run.c.id).where(
            dag_run.c.dag_id == dag_id, or_(dag_run.c.logical_date == logical_date, dag_run.c.run_id == run_id)
        )
    ).first()
    return row is not None


def update_runs(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Rows of `(id, state, start_date, end_date, version_hash)` of DagRuns."""
    bulk_update(connection, dag_run, ["id"], ["state", "start_date", "end_date", "version_hash"], rows)


def has_failed_in_a_row(connection: Connection, dag_id: str, times: int) -> bool:
    """Whether the newest `times` runs that have ended failed."""
    newest = connection.execute(
        select(dag_run.c.state)
        .where(dag_run.c.dag_id == dag_id, dag_run.c.state.in_([states.SUCCESS, states.FAILED]))
        .order_by(dag_run.c.logical_date.desc(), dag_run.c.id.desc())
        .limit(times)
    ).scalars()
    return list(newest) == [states.FAILED] * times


def pause(connection: Connection, dag_id: str, failures: int, now: datetime) -> None:
    """Pause a DAG because of its failures; the caller owns it, and holds the lock of its row."""
    connection.execute(update(dag).where(dag.c.dag_id == dag_id).values(is_paused=True))
    why = f"{failures} runs have failed in a row (max_consecutive_failed_dag_runs)"
    audit.write(connection, "dags pause", now, owner="scheduler", dag_id=dag_id, extra={"reason": why})


INSTANCE_KEY = ["dag_run_id", "task_id", "map_index"]
INSTANCE_COLUMNS = [
    "state", "try_number", "dispatches", "queued_at", "start_date", "end_date", "next_at", "first_poke_at",
    "worker_id", "hostname", "pid", "reason",
]  # fmt: skip
NEW_INSTANCE_COLUMNS = ["max_tries", "operator", "pool", "pool_slots", "priority_weight"]
ATTEMPT_COLUMNS = ["try_number", "state", "start_date", "end_date", "hostname", "pid", "reason"]
XCOM_COLUMNS = ["key", "value", "created_at"]


def insert_instances(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """New task instances: rows of INSTANCE_KEY, INSTANCE_COLUMNS and NEW_INSTANCE_COLUMNS."""
    bulk_insert(connection, task_instance, INSTANCE_KEY + INSTANCE_COLUMNS + NEW_INSTANCE_COLUMNS, rows)


def update_instances(connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
    """Write task instances, rows of INSTANCE_KEY and INSTANCE_COLUMNS; how many were found."""
    return bulk_update(connection, task_instance, INSTANCE_KEY, INSTANCE_COLUMNS, rows)


def delete_instances(connection: Connection, keys: Sequence[tuple[int, str, int]]) -> None:
    """Rows `(dag_run_id, task_id, map_index)` that stood for the instances of a mapped task."""
    for run in sorted({key[0] for key in keys}):
        connection.execute(
            delete(task_instance).where(
                task_instance.c.dag_run_id == run,
                task_instance.c.map_index == -1,
                task_instance.c.task_id.in_([key[1] for key in keys if key[0] == run]),
            )
        )


def moves_in_one_statement(engine: Engine) -> bool:
    """Whether `move_instances` works here."""
    return engine.dialect.name == "postgresql"


_LEASE = "SELECT 1 FROM dag WHERE dag_id = %s AND lease_owner = %s AND lease_epoch = %s AND revision = %s FOR UPDATE"


def move_instances(
    engine: Engine,
    me: str,
    dag_id: str,
    epoch: int,
    revision: int,
    rows: Sequence[Sequence[Any]],
    xcoms: Sequence[Sequence[Any]],
) -> int:
    """`update_instances` and `insert_xcoms` in one statement that commits itself, under the lock of the DAG's row and
    only while lease and revision are these; how many task instances were written. 0: lease or revision has changed.
    """
    with autocommitted(engine) as connection:
        return guarded_move(
            connection,
            _LEASE,
            (dag_id, me, epoch, revision),
            task_instance,
            INSTANCE_KEY,
            INSTANCE_COLUMNS,
            rows,
            xcom,
            INSTANCE_KEY + XCOM_COLUMNS,
            xcoms,
        )


def insert_attempts(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Tries that another try supersedes: rows of INSTANCE_KEY and ATTEMPT_COLUMNS."""
    bulk_insert(connection, task_attempt, INSTANCE_KEY + ATTEMPT_COLUMNS, rows, on_conflict="update")


def insert_xcoms(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """XComs: rows of INSTANCE_KEY and XCOM_COLUMNS."""
    bulk_insert(connection, xcom, INSTANCE_KEY + XCOM_COLUMNS, rows, on_conflict="update")


def delete_xcoms(connection: Connection, keys: Sequence[tuple[int, str, int]], name: str | None = None) -> None:
    """Forget the XComs of task instances `(dag_run_id, task_id, map_index)`: all, or those with this key."""
    for run in sorted({key[0] for key in keys}):
        connection.execute(
            delete(xcom).where(
                xcom.c.dag_run_id == run,
                or_(*[and_(xcom.c.task_id == key[1], xcom.c.map_index == key[2]) for key in keys if key[0] == run]),
                *([xcom.c.key == name] if name is not None else []),
            )
        )


def set_next_run(connection: Connection, dag_id: str, values: Mapping[str, datetime | None]) -> None:
    """Set next_logical_date, next_interval_start, next_interval_end, next_run_after: for display and for waking."""
    connection.execute(update(dag).where(dag.c.dag_id == dag_id).values(**values))


def take_results(connection: Connection, dag_ids: Collection[str]) -> list[tuple[int, str]]:
    """`(id, JSON)` of results that workers left for these DAGs."""
    rows = connection.execute(
        select(attempt_result.c.id, attempt_result.c.payload)
        .where(attempt_result.c.dag_id.in_(list(dag_ids)))
        .order_by(attempt_result.c.id)
    )
    return [(row.id, row.payload) for row in rows]


def delete_results(connection: Connection, ids: Collection[int]) -> None:
    connection.execute(delete(attempt_result).where(attempt_result.c.id.in_(list(ids))))


def live_workers(connection: Connection, alive_since: datetime) -> set[str]:
    """Ids of the workers whose heartbeat is fresh."""
    rows = connection.execute(
        select(instance.c.id).where(
            instance.c.kind == "worker", instance.c.ended_at.is_(None), instance.c.heartbeat_at > alive_since
        )
    )
    return {row.id for row in rows}
