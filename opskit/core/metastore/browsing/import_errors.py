"""DAG files that can't be loaded, for somebody who may not see all DAGs."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.tables import dag_file
from opskit.errors import NotFound

_DIGITS = 13
"""Of the hash of a path, in the number that stands for it: what a JSON number holds in every language."""
HIDDEN = "hidden: it may be read by whoever may read all DAGs of the file"


@dataclass(frozen=True, slots=True)
class FileError:
    """`id` stands for the path: it is the same as long as the file keeps its name."""

    id: int
    path: str
    at: datetime
    error: str


def import_errors(connection: Connection, readable: Set[str] | None, window: Window) -> tuple[list[FileError], int]:
    """Orders: import_error_id, timestamp, filename. `readable`: DAGs that may be seen, None: all. Of a file with none
    of them nothing is said; with some, not what the error is."""
    found = [
        one
        for row in connection.execute(select(dag_file).where(dag_file.c.import_error.is_not(None)))
        if (one := _seen(row, readable)) is not None
    ]
    found.sort(key=lambda one: (_KEYS[window.order or "import_error_id"](one), one.id), reverse=window.descending)
    return window.of(found), len(found)


def import_error(connection: Connection, readable: Set[str] | None, number: int) -> FileError:
    """One. NotFound, also when none of the DAGs of the file may be seen."""
    prefix = f"{number:0{_DIGITS}x}"
    rows = connection.execute(
        select(dag_file).where(
            dag_file.c.path_hash.startswith(prefix, autoescape=True), dag_file.c.import_error.is_not(None)
        )
    )
    found = next((one for row in rows if (one := _seen(row, readable)) is not None), None)
    if found is None or len(prefix) != _DIGITS:
        raise NotFound(f"there is no import error {number}")
    return found


_KEYS: dict[str, Any] = {
    "import_error_id": lambda one: one.id,
    "timestamp": lambda one: one.at,
    "filename": lambda one: one.path,
}


def _seen(row: Any, readable: Set[str] | None) -> FileError | None:
    error = row.import_error
    if readable is not None:
        dag_ids = set(json.loads(row.dag_ids))
        if not dag_ids & readable:
            return None
        if not dag_ids <= readable:
            error = HIDDEN
    return FileError(int(row.path_hash[:_DIGITS], 16), row.path, row.parsed_at, error)
