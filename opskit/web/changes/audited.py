"""Writes the audit line of a change that a person made by page or API, in the transaction of the change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import audit
from opskit.core.metastore.engine import Connection
from opskit.web.identity import Who


def write(
    connection: Connection,
    who: Who,
    event: str,
    *,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    **extra: Any,
) -> None:
    """`event` is named as on the command line. `extra` holds no secrets; `by` says which way the change came."""
    audit.write(
        connection,
        event,
        datetime.now(UTC),
        owner=who.username or "nobody",
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        extra={**extra, "by": "web" if who.by in ("web", "proxy", "public") else "api"},
    )
