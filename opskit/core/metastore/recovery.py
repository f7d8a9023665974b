"""Makes a restored metastore fit for use, and keeps the small set: connections, variables, pools, pause states."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, case, create_engine, insert, literal, select, update
from sqlalchemy.engine import Connection, Engine

from opskit.core.dag import states
from opskit.core.metastore.contents import Secrets
from opskit.core.metastore.engine import reading
from opskit.core.metastore.schema import current_revision
from opskit.core.metastore.tables import (
    attempt_result,
    connection,
    dag,
    instance,
    metadata,
    pool,
    task_instance,
    variable,
)
from opskit.errors import MetastoreUnavailable, OpskitError, VerificationFailed

REASON = "restored from a backup: the attempt was {state} when the backup was taken"
FORMAT = 1
"""Of the small set."""
_TABLES: dict[str, tuple[Table, str, tuple[str, ...]]] = {
    "connections": (
        connection,
        "conn_id",
        ("conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra", "is_encrypted"),
    ),
    "variables": (variable, "key", ("key", "val", "is_encrypted", "description")),
    "pools": (pool, "pool", ("pool", "slots", "description")),
    "pauses": (dag, "dag_id", ("dag_id", "is_paused")),
}
_SECRETS = {"connections": ("password", "extra"), "variables": ("val",)}
_LEASE_GAP = 1_000
"""Epochs that a lost future may have used since the backup."""


def small_set(rows: Callable[[str], list[dict[str, Any]]]) -> dict[str, Any]:
    """The small set as plain JSON values, ordered. Encrypted values stay so. `rows(table)` gives a table's rows."""
    data: dict[str, Any] = {"format": FORMAT}
    for name, (table, key, columns) in _TABLES.items():
        data[name] = [
            {column: bool(row[column]) if column.startswith("is_") else row[column] for column in columns}
            for row in sorted(rows(table.name), key=lambda row: str(row[key]))
        ]
    return data


def read_small_set(source: Connection) -> dict[str, Any]:
    """The small set of an open metastore."""
    tables = {table.name: table for table, _, _ in _TABLES.values()}
    return small_set(lambda name: [dict(row._mapping) for row in source.execute(select(tables[name]))])


def check_secrets(data: Mapping[str, Any], decrypt: Callable[[str, str], str] | None) -> Secrets:
    """Decrypt every secret of a small set. `decrypt(value, what)` raises OpskitError for one that its keys can't read;
    None: there is no key."""
    total, unreadable = 0, []
    for name, columns in _SECRETS.items():
        key = _TABLES[name][1]
        for row in data[name]:
            for column in columns:
                if not row["is_encrypted"] or not row[column]:
                    continue
                total += 1
                what = f"{name.removesuffix('s')} {row[key]}: {column}"
                try:
                    if decrypt is None:
                        raise OpskitError("there is no key")
                    decrypt(row[column], what)
                except OpskitError:
                    unreadable.append(what)
    return Secrets(total, tuple(unreadable))


def apply_small_set(target: Connection, data: Mapping[str, Any], now: datetime) -> dict[str, int]:
    """Write a small set into a metastore: how many rows of each kind are new or changed. Nothing is deleted.

    Pause states are set for DAGs that exist.
    """
    if data.get("format") != FORMAT:
        raise VerificationFailed(f"the small set has format {data.get('format')!r}, this opskit reads {FORMAT}")
    changed = {}
    for name, (table, key, columns) in _TABLES.items():
        present = {
            row[0]: dict(zip(columns, row, strict=True))
            for row in target.execute(select(*[table.c[column] for column in columns]))
        }
        count = 0
        for row in data[name]:
            values = {column: row[column] for column in columns}
            before = present.get(row[key])
            if before == values or (before is None and table is dag):
                continue
            count += 1
            if before is None:
                target.execute(insert(table).values(**values))
                continue
            if table is dag:
                values |= {"revision": dag.c.revision + 1, "wake_at": now}
            target.execute(update(table).where(table.c[key] == row[key]).values(**values))
        changed[name] = count
    return changed


