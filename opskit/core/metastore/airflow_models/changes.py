"""INSERT, UPDATE and DELETE on Airflow's tables: the rows are found by a query, and changed in opskit's own way.

What a statement assigns is worked out by the database, as the columns of that query, so any expression may stand there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from sqlalchemy.engine import Connection

from opskit.core.metastore.airflow_models import database, deletes, inserts, sql_text, updates
from opskit.core.metastore.airflow_models.sql_text import NotUnderstood, Statement
from opskit.core.metastore.airflow_models.virtual import EMPTY
from opskit.errors import UsageError

KEYS: dict[str, tuple[str, ...]] = {
    "dag_run": ("id",),
    "task_instance": ("dag_run_id", "task_id", "map_index"),
    "xcom": ("dag_run_id", "task_id", "map_index", "key"),
    "log": ("id",),
    "dag": ("dag_id",),
    "dag_tag": ("dag_id", "name"),
    "slot_pool": ("pool",),
    "variable": ("key",),
    "connection": ("conn_id",),
    "job": ("id",),
    "import_error": ("id",),
    "serialized_dag": ("dag_id",),
    "dag_code": ("fileloc",),
    "task_fail": ("dag_run_id", "task_id", "map_index", "try_number"),
    "dataset_event": ("id",),
    "asset_event": ("id",),
}
"""What tells a row from all others."""
Key = tuple[Any, ...]


def run(
    connection: Connection, statement: Statement, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    """Do what the statement says; what the driver is to execute in its place. `context.opskit_rows`: how many rows.

    UsageError, which names the table or the column, for what can't be done here.
    """
    each = list(parameters) if executemany else [parameters]
    try:
        if statement.verb == "insert":
            return _insert(connection, statement, each, context)
        parts = sql_text.take_apart(statement)
        done = 0
        for one in each:
            done += _change(connection, statement, parts, one)
    except NotUnderstood as error:
        raise UsageError(
            f"this {statement.verb.upper()} on {statement.target} can't be carried out: {error}"
        ) from error
    return _nothing(connection, context, done, parameters, executemany)


def _nothing(connection: Connection, context: Any, done: int, parameters: Any, executemany: bool) -> tuple[str, Any]:
    """A statement without effect for the cursor. It takes no parameters."""
    context.opskit_rows = done
    empty: Any = {} if isinstance(parameters[0] if executemany and parameters else parameters, Mapping) else ()
    table = database.place(connection).table("slot_pool")
    return f"DELETE FROM {table} WHERE 1 = 0", [empty] if executemany else empty


def _change(connection: Connection, statement: Statement, parts: sql_text.Parts, parameters: Any) -> int:
    table = statement.target
    at = database.place(connection)
    if table in EMPTY:
        if statement.verb == "update":
            return 0
        keys: Sequence[str] = ()
    else:
        if table not in KEYS:
            raise UsageError(f"rows of {table} can't be changed: opskit works them out", hint="see docs/airflow.md")
        keys = KEYS[table]
    columns = [f"{parts.alias}.{at.quote(key)}" for key in keys] or ["1"]
    columns += [f"{value} AS v{number}" for number, (_, value) in enumerate(parts.assignments)]
    query = f"SELECT {', '.join(columns)} FROM {parts.tables}"
    if parts.where.strip():
        query += f" WHERE {parts.where}"
    found = _rows(connection, query, parameters)
    if table in EMPTY or not found:
        return 0
    with database.inner(connection):
        if statement.verb == "delete":
            return deletes.delete_rows(connection, table, [tuple(row) for row in found])
        names = [name for name, _ in parts.assignments]
        changes = [
            (tuple(row[: len(keys)]), {name: plain(value) for name, value in zip(names, row[len(keys) :], strict=True)})
            for row in found
        ]
        return updates.update_rows(connection, table, changes)


def _rows(connection: Connection, query: str, parameters: Any) -> Sequence[Any]:
    sql = database.with_tables(connection, sql_text.parse(query))
    # The rows must be those that are changed: the transaction begins before they are read.
    with database.inner(connection):
        return connection.exec_driver_sql(sql, parameters or None).fetchall()


def _insert(connection: Connection, statement: Statement, each: Sequence[Any], context: Any) -> tuple[str, Any]:
    table = statement.target
    columns, query = sql_text.inserted(statement)
    rows = [
        {name: plain(value) for name, value in zip(columns, row, strict=True)}
        for one in each
        for row in _rows(connection, query, one)
    ]
    with database.inner(connection):
        inserts.insert_rows(connection, table, rows)
        if table in inserts.NUMBERED and rows:
            last = inserts.last_number(connection, table)
            context.get_lastrowid = lambda: last
    first = each[0] if each else ()
    return _nothing(connection, context, len(rows), each if len(each) > 1 else first, len(each) > 1)


def plain(value: Any) -> Any:
    """An enumeration's value; others as they are."""
    return value.value if isinstance(value, Enum) else value


def as_time(value: Any, what: str) -> datetime | None:
    """A moment, as databases give it: text (SQLite), without zone (MySQL), aware. UsageError naming `what`."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(f"{what}: {value!r} is no time") from None
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise UsageError(f"{what}: {value!r} is no time")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
