"""Connections, variables, pools and pause states as plain values: read as a whole, and changed in one transaction.

Shapes, by kind and name:

    connections  conn_type, description, host, login, password, schema, port, extra (a dict)
    variables    value, description
    pools        slots, description
    dags         paused
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.engine import Connection as DatabaseConnection
from sqlalchemy.exc import DataError, IntegrityError

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, dags, pools, tables, variables
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import bulk_insert, bulk_update
from opskit.errors import GuardRefused, OpskitError, UsageError

KINDS = ("connections", "variables", "pools", "dags")
Fields = dict[str, Any]
Objects = dict[str, dict[str, Fields]]
_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a value can't be decrypted (or is not what it should be). Written back, it changes nothing."""

    why: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unreadable)

    def __hash__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Write:
    """What one object is to become; fields None: it goes."""

    kind: str
    name: str
    fields: Fields | None


def read_objects(database: DatabaseConnection, cipher: Cipher | None, kinds: Collection[str] = KINDS) -> Objects:
    """All objects of these kinds, decrypted. DAGs are those that a file still defines."""
    return {kind: dict(_read(database, cipher, kind)) for kind in KINDS if kind in kinds}


def read_some(
    database: DatabaseConnection, cipher: Cipher | None, kind: str, names: Iterable[str]
) -> dict[str, Fields]:
    """Those of these names that exist; their rows are locked until the transaction ends."""
    found: dict[str, Fields] = {}
    for some in _chunks(sorted(set(names))):
        found.update(_read(database, cipher, kind, some))
    return found


def write_objects(
    database: DatabaseConnection,
    cipher: Cipher,
    writes: Sequence[Write],
    now: datetime,
    there: Collection[tuple[str, str]] | None = None,
) -> None:
    """Bring objects to what they are to become. Wake the schedulers after.

    `there`: the (kind, name) of those that `read_some` found in this transaction; None: whichever exist now.
    UsageError for a value that does not fit, or a DAG that is not there; GuardRefused for a pool that can't go, and for
    an object that somebody made since `there` was read.
    """
    if there is None:
        there = {
            (kind, name)
            for kind in KINDS
            for name in read_some(database, None, kind, [write.name for write in writes if write.kind == kind])
        }
    try:
        _write_all(database, cipher, writes, now, there)
    except IntegrityError as error:
        raise GuardRefused(
            "somebody made one of these objects at the same moment", hint="nothing was written; decide again"
        ) from error
    except DataError as error:
        raise UsageError("a value is too long for the metastore", hint="nothing was written") from error


def _write_all(
    database: DatabaseConnection,
    cipher: Cipher,
    writes: Sequence[Write],
    now: datetime,
    there: Collection[tuple[str, str]],
) -> None:
    by_kind: dict[str, list[Write]] = {kind: [] for kind in KINDS}
    for write in writes:
        _check_texts(write)
        by_kind[write.kind].append(write)
    known = {kind: {name for found, name in there if found == kind} for kind in KINDS}
    _write_connections(database, cipher, by_kind["connections"], known["connections"])
    _write_variables(database, cipher, by_kind["variables"], known["variables"])
    _write_pools(database, by_kind["pools"], known["pools"])
    _write_pauses(database, by_kind["dags"], now)


def _check_texts(write: Write) -> None:
    for name, value in (("name", write.name), *(write.fields or {}).items()):
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{write.kind}/{write.name}: {name} is no Unicode text") from None
            if "\0" in value:
                raise UsageError(f"{write.kind}/{write.name}: {name} holds a zero byte, which no database takes")


def _read(
    database: DatabaseConnection, cipher: Cipher | None, kind: str, names: Sequence[str] | None = None
) -> Iterator[tuple[str, Fields]]:
    table, key = _KEYS[kind]
    query = select(table).order_by(table.c[key])
    if names is not None:
        query = query.where(table.c[key].in_(names)).with_for_update()
    if kind == "dags":
        query = query.where(table.c.is_active.is_(True))
    if kind == "connections":
        for row in database.execute(query):
            yield row.conn_id, _connection_fields(row, cipher)
    elif kind == "variables":
        for row in database.execute(query):
            value = _plain(row.val, row.is_encrypted, cipher, "value")
            yield row.key, {"value": value, "description": row.description or None}
    elif kind == "pools":
        for row in database.execute(query):
            yield row.pool, {"slots": row.slots, "description": row.description or None}
    else:
        for row in database.execute(query):
            yield row.dag_id, {"paused": bool(row.is_paused)}


_KEYS: dict[str, tuple[Table, str]] = {
    "connections": (tables.connection, "conn_id"),
    "variables": (tables.variable, "key"),
    "pools": (tables.pool, "pool"),
    "dags": (tables.dag, "dag_id"),
}


