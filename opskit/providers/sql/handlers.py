"""What is fetched from a cursor after a statement, and which results of several statements are returned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def fetch_all_handler(cursor: Any) -> Any:
    """All rows; None after a statement that gives none."""
    return None if _description(cursor) is None else cursor.fetchall()


def fetch_one_handler(cursor: Any) -> Any:
    """The first row, or None."""
    return None if _description(cursor) is None else cursor.fetchone()


def get_row_count(cursor: Any) -> int:
    """How many rows the statement changed or found; -1 when the database does not tell."""
    return int(getattr(cursor, "rowcount", -1))


def return_single_query_results(sql: str | Iterable[str], return_last: bool, split_statements: bool | None) -> bool:
    """Whether the caller gets one result and not a list with one per statement."""
    return isinstance(sql, str) and (return_last or not split_statements)


def _description(cursor: Any) -> Any:
    if not hasattr(cursor, "description"):
        raise RuntimeError(
            "the database interface is no DB-API 2.0: its cursor has no description; give a handler of your own"
        )
    return cursor.description
