"""What people write on task instances."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import task_instance_note

Key = tuple[int, str, int]
"""dag_run.id, task_id, map_index."""


def notes_of(connection: Connection, keys: Collection[Key]) -> dict[Key, str]:
    """The notes of those task instances that have one."""
    table = task_instance_note.c
    if not keys:
        return {}
    query = select(table.dag_run_id, table.task_id, table.map_index, table.note).where(
        table.dag_run_id.in_(sorted({key[0] for key in keys}))
    )
    found = {(row.dag_run_id, row.task_id, row.map_index): str(row.note) for row in connection.execute(query)}
    return {key: found[key] for key in found.keys() & set(keys)}


def set_note(connection: Connection, key: Key, note: str | None, username: str, now: datetime) -> None:
    """Write a note in the place of an older one; None removes it. The caller knows that the task instance is there."""
    table = task_instance_note
    if note is None:
        connection.execute(
            delete(table).where(table.c.dag_run_id == key[0], table.c.task_id == key[1], table.c.map_index == key[2])
        )
        return
    columns = ["dag_run_id", "task_id", "map_index", "note", "username", "at"]
    bulk_insert(connection, table, columns, [(*key, note, username[:250], now)], on_conflict="update")
