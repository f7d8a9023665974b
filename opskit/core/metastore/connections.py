"""Connections to outside systems; password and extra are encrypted at rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection as DatabaseConnection
from sqlalchemy.exc import IntegrityError

from opskit.core.dag.connection import FIELDS, Connection
from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.dags import nearest
from opskit.core.metastore.tables import connection as table
from opskit.errors import NotFound, OpskitError, UsageError

_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}")
"""Airflow's rule."""
MASK = "***"
"""Stands for a secret where a connection is shown; sent back, it means: as it was."""
_LENGTHS = {"conn_type": 500, "host": 500, "schema": 500}


@dataclass(frozen=True, slots=True)
class Shown:
    """A connection without its secrets, fit to be listed."""

    conn_id: str
    conn_type: str
    description: str | None
    host: str | None
    schema: str | None
    login: str | None
    port: int | None
    has_password: bool
    has_extra: bool
    is_encrypted: bool


def show_connections(database: DatabaseConnection) -> list[Shown]:
    """All connections by conn_id; nothing is decrypted."""
    return [shown(row) for row in database.execute(select(table).order_by(table.c.conn_id))]


def show_connection(database: DatabaseConnection, conn_id: str) -> Shown:
    """One connection; nothing is decrypted. NotFound, naming the nearest one, when there is none."""
    row = database.execute(select(table).where(table.c.conn_id == conn_id)).first()
    if row is None:
        raise _not_found(database, conn_id)
    return shown(row)


def shown(row: Any) -> Shown:
    """What may be seen of a row of the table."""
    return Shown(
        conn_id=row.conn_id,
        conn_type=row.conn_type,
        description=row.description,
        # Credentials that somebody put into the host are no host.
        host=MASK if row.host and "@" in row.host else row.host,
        schema=row.schema,
        login=row.login,
        port=row.port,
        has_password=bool(row.password),
        has_extra=bool(row.extra),
        is_encrypted=row.is_encrypted,
    )


def list_connections(
    database: DatabaseConnection,
    cipher: Cipher,
    conn_ids: Collection[str] | None = None,
    unreadable: list[str] | None = None,
) -> list[Connection]:
    """Connections by conn_id, decrypted. What can't be read goes to `unreadable`; without it, OpskitError naming it."""
    query = select(table).order_by(table.c.conn_id)
    if conn_ids is not None:
        query = query.where(table.c.conn_id.in_(list(conn_ids)))
    found = []
    for row in database.execute(query):
        try:
            found.append(_connection(row, cipher))
        except OpskitError:
            if unreadable is None:
                raise
            unreadable.append(row.conn_id)
    return found


def find_connection(database: DatabaseConnection, cipher: Cipher, conn_id: str) -> Connection | None:
    """The connection, decrypted, or None."""
    found = list_connections(database, cipher, [conn_id])
    return found[0] if found else None


def get_connection(database: DatabaseConnection, cipher: Cipher, conn_id: str) -> Connection:
    """The connection, decrypted. NotFound, naming the nearest one, when there is none."""
    found = find_connection(database, cipher, conn_id)
    if found is None:
        raise _not_found(database, conn_id)
    return found


def put_connection(database: DatabaseConnection, cipher: Cipher, new: Connection, *, overwrite: bool = False) -> bool:
    """Write a connection; whether it is new. UsageError for a conn_id that is malformed, or taken (no `overwrite`)."""
    values = row_of(new, cipher)
    conn_id = str(new.conn_id)
    there = database.execute(select(table.c.conn_id).where(table.c.conn_id == conn_id).with_for_update()).first()
    if there is None:
        try:
            with database.begin_nested():
                database.execute(insert(table).values(conn_id=conn_id, **values))
            return True
        except IntegrityError:
            pass  # somebody else has made it at the same time
    if not overwrite:
        raise UsageError(
            f"there is a connection {conn_id!r} already", hint="delete it first, or import with --overwrite"
        )
    database.execute(update(table).where(table.c.conn_id == conn_id).values(**values))
    return False


def row_of(new: Connection, cipher: Cipher) -> dict[str, Any]:
    """The columns of a connection, encrypted, but its conn_id. UsageError for what can't be stored."""
    conn_id = new.conn_id or ""
    if not _CONN_ID.fullmatch(conn_id):
        raise UsageError(
            f"{conn_id!r} can't be a conn_id",
            hint=r"use at most 250 letters, digits and the characters _ # ! ( ) - . : / \ ",
        )
    values: dict[str, Any] = {
        "conn_type": new.conn_type or "",
        "description": new.description,
        "host": new.host,
        "schema": new.schema,
        "login": new.login,
        "password": cipher.encrypt(new.password) if new.password else new.password,
        "port": new.port,
        "extra": cipher.encrypt(new.extra) if new.extra else new.extra,
        "is_encrypted": True,
    }
    for name, length in _LENGTHS.items():
        if len(values[name] or "") > length:
            raise UsageError(f"connection {conn_id}: {name} is longer than {length} characters")
    if new.port is not None and not -(2**31) <= new.port < 2**31:
        raise UsageError(f"connection {conn_id}: {new.port} can't be a port")
    return values


