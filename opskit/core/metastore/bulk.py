"""Writes many rows with different values in one statement, each database in its own way.

The SQL text is built once per (database, table, columns) and kept: this is on the scheduler's hot path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Boolean, DateTime, Float, Integer, Table
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_LARGEST_PARAMETER = 4_000_000
"""Characters. MariaDB and MySQL refuse statements over max_allowed_packet, 16 MiB or more by default: far more than
a scheduler writes at once, but DAG files may be large."""
OnConflict = Literal["error", "ignore", "update"]


@dataclass(frozen=True, slots=True)
class _Statement:
    single: str
    many: str
    keys_last: int
    """For `single`: so many leading values of a row are placed after the others."""
    converts: tuple[tuple[int, Callable[[Any], Any]], ...]
    """Index of a column, and what turns its value into one of the driver's."""


def bulk_update(
    connection: Connection,
    table: Table,
    keys: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    guard: str | None = None,
) -> int:
    """Set `columns` of the rows found by `keys`; how many rows were found.

    A row is the values of `keys`, then of `columns`, in that order. Keys compare with `=`, so a column that must still
    have an expected value may be one of them. `guard` is a constant SQL condition on the table's own columns
    (`"state IN ('queued', 'running')"`), never built from values. No two rows may have the same keys.
    """
    if not rows:
        return 0
    return _run(connection, _update(connection.dialect, table, tuple(keys), tuple(columns), guard), rows)


def bulk_insert(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    on_conflict: OnConflict = "error",
) -> int:
    """Insert rows; how many were inserted (on MariaDB/MySQL an update counts twice).

    `on_conflict` is about the primary key: `ignore` keeps the row that is there, `update` gives it the new values.
    Python-side defaults of the table are not applied: name every column that has one.
    """
    if not rows:
        return 0
    return _run(connection, _insert(connection.dialect, table, tuple(columns), on_conflict), rows)


def _run(connection: Connection, statement: _Statement, rows: Sequence[Sequence[Any]]) -> int:
    values: list[list[Any]] = [list(row) for row in rows]
    for index, convert in statement.converts:
        for row in values:
            if row[index] is not None:
                row[index] = convert(row[index])
    name = connection.dialect.name
    cut = statement.keys_last
    if len(values) == 1:
        row = values[0]
        result = connection.exec_driver_sql(statement.single, (*row[cut:], *row[:cut]))
    elif name == "sqlite":
        result = connection.exec_driver_sql(statement.many, [(*row[cut:], *row[:cut]) for row in values])
    elif name == "postgresql":
        result = connection.exec_driver_sql(statement.many, tuple(map(list, zip(*values, strict=True))))
    else:
        text = json.dumps(values, ensure_ascii=False, default=_json, separators=(",", ":"))
        if len(text) > _LARGEST_PARAMETER:
            half = len(rows) // 2
            return _run(connection, statement, rows[:half]) + _run(connection, statement, rows[half:])
        result = connection.exec_driver_sql(statement.many, (text,))
    return result.rowcount


def guarded_move(
    connection: Connection,
    guard: str,
    guard_values: Sequence[Any],
    table: Table,
    keys: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    second: Table,
    second_columns: Sequence[str],
    second_rows: Sequence[Sequence[Any]],
) -> int:
    """PostgreSQL only: update rows as `bulk_update` does, and insert or replace rows of a second table, in one
    statement, all of it only when the query `guard` finds (and locks) a row; how many rows were updated.
    """
    dialect = connection.dialect
    sql = _guarded(
        dialect, guard, table, tuple(keys), tuple(columns), second, tuple(second_columns) if second_rows else ()
    )
    arrays = [*map(list, zip(*second_rows, strict=True)), *map(list, zip(*rows, strict=True))]
    return connection.exec_driver_sql(sql, (*guard_values, *arrays)).rowcount


@lru_cache(maxsize=32)
def _guarded(
    dialect: Dialect,
    guard: str,
    table: Table,
    keys: tuple[str, ...],
    columns: tuple[str, ...],
    second: Table,
    second_columns: tuple[str, ...],
) -> str:
    held = "EXISTS (SELECT 1 FROM held)"
    parts = [f"WITH held AS ({guard})"]
    if second_columns:
        insert = _insert(dialect, second, second_columns, "update").many
        source, conflict = insert.split(" ON CONFLICT ", 1)
        parts.append(f", added AS ({source} WHERE {held} ON CONFLICT {conflict})")
    parts.append(_update(dialect, table, keys, columns, held).many)
    return " ".join(parts)


