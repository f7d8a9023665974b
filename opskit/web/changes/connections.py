"""Connections: create, update, delete. Nothing here gives a secret back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, crypto
from opskit.core.metastore.connections import Shown
from opskit.errors import UsageError
from opskit.web.changes import auditing
from opskit.web.faults import Conflict
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store

RESOURCE = "Connections"


def create(store: Store, who: Who, value: Connection) -> Shown:
    """Add a connection, and show it without its secrets.

    Forbidden; Conflict when the conn_id is taken; UsageError for a missing conn_type, or what can't be stored."""
    who.require(CREATE, RESOURCE)
    conn_id = str(value.conn_id or "")
    if not value.conn_type:
        raise UsageError(f"connection {conn_id}: conn_type is missing", hint="for example postgres, http, ssh")
    cipher = crypto.open_cipher(store.config)
    with store.changing() as database:
        if not connections.put_connection(database, cipher, value, overwrite=True):
            # Nothing stays of it: the transaction is rolled back.
            raise Conflict(f"there is a connection {conn_id!r} already", hint="edit it, or choose another conn_id")
        auditing.write(database, who, "connections add", datetime.now(UTC), conn_id=conn_id, new=True)
        return connections.show_connection(database, conn_id)


def update(store: Store, who: Who, conn_id: str, fields: Mapping[str, Any]) -> Shown:
    """Change these fields (conn_type, description, host, login, password, schema, port, extra) and no other.

    So a password that is not among them is kept; one that is None is removed. Extras are a text or a dict; a value of
    them that is `***` stays what it was, and so does a host. Forbidden, NotFound, UsageError."""
    who.require(EDIT, RESOURCE)
    cipher = crypto.open_cipher(store.config)
    with store.changing() as database:
        connections.update_connection(database, cipher, conn_id, fields)
        auditing.write(database, who, "connections edit", datetime.now(UTC), conn_id=conn_id, fields=sorted(fields))
        return connections.show_connection(database, conn_id)


def delete(store: Store, who: Who, conn_id: str) -> None:
    """Forbidden, NotFound."""
    who.require(DELETE, RESOURCE)
    with store.changing() as database:
        connections.delete_connection(database, conn_id)
        auditing.write(database, who, "connections delete", datetime.now(UTC), conn_id=conn_id)
