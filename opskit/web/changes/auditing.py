"""The audit line of a change: who made it, and by which face."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opskit.core.metastore import audit
from opskit.core.metastore.engine import Connection
from opskit.web.identity import Who


def write(
    connection: Connection,
    who: Who,
    event: str,
    now: datetime,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    **extra: Any,
) -> None:
    """In the transaction of the change. `extra` must hold no secret."""
    audit.write(
        connection,
        event,
        now,
        owner=who.username,
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        extra={"by": "api" if who.by in ("basic", "token") else "web", **extra},
    )