def _json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    raise TypeError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=512)
def _update(
    dialect: Dialect, table: Table, keys: tuple[str, ...], columns: tuple[str, ...], guard: str | None
) -> _Statement:
    quote = dialect.identifier_preparer.quote
    target = quote(table.name)
    guarded = f" AND ({guard})" if guard else ""
    mark = "?" if dialect.name == "sqlite" else "%s"
    single = (
        f"UPDATE {target} SET {', '.join(f'{quote(column)} = {mark}' for column in columns)} "
        f"WHERE {' AND '.join(f'{quote(key)} = {mark}' for key in keys)}{guarded}"
    )
    types = _types(dialect, table, keys + columns)
    found = " AND ".join(f"{target}.{quote(key)} = v.v{i}" for i, key in enumerate(keys))
    changes = [(quote(column), _value(dialect, types[i], i)) for i, column in enumerate(columns, start=len(keys))]
    if dialect.name == "sqlite":
        many = single
    elif dialect.name == "postgresql":
        sets = ", ".join(f"{column} = {value}" for column, value in changes)
        many = f"UPDATE {target} SET {sets} FROM {_unnest(types)} WHERE {found}{guarded}"
    else:
        sets = ", ".join(f"{target}.{column} = {value}" for column, value in changes)
        many = f"UPDATE {target} JOIN {_json_table(types)} ON {found}{guarded} SET {sets}"
    return _Statement(single, many, len(keys), _converts(dialect, table, keys + columns))


@lru_cache(maxsize=128)
def _insert(dialect: Dialect, table: Table, columns: tuple[str, ...], on_conflict: OnConflict) -> _Statement:
    quote = dialect.identifier_preparer.quote
    target = quote(table.name)
    names = ", ".join(map(quote, columns))
    keys = [column.name for column in table.primary_key]
    others = [column for column in columns if column not in keys]
    tail = ""
    if dialect.name in ("mysql", "mariadb"):
        if on_conflict == "ignore":
            # Not INSERT IGNORE: that one turns other errors into warnings too.
            tail = f" ON DUPLICATE KEY UPDATE {quote(keys[0])} = {target}.{quote(keys[0])}"
        elif on_conflict == "update":
            sets = ", ".join(f"{quote(column)} = VALUES({quote(column)})" for column in others)
            tail = f" ON DUPLICATE KEY UPDATE {sets}"
    elif on_conflict != "error":
        sets = ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in others)
        what = "NOTHING" if on_conflict == "ignore" else f"UPDATE SET {sets}"
        tail = f" ON CONFLICT ({', '.join(map(quote, keys))}) DO {what}"
    mark = "?" if dialect.name == "sqlite" else "%s"
    single = f"INSERT INTO {target} ({names}) VALUES ({', '.join([mark] * len(columns))}){tail}"
    types = _types(dialect, table, columns)
    values = ", ".join(_value(dialect, kind, i) for i, kind in enumerate(types))
    if dialect.name == "sqlite":
        many = single
    elif dialect.name == "postgresql":
        many = f"INSERT INTO {target} ({names}) SELECT {values} FROM {_unnest(types)}{tail}"
    else:
        many = f"INSERT INTO {target} ({names}) SELECT {values} FROM {_json_table(types)}{tail}"
    return _Statement(single, many, 0, _converts(dialect, table, columns))


def _unnest(types: list[str]) -> str:
    # Texts in binary form: the driver escapes the other form character by character.
    arrays = ", ".join(f"{'%b' if kind == 'text' else '%s'}::{kind}[]" for kind in types)
    return f"unnest({arrays}) AS v({', '.join(f'v{i}' for i in range(len(types)))})"


def _json_table(types: list[str]) -> str:
    columns = ", ".join(f"v{i} {kind} PATH '$[{i}]'" for i, kind in enumerate(types))
    return f"JSON_TABLE(%s, '$[*]' COLUMNS ({columns})) AS v"


def _value(dialect: Dialect, kind: str, index: int) -> str:
    # MariaDB cuts a LONGTEXT column that is copied straight into a shorter text column, modulo 64 KiB and without an
    # error, in strict mode too; an expression is checked.
    cut = dialect.name in ("mysql", "mariadb") and kind.startswith("longtext")
    return f"CONCAT(v.v{index})" if cut else f"v.v{index}"


def _types(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> list[str]:
    return [_type(dialect, table.c[column].type) for column in columns]


def _type(dialect: Dialect, kind: TypeEngine[Any]) -> str:
    base = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    postgresql = dialect.name == "postgresql"
    if isinstance(base, Boolean):
        return "boolean" if postgresql else "tinyint"
    if isinstance(base, Integer):
        return "bigint"
    if isinstance(base, Float):
        return "double precision" if postgresql else "double"
    if isinstance(base, DateTime):
        return "timestamptz" if postgresql else "datetime(6)"
    # Without a length: a value that is too long for its column must be an error there, not be cut here.
    return "text" if postgresql else "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


def _converts(dialect: Dialect, table: Table, columns: tuple[str, ...]) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    found = []
    for index, column in enumerate(columns):
        convert = table.c[column].type.dialect_impl(dialect).bind_processor(dialect)
        if convert is not None:
            found.append((index, convert))
    return tuple(found)