def _connection_fields(row: Any, cipher: Cipher | None) -> Fields:
    return {
        "conn_type": row.conn_type or "",
        "description": row.description or None,
        "host": row.host,
        "login": row.login,
        "password": _plain(row.password, row.is_encrypted, cipher, "password"),
        "schema": row.schema,
        "port": row.port,
        "extra": extra_of(_plain(row.extra, row.is_encrypted, cipher, "extra")),
    }


def extra_of(text: str | Unreadable | None) -> dict[str, Any] | Unreadable:
    """The extras as a dict."""
    if isinstance(text, Unreadable):
        return text
    if not text:
        return {}
    try:
        loaded = json.loads(text)
    except ValueError:
        return Unreadable("extra is not JSON")
    return loaded if isinstance(loaded, dict) else Unreadable("extra is no JSON object")


def _plain(stored: str | None, is_encrypted: bool, cipher: Cipher | None, what: str) -> str | Unreadable | None:
    if not stored or not is_encrypted:
        return stored
    if cipher is None:
        return Unreadable(f"{what}: there is no Fernet key")
    try:
        return cipher.decrypt(stored, what)
    except OpskitError as error:
        return Unreadable(error.message)


def connection_of(conn_id: str, fields: Mapping[str, Any]) -> Connection:
    """A connection of these fields. UsageError for one that can't be (see Connection)."""
    values = {name: None if isinstance(value, Unreadable) else value for name, value in fields.items()}
    return Connection(conn_id=conn_id, **{**values, "extra": _text(values.get("extra"))})


def _text(extra: Any) -> str | None:
    return json.dumps(extra, sort_keys=True) if extra else None


def _write_connections(database: DatabaseConnection, cipher: Cipher, writes: Sequence[Write], there: set[str]) -> None:
    rows = {
        write.name: connections.row_of(connection_of(write.name, write.fields), cipher)
        for write in writes
        if write.fields is not None
    }
    skipped = {
        write.name: [name for name, value in (write.fields or {}).items() if isinstance(value, Unreadable)]
        for write in writes
    }
    _write_rows(database, "connections", writes, there, rows, skipped)


def _write_variables(database: DatabaseConnection, cipher: Cipher, writes: Sequence[Write], there: set[str]) -> None:
    rows: dict[str, dict[str, Any]] = {}
    skipped: dict[str, list[str]] = {}
    for write in writes:
        if write.fields is None:
            continue
        variables.check_key(write.name)
        value = write.fields["value"]
        if isinstance(value, Unreadable):
            skipped[write.name] = ["val", "is_encrypted"]
            value = ""
        rows[write.name] = {
            "val": cipher.encrypt(value),
            "is_encrypted": True,
            "description": write.fields.get("description"),
        }
    _write_rows(database, "variables", writes, there, rows, skipped)


def _write_pools(database: DatabaseConnection, writes: Sequence[Write], there: set[str]) -> None:
    rows = {}
    for write in writes:
        if write.fields is None:
            pools.delete_pool(database, write.name)
            continue
        pools.check_pool(write.name, write.fields["slots"])
        rows[write.name] = {**write.fields, "used_slots": 0}
    kept = [write for write in writes if write.fields is not None]
    _write_rows(database, "pools", kept, there, rows, {name: ["used_slots"] for name in rows})


def _write_rows(
    database: DatabaseConnection,
    kind: str,
    writes: Sequence[Write],
    there: set[str],
    rows: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, Collection[str]],
) -> None:
    """Insert or update `rows`, delete the others. `skipped`: columns that an update leaves as they are."""
    table, key = _KEYS[kind]
    new = [name for name in rows if name not in there]
    if new:
        columns = list(rows[new[0]])
        bulk_insert(database, table, [key, *columns], [[name, *(rows[name][c] for c in columns)] for name in new])
    changed: dict[tuple[str, ...], list[list[Any]]] = {}
    for name, values in rows.items():
        if name in there:
            columns_left = tuple(sorted(values.keys() - set(skipped.get(name, ()))))
            changed.setdefault(columns_left, []).append([name, *(values[column] for column in columns_left)])
    for columns_left, some_rows in changed.items():
        bulk_update(database, table, [key], columns_left, some_rows)
    for some in _chunks([write.name for write in writes if write.fields is None]):
        database.execute(delete(table).where(table.c[key].in_(some)))


def _write_pauses(database: DatabaseConnection, writes: Sequence[Write], now: datetime) -> None:
    for some in _chunks([write.name for write in writes]):
        if dags.touch(database, some, now) != len(some):
            raise UsageError("a DAG that was to be paused or unpaused is not there any more")
    for paused in (True, False):
        names = [write.name for write in writes if write.fields is not None and write.fields["paused"] is paused]
        for some in _chunks(names):
            database.execute(update(tables.dag).where(tables.dag.c.dag_id.in_(some)).values(is_paused=paused))


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _CHUNK):
        yield names[start : start + _CHUNK]
