"""Makes a restored metastore fit for use: nothing in it depends on the world that it was taken from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, literal, select, update
from sqlalchemy.engine import Connection, Engine

from opskit.core.dag import states
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.engine import reading
from opskit.core.metastore.questions import still_asks
from opskit.core.metastore.schema import current_revision
from opskit.core.metastore.tables import attempt_result, dag, held_dag, instance, pool, task_instance, web_session
from opskit.errors import MetastoreUnavailable

REASON = "restored from a backup: the attempt was {state} when the backup was taken"
_LEASE_GAP = 1_000
"""Epochs that a lost future may have used since the backup."""


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


@dataclass(frozen=True, slots=True)
class KnownDag:
    """What the replaced metastore knew of a DAG, and the restored one must respect."""

    lease_epoch: int
    is_paused: bool
    held: tuple[str, datetime] | None = None
    """Who paused it together with all others, and when: it is to be resumed with them."""


def known_dags(engine: Engine) -> dict[str, KnownDag]:
    """By dag_id; empty when the metastore can't be read."""
    try:
        with reading(engine) as source:
            rows = source.execute(select(dag.c.dag_id, dag.c.lease_epoch, dag.c.is_paused)).all()
    except MetastoreUnavailable:
        return {}
    held = _held(engine)
    return {row.dag_id: KnownDag(int(row.lease_epoch), bool(row.is_paused), held.get(row.dag_id)) for row in rows}


def _held(engine: Engine) -> dict[str, tuple[str, datetime]]:
    try:
        with reading(engine) as source:
            return {row.dag_id: (row.owner, row.at) for row in source.execute(select(held_dag))}
    except MetastoreUnavailable:
        return {}  # a schema of before there was such a thing


def make_consistent(
    target: Connection, now: datetime, known: Mapping[str, KnownDag], *, unpause: bool = False
) -> dict[str, int]:
    """Let nothing in a restored metastore depend on processes of the world it was taken from. Counts of what changed.

    An attempt that was running is lost, as with a lost worker: it is retried at once when its task has retries left,
    else failed, with the reason. One that was queued may not have begun, and a deferred one waits for a trigger that is
    gone: they are tried again and it costs no retry. One that asks a person goes on asking. Those whose result waits in
    attempt_result are left alone: the result will end them. Instances are ended, leases given back with epochs that no
    process of the old world can have (`known`: what the replaced metastore last knew), every DAG is looked at again,
    and no pool slot is used. A DAG that is paused in the replaced metastore stays so unless `unpause`; and those that
    were paused all at once can still be resumed.
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
        ).where(
            task_instance.c.state.in_([states.QUEUED, states.RUNNING, states.RESTARTING, states.DEFERRED]),
            ~still_asks(),
        )
    ).all()
    for row in found:
        if (row.dag_run_id, row.task_id, row.map_index) in waiting:
            continue
        begun = row.state not in (states.QUEUED, states.DEFERRED)
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
    epochs = {dag_id: one.lease_epoch for dag_id, one in known.items() if one.lease_epoch}
    last: Any = case(epochs, value=dag.c.dag_id, else_=literal(0)) if epochs else literal(0)
    highest = case((dag.c.lease_epoch > last, dag.c.lease_epoch), else_=last)
    dags = target.execute(
        update(dag).values(lease_owner=None, lease_epoch=highest + _LEASE_GAP, revision=dag.c.revision + 1, wake_at=now)
    ).rowcount
    target.execute(update(pool).values(used_slots=0))
    target.execute(delete(web_session))  # among them may be some that people have ended since
    paused = 0
    if not unpause:
        names = sorted(dag_id for dag_id, one in known.items() if one.is_paused)
        for start in range(0, len(names), 500):
            still = dag.c.dag_id.in_(names[start : start + 500])
            paused += target.execute(
                update(dag).where(still, dag.c.is_paused.is_(False)).values(is_paused=True)
            ).rowcount
        if known:
            _hold(target, {} if unpause else known)
    return {
        "attempts_retried": lost["retried"],
        "attempts_failed": lost["failed"],
        "instances_ended": int(ended),
        "dags_released": int(dags),
        "dags_kept_paused": int(paused),
    }


def _hold(target: Connection, known: Mapping[str, KnownDag]) -> None:
    target.execute(delete(held_dag))
    there = set(target.execute(select(dag.c.dag_id)).scalars())
    rows = [[dag_id, *one.held] for dag_id, one in known.items() if one.held and dag_id in there]
    bulk_insert(target, held_dag, ["dag_id", "owner", "at"], rows)
