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
from types import MappingProxyType
from typing import Any

ALGORITHMS = {
    "postgresql-record": "sum over the rows of hash_record_extended(ROW(columns by name), 0), in hexadecimal modulo "
    "2^128; types without a hash as text",
    "postgresql-text": "sum over the rows of the first 64 bits (signed) of md5(ROW(columns by name)::text), in "
    "hexadecimal modulo 2^128; time zone UTC, ISO dates, shortest exact floats",
    "mysql-text": "sum over the rows of the first 64 bits (unsigned) of md5 of a mask and the columns by name, joined "
    "by a zero byte; of columns without a limit, binary ones, JSON and texts over 1,000 bytes as their md5; the mask "
    "says of each that may be NULL whether it is (1), and of each text without a limit whether it is over 1,000 bytes "
    "(1) or NULL (2); in hexadecimal modulo 2^128",
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


_TEXTS = frozenset({"text", "mediumtext", "longtext"})
_AS_MD5 = frozenset({"blob", "mediumblob", "longblob", "json"})
_SHORT_BYTES = 1_000
"""An md5 costs the server as much as all else that it does for a row, and few texts are long."""
_MYSQL_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type, c.is_nullable
FROM information_schema.columns c
JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE'
ORDER BY c.table_name, CAST(c.column_name AS BINARY)
"""

MysqlColumns = list[tuple[str, str, bool]]
"""Name, type, and whether it may be NULL."""


def mysql_tables(connection: Any) -> dict[str, MysqlColumns]:
    """Columns of every table of the current database, ordered by name."""
    tables: dict[str, MysqlColumns] = {}
    for table, column, kind, nullable in connection.exec_driver_sql(_MYSQL_COLUMNS):
        tables.setdefault(table, []).append((column, str(kind).lower(), str(nullable).upper() != "NO"))
    return tables


def mysql_contents(
    connection: Any,
    algorithm: str,
    report: Report | None = None,
    known: Mapping[str, tuple[MysqlColumns, TableContent]] = MappingProxyType({}),
) -> dict[str, TableContent]:
    """Contents of every table of the current MariaDB or MySQL database; of those in `known` only the columns are
    looked at."""
    assert algorithm == "mysql-text"
    found = {}
    for table, columns in mysql_tables(connection).items():
        before = known.get(table)
        found[table] = before[1] if before and before[0] == columns else mysql_content(connection, table, columns)
        if report:
            report(table, found[table].rows)
    return found


def mysql_content(connection: Any, table: str, columns: MysqlColumns) -> TableContent:
    """Contents of one table, by the algorithm mysql-text."""
    values, mask = [], []
    for column, kind, nullable in columns:
        name = _my(column)
        if kind in _TEXTS:
            long = f"LENGTH({name}) > {_SHORT_BYTES}"
            values.append(f"IF({long}, MD5({name}), {name})")
            mask.append(f"IFNULL({long}, 2)")
        else:
            values.append(f"MD5({name})" if kind in _AS_MD5 else name)
            mask += [f"ISNULL({name})"] if nullable else []
    row = ", ".join([f"CONCAT({', '.join(mask)})" if mask else "''", *values])
    row_hash = f"CAST(CONV(LEFT(MD5(CONCAT_WS('\\0', {row})), 16), 16, 10) AS UNSIGNED)"
    statement = f"SELECT COUNT(*), COALESCE(SUM({row_hash}), 0) FROM {_my(table)}"
    rows, total = connection.exec_driver_sql(statement.replace("%", "%%")).one()
    return TableContent(int(rows), _hex(total))


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
