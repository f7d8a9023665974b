"""The pages of users: list, add, edit, another password, delete."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from opskit.core.metastore import users
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.roles import list_roles
from opskit.core.metastore.users import User
from opskit.errors import OpskitError, UsageError
from opskit.web.changes import users as changes
from opskit.web.faults import status_of
from opskit.web.flash import redirect
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.render import render
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False, prefix="/users")
_Reader = Annotated[Who, Depends(allow(READ, "Users"))]
_Text = Annotated[str, Form()]
_Texts = Annotated[list[str], Form()]


@router.get("")
def list_page(request: Request, store: TheStore, who: _Reader, search: str = "") -> HTMLResponse:
    with store.reading() as connection:
        found = users.list_users(connection)
    wanted = search.strip().casefold()
    chosen = [one for one in found if wanted in f"{one.username} {one.name} {one.email}".casefold()]
    values: dict[str, Any] = {
        "users": chosen[:500],
        "total": len(found),
        "search": search,
        "hidden": max(0, len(chosen) - 500),
    }
    return render(request, "users.html", may_create=who.can(CREATE, "Users"), **values)


@router.get("/new")
def new_page(request: Request, store: TheStore, who: SignedIn) -> HTMLResponse:
    who.require(CREATE, "Users")
    return _form(request, store, who, None, {"roles": ["Viewer"], "is_active": True})


@router.post("/new")
def create(
    request: Request,
    store: TheStore,
    who: SignedIn,
    username: _Text = "",
    first_name: _Text = "",
    last_name: _Text = "",
    email: _Text = "",
    password: _Text = "",
    elsewhere: _Text = "",
    role: _Texts = [],  # noqa: B006 -- FastAPI copies it
) -> Response:
    who.require(CREATE, "Users")
    given = {"first_name": first_name, "last_name": last_name, "email": email}
    try:
        if not password and not elsewhere:
            raise UsageError("give the user a password, or say that the person signs in elsewhere")
        changes.create(store, who, username, password=password or None, roles=role, **given)
    except UsageError as error:
        return _form(request, store, who, None, {**given, "username": username, "roles": role}, error)
    return redirect(request, "/users", f"The user {username} is there.")


@router.get("/{username}")
def edit_page(request: Request, store: TheStore, who: _Reader, username: str) -> HTMLResponse:
    with store.reading() as connection:
        user = users.get_user(connection, username)
    return _form(request, store, who, user, None)


@router.post("/{username}")
def edit(
    request: Request,
    store: TheStore,
    who: SignedIn,
    username: str,
    first_name: _Text = "",
    last_name: _Text = "",
    email: _Text = "",
    is_active: _Text = "",
    role: _Texts = [],  # noqa: B006 -- FastAPI copies it
) -> Response:
    with store.reading() as connection:
        user = users.get_user(connection, username)
    given: dict[str, Any] = {"first_name": first_name, "last_name": last_name, "email": email}
    given |= {"roles": tuple(role), "is_active": is_active == "true"}
    before = {"roles": tuple(sorted(user.roles)), "is_active": user.is_active}
    changed = {
        name: value
        for name, value in given.items()
        if (tuple(sorted(value)) if name == "roles" else value) != before.get(name, getattr(user, name))
    }
    try:
        who.require(EDIT, "Users")
        if changed:
            changes.update(store, who, username, changed)
    except (UsageError, OpskitError) as error:
        if status_of(error) in (400, 409):
            return _form(request, store, who, user, given, error)
        raise
    return redirect(request, "/users", f"The user {username} is changed." if changed else "Nothing has changed.")


@router.post("/{username}/reset-password")
def reset_password(request: Request, store: TheStore, who: SignedIn, username: str) -> HTMLResponse:
    password = changes.reset_password(store, who, username)
    with store.reading() as connection:
        user = users.get_user(connection, username)
    return _form(request, store, who, user, None, password=password)


@router.post("/{username}/delete")
def delete(request: Request, store: TheStore, who: SignedIn, username: str) -> Response:
    changes.delete(store, who, username)
    return redirect(request, "/users", f"The user {username} is deleted.")


def _form(
    request: Request,
    store: Store,
    who: Who,
    user: User | None,
    given: dict[str, Any] | None,
    error: OpskitError | None = None,
    password: str = "",
) -> HTMLResponse:
    with store.reading() as connection:
        names = _role_names(connection)
    values = {name: getattr(user, name) for name in ("username", *users.FIELDS[1:6])} if user else {}
    return render(
        request,
        "user.html",
        status=status_of(error) if error else 200,
        user=user,
        fields={**dict.fromkeys(users.FIELDS, ""), **values, **(given or {})},
        roles=names,
        error=error.message if error else "",
        password=password,
        may_edit=who.can(EDIT if user else CREATE, "Users"),
        may_delete=who.can(DELETE, "Users"),
        path=f"/users/{quote(user.username, safe='')}" if user else "/users/new",
    )


def _role_names(connection: Connection) -> list[str]:
    return [role.name for role in list_roles(connection)]
