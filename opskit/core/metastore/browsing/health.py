"""How the processes of a cluster are, judged by what they wrote into the metastore: heartbeat and progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import instance

HEALTHY, UNHEALTHY = "healthy", "unhealthy"
_KINDS = ("scheduler", "dag_processor", "worker", "gateway", "webserver", "triggerer")
_WITHOUT_PROGRESS = ("worker", "gateway")
"""They have no loop that could be stuck: others see whether they live."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How old a heartbeat, and a sign of progress, may be."""

    heartbeat: timedelta
    slow: timedelta
    stuck: timedelta


@dataclass(frozen=True, slots=True)
class InstanceHealth:
    """One process. `state`: running, slow, stuck (it lives, and gets nothing done), silent (no heartbeat), ended."""

    id: str
    kind: str
    hostname: str
    pid: int
    version: str
    state: str
    started_at: datetime
    heartbeat_at: datetime
    progress: int
    progress_at: datetime
    ended_at: datetime | None

    @property
    def is_healthy(self) -> bool:
        return self.state in ("running", "slow")

    def as_dict(self) -> dict[str, Any]:
        """Field names to values, times as datetimes."""
        return asdict(self)


def instances(connection: Connection, now: datetime, limits: Limits) -> list[InstanceHealth]:
    """Every instance that has not ended, and the last one of each kind of which none is left; by kind and start."""
    newest = select(instance.c.kind, func.max(instance.c.heartbeat_at).label("at")).group_by(instance.c.kind).subquery()
    query = (
        select(instance)
        .join(newest, newest.c.kind == instance.c.kind)
        .where(
            instance.c.kind.in_(_KINDS),
            or_(instance.c.ended_at.is_(None), and_(instance.c.heartbeat_at == newest.c.at)),
        )
        .order_by(instance.c.kind, instance.c.started_at, instance.c.id)
    )
    found = [_health(row, now, limits) for row in connection.execute(query)]
    living = {one.kind for one in found if one.ended_at is None}
    return [one for one in found if one.ended_at is None or one.kind not in living]


def summary(found: Iterable[InstanceHealth], kind: str) -> tuple[str | None, datetime | None]:
    """Of a kind: healthy when one instance is; None when there has been none. With the newest heartbeat."""
    mine = [one for one in found if one.kind == kind]
    if not mine:
        return None, None
    status = HEALTHY if any(one.is_healthy for one in mine) else UNHEALTHY
    return status, max(one.heartbeat_at for one in mine)


def _health(row: Any, now: datetime, limits: Limits) -> InstanceHealth:
    idle = now - row.progress_at
    if row.ended_at is not None:
        state = "ended"
    elif now - row.heartbeat_at >= limits.heartbeat:
        state = "silent"
    elif row.kind in _WITHOUT_PROGRESS or idle < limits.slow:
        state = "running"
    else:
        state = "slow" if idle < limits.stuck else "stuck"
    return InstanceHealth(
        id=row.id,
        kind=row.kind,
        hostname=row.hostname,
        pid=row.pid,
        version=row.version,
        state=state,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        progress=row.progress,
        progress_at=row.progress_at,
        ended_at=row.ended_at,
    )
