"""/connections: a password is in no answer, and the secrets of extras are masked."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.core.dag.connection import Connection as Stored
from opskit.core.metastore import connections, crypto
from opskit.core.metastore.browsing import objects
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.connections import Shown
from opskit.errors import GuardRefused, UsageError
from opskit.web import connection_trial
from opskit.web.airflow_api.collections import Answer, Body, Listing, Port, UpdateMask, changed, paged, readable
from opskit.web.changes import connections as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["Connection"])
_Reader = Annotated[Who, Depends(allow(READ, "Connections"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Connections"))]
_Editor = Annotated[Who, Depends(allow(EDIT, "Connections"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Connections"))]


class ConnectionCollectionItem(Answer):
    """A connection in a list."""

    connection_id: str
    conn_type: str
    description: str | None
    host: str | None
    login: str | None
    schema_: str | None = Field(alias="schema")
    port: int | None


class Connection(ConnectionCollectionItem):
    """One connection."""

    extra: str | None = Field(
        description="The text of a JSON object; values with secret names are `***`. After a PATCH null, too, when it "
        "can't be decrypted; a GET answers 409 then."
    )


class ConnectionCollection(Listing):
    connections: list[ConnectionCollectionItem]


class ConnectionFields(Body):
    """What can be changed of a connection."""

    connection_id: str | None = Field(None, description="As in the path, if it is sent.")
    conn_type: str | None = None
    description: str | None = None
    host: str | None = None
    login: str | None = None
    schema_: str | None = Field(None, alias="schema")
    port: Port | None = None
    password: str | None = Field(None, description="Kept when it is not sent.", json_schema_extra={"writeOnly": True})
    extra: str | None = Field(None, description="The text of a JSON object. A value that is `***` is kept.")


class NewConnection(ConnectionFields):
    """A connection with its secrets."""

    connection_id: str = Field(min_length=1)
    conn_type: str = Field(min_length=1)


class ConnectionTrial(ConnectionFields):
    """A connection to be tried; its id has no meaning."""

    conn_type: str = Field(min_length=1)


class ConnectionTest(Answer):
    """What became of a trial."""

    status: bool
    message: str


@router.get("/connections", operation_id="get_connections")
def get_connections(
    store: TheStore,
    _: _Reader,
    window: Annotated[Window, paged("connection_id", "id", "conn_type", "description", "host", "port")],
) -> ConnectionCollection:
    """List connections."""
    with store.reading() as database:
        found, total = objects.connections(database, window)
    return ConnectionCollection(
        connections=[ConnectionCollectionItem(**_item(one)) for one in found], total_entries=total
    )


@router.post("/connections", operation_id="post_connection")
def post_connection(store: TheStore, who: _Creator, body: NewConnection) -> Connection:
    """Add a connection."""
    changes.create(store, who, _stored(body))
    return _answer(store, body.connection_id)


@router.post("/connections/test", operation_id="test_connection")
def test_connection(store: TheStore, who: _Creator, body: ConnectionTrial) -> ConnectionTest:
    """Try a connection. Nothing is stored. 403 unless core.test_connection is Enabled."""
    status, message = connection_trial.attempt(store, who, _stored(body))
    return ConnectionTest(status=status, message=message)


@router.get("/connections/{connection_id:path}", operation_id="get_connection")
def get_connection(store: TheStore, _: _Reader, connection_id: str) -> Connection:
    """Get a connection."""
    return _answer(store, connection_id)


@router.patch("/connections/{connection_id:path}", operation_id="patch_connection")
def patch_connection(
    store: TheStore, who: _Editor, connection_id: str, body: ConnectionFields, mask: UpdateMask
) -> Connection:
    """Change the fields of a connection that are sent."""
    if body.connection_id not in (None, connection_id):
        raise UsageError("connection_id: it can't be changed", hint="make a connection with the new id")
    with readable():
        changes.update(store, who, connection_id, changed(body, mask, ("connection_id",)))
    try:
        return _answer(store, connection_id)
    except GuardRefused:  # the change is made, whatever is wrong with the extras that it left alone
        with store.reading() as database:
            return Connection(**_item(connections.show_connection(database, connection_id)), extra=None)


@router.delete("/connections/{connection_id:path}", operation_id="delete_connection", status_code=204)
def delete_connection(store: TheStore, who: _Deleter, connection_id: str) -> None:
    """Delete a connection."""
    changes.delete(store, who, connection_id)


def _stored(body: ConnectionFields) -> Stored:
    return Stored.from_dict({"conn_id": body.connection_id, **changed(body, None, ("connection_id",))})


def _item(one: Shown) -> dict[str, Any]:
    return {
        "connection_id": one.conn_id,
        **{name: getattr(one, name) for name in ("conn_type", "description", "host", "login", "schema", "port")},
    }


def _answer(store: Store, conn_id: str) -> Connection:
    with store.reading() as database:
        one = connections.show_connection(database, conn_id)
        extra = None
        if one.has_extra:
            with readable():
                shown = connections.shown_extra(database, crypto.open_cipher(store.config), conn_id)
            extra = json.dumps(shown, ensure_ascii=False)
    return Connection(**_item(one), extra=extra)