def update_connection(database: DatabaseConnection, cipher: Cipher, conn_id: str, fields: Mapping[str, Any]) -> None:
    """Change these fields (names as of `Connection`), and no other: what is not among them is not even decrypted.

    A host or a secret of the extras that is `MASK` stays what it was. NotFound; UsageError for what can't be stored.
    """
    row = database.execute(select(table).where(table.c.conn_id == conn_id).with_for_update()).first()
    if row is None:
        raise _not_found(database, conn_id)
    unknown = sorted(fields.keys() - {*FIELDS})
    if unknown:
        raise UsageError(f"connection {conn_id}: {', '.join(unknown)} can't be changed")
    if "conn_type" in fields and not fields["conn_type"]:
        raise UsageError(f"connection {conn_id}: conn_type is empty")
    given = dict(fields)
    if given.get("host") == MASK and row.host:
        del given["host"]
    if given.get("extra"):
        wanted = Connection(conn_id=conn_id, extra=given["extra"])
        if MASK in str(wanted.extra):
            before = _extra(row, cipher)
            given["extra"] = unmasked(wanted.extra_dejson, before)
    values = row_of(Connection.from_dict(given, conn_id), cipher)
    changed = {name: values[name] for name in given}
    if not row.is_encrypted:
        for name in ("password", "extra"):
            kept = getattr(row, name)
            changed.setdefault(name, cipher.encrypt(kept) if kept else kept)
        changed["is_encrypted"] = True
    if changed:
        database.execute(update(table).where(table.c.conn_id == conn_id).values(**changed))


def masked(extra: Any, secret: bool = False) -> Any:
    """Extras with MASK for each value that its name, or a name around it, says is secret."""
    if isinstance(extra, dict):
        return {name: masked(value, secret or is_secret_name(name)) for name, value in extra.items()}
    if isinstance(extra, list):
        return [masked(value, secret) for value in extra]
    return MASK if secret and extra not in (None, "") else extra


def unmasked(extra: Any, before: Any) -> Any:
    """Extras as they are to be stored: what is MASK, and was something else, stays what it was."""
    if isinstance(extra, dict) and isinstance(before, dict):
        return {name: unmasked(value, before[name]) if name in before else value for name, value in extra.items()}
    if isinstance(extra, list) and isinstance(before, list) and len(extra) == len(before):
        return [unmasked(value, old) for value, old in zip(extra, before, strict=True)]
    return before if extra == MASK else extra


def shown_extra(database: DatabaseConnection, cipher: Cipher, conn_id: str) -> dict[str, Any]:
    """The extras of a connection, masked. OpskitError when they can't be decrypted, NotFound without a connection."""
    row = database.execute(select(table).where(table.c.conn_id == conn_id)).first()
    if row is None:
        raise _not_found(database, conn_id)
    shown: dict[str, Any] = masked(_extra(row, cipher))
    return shown


def _extra(row: Any, cipher: Cipher) -> dict[str, Any]:
    text = row.extra
    if text and row.is_encrypted:
        text = cipher.decrypt(text, f"connection {row.conn_id!r}, extra")
    return Connection(conn_id=row.conn_id, extra=text).extra_dejson


def delete_connection(database: DatabaseConnection, conn_id: str) -> None:
    """NotFound, naming the nearest one, when there is none."""
    if database.execute(delete(table).where(table.c.conn_id == conn_id)).rowcount != 1:
        raise _not_found(database, conn_id)


def _connection(row: Any, cipher: Cipher) -> Connection:
    secrets = {"password": row.password, "extra": row.extra}
    if row.is_encrypted:
        secrets = {
            name: cipher.decrypt(text, f"connection {row.conn_id!r}, {name}") if text else text
            for name, text in secrets.items()
        }
    return Connection(
        conn_id=row.conn_id,
        conn_type=row.conn_type or None,
        description=row.description,
        host=row.host,
        login=row.login,
        schema=row.schema,
        port=row.port,
        **secrets,
    )


def _not_found(database: DatabaseConnection, conn_id: str) -> NotFound:
    known = database.execute(select(table.c.conn_id)).scalars().all()
    return NotFound(f"there is no connection {conn_id!r}", hint=nearest(conn_id, known))
