"""Connections: listed, written, tried, deleted. A secret goes in and never comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, crypto
from opskit.core.metastore.connections import MASK, Shown
from opskit.errors import OpskitError, UsageError
from opskit.web import connection_trial, connection_types
from opskit.web.changes import connections as changes
from opskit.web.faults import Forbidden, status_of
from opskit.web.flash import redirect
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.pages.paging import PageNumber, Search, part_of
from opskit.web.render import render
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 100
_RESOURCE = "Connections"
Text = Annotated[str, Form()]


@router.get("/connections")
def list_connections(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(READ, _RESOURCE))],
    search: Search = "",
    page: PageNumber = 1,
) -> HTMLResponse:
    """All, by conn_id; nothing is decrypted."""
    with store.reading() as database:
        found = connections.show_connections(database)
    wanted = search.strip().lower()
    if wanted:
        found = [
            one for one in found if wanted in f"{one.conn_id} {one.conn_type} {one.host} {one.description}".lower()
        ]
    return render(
        request,
        "connections.html",
        part=part_of(found, page, PER_PAGE),
        search=search,
        may_test=connection_trial.is_allowed(store) and who.can(CREATE, _RESOURCE),
    )


@router.get("/connections/new")
def new_connection(
    request: Request, _: Annotated[Who, Depends(allow(CREATE, _RESOURCE))], conn_type: str = ""
) -> HTMLResponse:
    """First the type, then the form with what its fields mean."""
    return _form(request, {"conn_type": conn_type}, is_new=True)


@router.get("/connections/edit")
def edit_connection(
    request: Request, store: TheStore, _: Annotated[Who, Depends(allow(EDIT, _RESOURCE))], conn_id: str
) -> HTMLResponse:
    """The form of one; the values of its extra are masked, all of them."""
    with store.reading() as database:
        shown = connections.show_connection(database, conn_id)
        extra, problem = _masked_extra(store, database, shown)
    values: dict[str, Any] = {name: getattr(shown, name) for name in ("conn_id", "conn_type", "description", "host")}
    values |= {"schema": shown.schema, "login": shown.login, "port": shown.port, "extra": extra}
    if problem:  # the field is left out then, so that saving keeps what is stored
        values["extra"] = None
    return _form(request, values, is_new=False, stored=shown, error=problem)


@router.post("/connections/new")
def create_connection(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(CREATE, _RESOURCE))],
    conn_id: Text = "",
    conn_type: Text = "",
    description: Text = "",
    host: Text = "",
    schema_: Annotated[str, Form(alias="schema")] = "",
    login: Text = "",
    password: Text = "",
    port: Text = "",
    extra: Text = "",
) -> Response:
    """Add one."""
    values = {"conn_id": conn_id, "conn_type": conn_type, "description": description, "host": host, "schema": schema_}
    values |= {"login": login, "port": port, "extra": extra}
    try:
        fields = _fields(values)
        changes.create(store, who, Connection(conn_id=conn_id.strip(), password=password or None, **fields))
    except OpskitError as error:
        return _refused(request, {**values, "extra": ""}, error, is_new=True)
    return redirect(request, "/connections", f"connection {conn_id.strip()} was added")


@router.post("/connections/edit")
def update_connection(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(EDIT, _RESOURCE))],
    conn_id: Text,
    conn_type: Text = "",
    description: Text = "",
    host: Text = "",
    schema_: Annotated[str, Form(alias="schema")] = "",
    login: Text = "",
    password: Text = "",
    remove_password: Annotated[bool, Form()] = False,
    port: Text = "",
    extra: Annotated[str | None, Form()] = None,
) -> Response:
    """Change one. An empty password keeps the one that is there, and so does `***` among the extras."""
    values = {"conn_id": conn_id, "conn_type": conn_type, "description": description, "host": host, "schema": schema_}
    values |= {"login": login, "port": port, "extra": extra or ""}
    with store.reading() as database:
        stored = connections.show_connection(database, conn_id)
    try:
        fields = _fields(values)
        if extra is None:
            del fields["extra"]
        if password or remove_password:
            fields["password"] = password or None
        changes.update(store, who, conn_id, fields)
    except OpskitError as error:
        with store.reading() as database:
            values["extra"] = _masked_extra(store, database, stored)[0]
        return _refused(request, values, error, is_new=False, stored=stored)
    return redirect(request, "/connections", f"connection {conn_id} was changed")


@router.post("/connections/delete")
def delete_connection(
    request: Request, store: TheStore, who: Annotated[Who, Depends(allow(DELETE, _RESOURCE))], conn_id: Text
) -> RedirectResponse:
    """Delete one."""
    changes.delete(store, who, conn_id)
    return redirect(request, "/connections", f"connection {conn_id} was deleted")


@router.post("/connections/test")
def test_connection(
    request: Request, store: TheStore, who: Annotated[Who, Depends(allow(CREATE, _RESOURCE))], conn_id: Text
) -> RedirectResponse:
    """Try what is stored."""
    with store.reading() as database:
        stored = connections.get_connection(database, crypto.open_cipher(store.config), conn_id)
    works, said = connection_trial.attempt(store, who, stored)
    return redirect(request, "/connections", f"{conn_id}: {said}", "good" if works else "bad")


def _fields(values: Mapping[str, str]) -> dict[str, Any]:
    """UsageError for a port or extra that is none; it does not repeat the text, which may be a secret."""
    fields: dict[str, Any] = {
        name: values[name].strip() or None for name in ("conn_type", "description", "host", "schema", "login")
    }
    port = values["port"].strip()
    if port and not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise UsageError("port: a number from 0 to 65535 is needed")
    fields["port"] = int(port) if port else None
    extra = values["extra"].strip()
    if extra:
        try:
            parsed = json.loads(extra)
        except json.JSONDecodeError as error:
            raise UsageError(f"extra: this is no JSON: line {error.lineno}, column {error.colno}") from None
        if not isinstance(parsed, dict):
            raise UsageError('extra: a JSON object is needed, such as {"sslmode": "require"}')
    fields["extra"] = extra or None
    return fields


def _masked_extra(store: Store, database: Any, shown: Shown) -> tuple[str, str]:
    """(the keys with `***` for values, what is wrong)"""
    if not shown.has_extra:
        return "", ""
    try:
        extra = connections.shown_extra(database, crypto.open_cipher(store.config), shown.conn_id)
    except OpskitError as error:
        return "", error.message
    return json.dumps(dict.fromkeys(extra, MASK), indent=2, ensure_ascii=False), ""


def _form(
    request: Request,
    values: Mapping[str, Any],
    *,
    is_new: bool,
    stored: Shown | None = None,
    error: str = "",
    status: int = 200,
) -> HTMLResponse:
    names = ("conn_id", "conn_type", "description", "host", "schema", "login", "port", "extra")
    return render(
        request,
        "connection.html",
        status=status,
        values={name: values.get(name) for name in names},
        kind=connection_types.describe(str(values.get("conn_type") or "")),
        choices=connection_types.choices(),
        is_new=is_new,
        stored=stored,
        error=error,
    )


def _refused(
    request: Request, values: Mapping[str, Any], error: OpskitError, *, is_new: bool, stored: Shown | None = None
) -> HTMLResponse:
    if isinstance(error, Forbidden):
        raise error
    said = f"{error.message}. {error.hint}" if error.hint else error.message
    return _form(request, values, is_new=is_new, stored=stored, error=said, status=status_of(error))
