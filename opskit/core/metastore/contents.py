"""What a database holds, in numbers: rows and a content hash per table, computed where the rows are.

A table's hash does not depend on the order of its rows, except on SQLite, and needs constant memory. It proves that a
restored copy equals its source on the same kind of database; it is no signature. Columns are taken in the order of
their names. `ALGORITHMS` tells each algorithm in words, and the manifest of a backup repeats them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALGORITHMS = {
    "postgresql-record": "sum over the rows of hash_record_extended(ROW(columns by name), 0), in hexadecimal modulo "
    "2^128; types without a hash as text",
    "postgresql-text": "sum over the rows of the first 64 bits (signed) of md5(ROW(columns by name)::text), in "
    "hexadecimal modulo 2^128; time zone UTC, ISO dates, shortest exact floats",
    "mysql-text": "sum over the rows of the first 64 bits (unsigned) of md5 of the columns by name, joined by a zero "
    "byte, and a mask of which are NULL; text and binary columns without a limit as their md5; in hexadecimal modulo "
    "2^128",
    "sqlite-json": "SHA-256 over the rows in the order of rowid, 500 at a time as a JSON list of lists of the columns "
    'by name, UTF-8, no spaces; a BLOB as the object {"hex": …}',
}

Report = Callable[[str, int], None]
"""Called with a table's name and its rows when it is done."""


@dataclass(frozen=True, slots=True)
class TableContent:
    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class Secrets:
    """How many encrypted values there are, and which of them (`connection x: password`) the keys can't read."""

    total: int
    unreadable: tuple[str, ...]


def differences(expected: Mapping[str, TableContent], found: Mapping[str, TableContent]) -> list[str]:
    """What differs between two databases, table by table, in words."""
    said = [f"table {name} is missing" for name in sorted(expected.keys() - found.keys())]
    said += [f"table {name} is there, and was not in the source" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        before, after = expected[name], found[name]
        if before.rows != after.rows:
            said.append(f"table {name} has {after.rows} rows instead of {before.rows}")
        elif before.hash != after.hash:
            said.append(f"table {name} has other content (hash {after.hash} instead of {before.hash})")
    return said


_HASHED = frozenset(
    {"bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "bytea", "uuid", "date", "time"}
    | {"timestamp", "timestamptz", "jsonb", "name", "oid", "interval"}
)
_POSTGRESQL_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, t.typname, c.relkind
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
  )
ORDER BY n.nspname = current_schema() DESC, n.nspname, c.relname, a.attname COLLATE "C"
"""


def postgresql_algorithm(server: Sequence[int]) -> str:
    return "postgresql-record" if server[0] >= 14 else "postgresql-text"


def postgresql_contents(connection: Any, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
    """Contents of every table of a PostgreSQL database, by `table`, or `schema.table` outside of the current schema."""
    run = connection.exec_driver_sql
    for setting in ("TimeZone = 'UTC'", "DateStyle = 'ISO, MDY'", "IntervalStyle = 'postgres'", "bytea_output = 'hex'"):
        run(f"SET {setting}")
    run("SET extra_float_digits = 1")
    # The hashes are one pass over each table: the planner's caution about starting workers is out of place.
    run("SET jit = off")
    current = run("SELECT current_schema()").scalar()
    tables: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for schema, table, column, kind, relation in run(_POSTGRESQL_COLUMNS):
        # The rows of a table in partitions are one table's; those of a table that others inherit from are its own.
        only = "" if relation == "p" else "ONLY "
        tables.setdefault((schema, table, only), []).append((column, kind))
    found = {}
    for (schema, table, only), columns in tables.items():
        name = table if schema == current else f"{schema}.{table}"
        if algorithm == "postgresql-record":
            values = ", ".join(f"t.{_pg(c)}" if kind in _HASHED else f"t.{_pg(c)}::text" for c, kind in columns)
            row_hash = f"hash_record_extended(ROW({values}), 0)"
        else:
            values = ", ".join(f"t.{_pg(column)}" for column, _ in columns)
            row_hash = f"('x' || left(md5(ROW({values})::text), 16))::bit(64)::bigint"
        statement = f"SELECT count(*), coalesce(sum({row_hash}), 0) FROM {only}{_pg(schema)}.{_pg(table)} t"
        rows, total = run(statement.replace("%", "%%")).one()
        found[name] = TableContent(int(rows), _hex(total))
        if report:
            report(name, int(rows))
    return found


def _pg(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_UNLIMITED = frozenset({"text", "mediumtext", "longtext", "blob", "mediumblob", "longblob", "json"})
_MYSQL_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type
FROM information_schema.columns c
JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE'
ORDER BY c.table_name, CAST(c.column_name AS BINARY)
"""


def mysql_tables(connection: Any) -> dict[str, list[tuple[str, str]]]:
    """Columns (name, type) of every table of the current database, ordered by name."""
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in connection.exec_driver_sql(_MYSQL_COLUMNS):
        tables.setdefault(table, []).append((column, str(kind).lower()))
    return tables


def mysql_contents(connection: Any, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
    """Contents of every table of the current MariaDB or MySQL database."""
    assert algorithm == "mysql-text"
    found = {}
    for table, columns in mysql_tables(connection).items():
        values = ", ".join(f"MD5({_my(c)})" if kind in _UNLIMITED else _my(c) for c, kind in columns)
        mask = ", ".join(f"ISNULL({_my(column)})" for column, _ in columns)
        row_hash = f"CAST(CONV(LEFT(MD5(CONCAT_WS('\\0', CONCAT({mask}), {values})), 16), 16, 10) AS UNSIGNED)"
        statement = f"SELECT COUNT(*), COALESCE(SUM({row_hash}), 0) FROM {_my(table)}"
        rows, total = connection.exec_driver_sql(statement.replace("%", "%%")).one()
        found[table] = TableContent(int(rows), _hex(total))
        if report:
            report(table, int(rows))
    return found


def _my(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def sqlite_contents(
    connection: sqlite3.Connection, algorithm: str, report: Report | None = None
) -> dict[str, TableContent]:
    """Contents of every table of a SQLite database."""
    assert algorithm == "sqlite-json"
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_blob).encode
    names = [
        str(name)
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name"
        )
    ]
    found = {}
    for table in names:
        columns = sorted(str(row[1]) for row in connection.execute(f"PRAGMA table_info({_pg(table)})"))
        digest, rows = hashlib.sha256(), 0
        cursor = connection.execute(f"SELECT {', '.join(map(_pg, columns))} FROM {_pg(table)} ORDER BY rowid")
        while some := cursor.fetchmany(500):
            digest.update(encode(some).encode("utf-8", "surrogatepass"))
            rows += len(some)
        found[table] = TableContent(rows, digest.hexdigest())
        if report:
            report(table, rows)
    return found


def _blob(value: Any) -> dict[str, str]:
    return {"hex": value.hex()}


def _hex(total: Any) -> str:
    return f"{int(total) % (1 << 128):032x}"
