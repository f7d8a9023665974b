"""Which processes of opskit run, where, and whether they get on: the `instance` table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from opskit import __version__
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import instance

__all__ = ["Connection", "Instance", "beat", "end", "end_dead_of_this_host", "list_instances", "register"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One row. `pid_started` is in seconds since boot; `progress` counts loops that ended well."""

    id: str
    kind: str
    hostname: str
    home: str
    pid: int
    pid_started: float
    version: str
    started_at: datetime
    heartbeat_at: datetime
    progress: int
    progress_at: datetime
    ended_at: datetime | None
    detail: dict[str, Any]


def register(
    connection: Connection,
    *,
    instance_id: str,
    kind: str,
    hostname: str,
    home: str,
    pid: int,
    pid_started: float,
    now: datetime,
    detail: str = "{}",
) -> None:
    """A process is alive. `kind`: scheduler, worker, dag_processor, gateway.

    A row that is there goes on, ended or not: it was taken for dead, and is not. A worker has no connection of its own;
    its gateway and each scheduler that meets it register it, at times in the same moment.
    """
    values = {
        "id": instance_id,
        "kind": kind,
        "hostname": hostname,
        "home": home,
        "pid": pid,
        "pid_started": pid_started,
        "version": __version__,
        "started_at": now,
        "heartbeat_at": now,
        "progress": 0,
        "progress_at": now,
        "ended_at": None,
        "detail": detail,
    }
    there = connection.execute(
        update(instance).where(instance.c.id == instance_id).values(heartbeat_at=now, ended_at=None)
    )
    if there.rowcount == 0:
        bulk_insert(connection, instance, list(values), [list(values.values())], on_conflict="ignore")


def beat(
    connection: Connection,
    instance_id: str,
    now: datetime,
    progress: int | None = None,
    progress_at: datetime | None = None,
    detail: str | None = None,
) -> bool:
    """It is alive, and (unless None) has come so far; whether its row was there and not ended. `detail` is JSON."""
    values: dict[str, Any] = {"heartbeat_at": now}
    if progress is not None:
        values["progress"] = progress
    if progress_at is not None:
        values["progress_at"] = progress_at
    if detail is not None:
        values["detail"] = detail
    done = connection.execute(
        update(instance).where(instance.c.id == instance_id, instance.c.ended_at.is_(None)).values(**values)
    )
    return done.rowcount == 1


def end(connection: Connection, instance_id: str, now: datetime) -> bool:
    """It has stopped; whether that was news."""
    done = connection.execute(
        update(instance).where(instance.c.id == instance_id, instance.c.ended_at.is_(None)).values(ended_at=now)
    )
    return done.rowcount == 1


def end_dead_of_this_host(
    connection: Connection, hostname: str, is_alive: Callable[[int, float], bool], now: datetime
) -> list[Instance]:
    """End the instances of this host whose process is gone; which they were.

    `is_alive(pid, pid_started)` is asked on this host, so it must be the one named.
    """
    dead = [
        one
        for one in list_instances(connection, living_only=True)
        if one.hostname == hostname and not is_alive(one.pid, one.pid_started)
    ]
    if dead:
        connection.execute(
            update(instance)
            .where(instance.c.id.in_([one.id for one in dead]), instance.c.ended_at.is_(None))
            .values(ended_at=now)
        )
    return dead


def list_instances(
    connection: Connection,
    *,
    kind: str | None = None,
    living_only: bool = False,
    alive_since: datetime | None = None,
) -> list[Instance]:
    """Instances, the newest first. `living_only`: not ended; `alive_since`: with a heartbeat after it."""
    query = select(instance).order_by(instance.c.started_at.desc(), instance.c.id)
    if kind is not None:
        query = query.where(instance.c.kind == kind)
    if living_only:
        query = query.where(instance.c.ended_at.is_(None))
    if alive_since is not None:
        query = query.where(instance.c.heartbeat_at > alive_since)
    return [Instance(**{**row._mapping, "detail": json.loads(row.detail)}) for row in connection.execute(query)]