def rehearse_small_set(data: Mapping[str, Any]) -> dict[str, Any]:
    """Write a small set into an empty database in memory, and read it again."""
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as target:
            metadata.create_all(target)
            for row in data["pauses"]:
                placeholder = {"fileloc": "", "is_active": False, "version_hash": ""}
                target.execute(insert(dag).values(**placeholder, **row))
            apply_small_set(target, data, datetime.now(UTC))
            return read_small_set(target)
    finally:
        engine.dispose()


def revision_of(engine: Engine) -> str | None:
    with reading(engine) as source:
        return current_revision(source)


def living_instances(engine: Engine, now: datetime, threshold_seconds: float) -> list[str]:
    """Processes that write to this metastore now, by their heartbeats; empty when it has no such table."""
    try:
        with reading(engine) as source:
            rows = source.execute(
                select(instance.c.kind, instance.c.hostname, instance.c.pid, instance.c.heartbeat_at).where(
                    instance.c.ended_at.is_(None),
                    instance.c.heartbeat_at > now - timedelta(seconds=threshold_seconds),
                )
            ).all()
    except MetastoreUnavailable:
        return []  # there is none yet, or nobody can use it
    return [
        f"{row.kind} (pid {row.pid} on {row.hostname}, heartbeat {(now - row.heartbeat_at).total_seconds():.0f} s ago)"
        for row in rows
    ]


def lease_epochs(engine: Engine) -> dict[str, int]:
    """Lease epoch by dag_id; empty when the metastore can't be read."""
    try:
        with reading(engine) as source:
            return {row.dag_id: int(row.lease_epoch) for row in source.execute(select(dag.c.dag_id, dag.c.lease_epoch))}
    except MetastoreUnavailable:
        return {}


def make_consistent(target: Connection, now: datetime, epochs: Mapping[str, int]) -> dict[str, int]:
    """Let nothing in a restored metastore depend on processes of the world it was taken from. Counts of what changed.

    An attempt that was running is lost, as with a lost worker: it is retried at once when its task has retries left,
    else failed, with the reason. One that was queued may not have begun: it is tried again and costs no retry. Those
    whose result waits in attempt_result are left alone: the result will end them. Instances are ended, leases
    given back with epochs that no process of the old world can have (`epochs`: the last known ones), every DAG is
    looked at again, and no pool slot is used.
    """
    waiting = {
        tuple(json.loads(payload)["key"][:3]) for payload in target.execute(select(attempt_result.c.payload)).scalars()
    }
    lost = {"retried": 0, "failed": 0}
    found = target.execute(
        select(
            task_instance.c.dag_run_id,
            task_instance.c.task_id,
            task_instance.c.map_index,
            task_instance.c.state,
            task_instance.c.try_number,
            task_instance.c.max_tries,
        ).where(task_instance.c.state.in_([states.QUEUED, states.RUNNING, states.RESTARTING]))
    ).all()
    for row in found:
        if (row.dag_run_id, row.task_id, row.map_index) in waiting:
            continue
        begun = row.state != states.QUEUED
        retry = not begun or row.try_number <= row.max_tries
        lost["retried" if retry else "failed"] += 1
        target.execute(
            update(task_instance)
            .where(
                task_instance.c.dag_run_id == row.dag_run_id,
                task_instance.c.task_id == row.task_id,
                task_instance.c.map_index == row.map_index,
            )
            .values(
                state=states.UP_FOR_RETRY if retry else states.FAILED,
                next_at=now if retry else None,
                end_date=now,
                max_tries=row.max_tries if begun else row.max_tries + 1,
                worker_id=None,
                reason=REASON.format(state=row.state),
            )
        )
    ended = target.execute(update(instance).where(instance.c.ended_at.is_(None)).values(ended_at=now)).rowcount
    known = {dag_id: epoch for dag_id, epoch in epochs.items() if epoch}
    last: Any = case(known, value=dag.c.dag_id, else_=literal(0)) if known else literal(0)
    highest = case((dag.c.lease_epoch > last, dag.c.lease_epoch), else_=last)
    dags = target.execute(
        update(dag).values(lease_owner=None, lease_epoch=highest + _LEASE_GAP, revision=dag.c.revision + 1, wake_at=now)
    ).rowcount
    target.execute(update(pool).values(used_slots=0))
    return {
        "attempts_retried": lost["retried"],
        "attempts_failed": lost["failed"],
        "instances_ended": int(ended),
        "dags_released": int(dags),
    }
