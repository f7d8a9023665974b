"""The audit log: one line per change that a person or a verb made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.audit_line import OWNER_LENGTH, encoded, whoami
from opskit.core.metastore.tables import log


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One line. `event` is a verb with its noun: `dags trigger`, `connections add`."""

    id: int
    at: datetime
    owner: str
    event: str
    dag_id: str | None
    run_id: str | None
    task_id: str | None
    extra: dict[str, Any]


def write(
    connection: Connection,
    event: str,
    now: datetime,
    *,
    owner: str | None = None,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a line in the transaction of the change itself. `owner` None: who runs this process.

    Values of `extra` whose names look secret are masked; other secrets are the caller's to leave out.
    """
    connection.execute(
        insert(log).values(
            at=now,
            owner=(owner or whoami())[:OWNER_LENGTH],
            event=event,
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            extra=encoded(extra or {}),
        )
    )


def read(
    connection: Connection, *, event: str | None = None, dag_id: str | None = None, limit: int = 100
) -> list[AuditLine]:
    """Lines, the newest first."""
    query = select(log).order_by(log.c.at.desc(), log.c.id.desc()).limit(limit)
    if event is not None:
        query = query.where(log.c.event == event)
    if dag_id is not None:
        query = query.where(log.c.dag_id == dag_id)
    return [AuditLine(**{**row._mapping, "extra": json.loads(row.extra)}) for row in connection.execute(query)]
