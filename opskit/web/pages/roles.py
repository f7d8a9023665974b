"""The pages of roles: what each allows, of everything and of single DAGs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response

from opskit.core.metastore import roles, users
from opskit.core.metastore.permissions import ACTIONS, RESOURCES, ROLES, Permission, is_of_one_dag, one_dag, runs_of
from opskit.core.metastore.roles import Role
from opskit.errors import OpskitError, UsageError
from opskit.web.changes import roles as changes
from opskit.web.faults import status_of
from opskit.web.flash import redirect
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.render import render
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False, prefix="/roles")
_Reader = Annotated[Who, Depends(allow(READ, "Roles"))]
_Text = Annotated[str, Form()]
_Texts = Annotated[list[str], Form()]
_OF_ONE_DAG = (READ, EDIT, DELETE)


@router.get("")
def list_page(request: Request, store: TheStore, who: _Reader) -> HTMLResponse:
    return _list(request, store, who)


@router.post("")
def create(request: Request, store: TheStore, who: SignedIn, name: _Text = "", like: _Text = "") -> Response:
    who.require(CREATE, "Roles")
    try:
        with store.reading() as connection:
            permissions = roles.get_role(connection, like).permissions if like else frozenset()
        changes.create(store, who, name, permissions)
    except UsageError as error:
        return _list(request, store, who, name, error)
    return redirect(request, _path(name), f"The role {name} is there.")


@router.get("/{name}")
def role_page(request: Request, store: TheStore, who: _Reader, name: str) -> HTMLResponse:
    with store.reading() as connection:
        role = roles.get_role(connection, name)
    return _form(request, store, who, role)


@router.post("/{name}")
def edit(
    request: Request,
    store: TheStore,
    who: SignedIn,
    name: str,
    permission: _Texts = [],  # noqa: B006 -- FastAPI copies it
    dag_id: _Text = "",
    dag_action: _Texts = [],  # noqa: B006
) -> Response:
    with store.reading() as connection:
        role = roles.get_role(connection, name)
    wanted = set(ROLES.get(name, frozenset())) | {_permission(text) for text in permission}
    if dag_id.strip():
        wanted |= _of_dag(dag_id.strip(), dag_action)
    try:
        done = changes.update(store, who, name, permissions=wanted)
    except OpskitError as error:
        if status_of(error) in (400, 409):
            return _form(request, store, who, role, error)
        raise
    said = f"The role {name} is changed." if done.permissions != role.permissions else "Nothing has changed."
    return redirect(request, _path(name), said)


@router.post("/{name}/delete")
def delete(request: Request, store: TheStore, who: SignedIn, name: str) -> Response:
    had = changes.delete(store, who, name)
    return redirect(request, "/roles", f"The role {name} is deleted. {len(had)} users had it.")


def _permission(text: str) -> Permission:
    action, _, resource = text.partition(" ")
    return action, resource


def _of_dag(dag_id: str, actions: Iterable[str]) -> set[Permission]:
    """What a role needs for this on one DAG. Starting runs is a right to its runs."""
    given = set[Permission]()
    for action in actions:
        given.add((CREATE, runs_of(dag_id)) if action == CREATE else (action, one_dag(dag_id)))
    return given


def _path(name: str) -> str:
    return f"/roles/{quote(name, safe='')}"


def _list(request: Request, store: Store, who: Who, name: str = "", error: OpskitError | None = None) -> HTMLResponse:
    with store.reading() as connection:
        found, people = roles.list_roles(connection), users.list_users(connection)
    rows = [(role, _path(role.name), sum(role.name in one.roles for one in people)) for role in found]
    values: dict[str, Any] = {"rows": rows, "name": name, "error": error.message if error else ""}
    status = status_of(error) if error else 200
    return render(request, "roles.html", status=status, may_create=who.can(CREATE, "Roles"), **values)


def _form(request: Request, store: Store, who: Who, role: Role, error: OpskitError | None = None) -> HTMLResponse:
    base = ROLES.get(role.name, frozenset())
    with store.reading() as connection:
        having = [one.username for one in users.list_users(connection) if role.name in one.roles]
    own = sorted({resource for _, resource in role.permissions if is_of_one_dag(resource)})
    return render(
        request,
        "role.html",
        status=status_of(error) if error else 200,
        role=role,
        base=base,
        actions=ACTIONS,
        resources=RESOURCES,
        own=own,
        dag_actions=(*_OF_ONE_DAG, CREATE),
        having=having,
        error=error.message if error else "",
        path=_path(role.name),
        may_edit=who.can(EDIT, "Roles") and role.name != "Admin",
        may_delete=who.can(DELETE, "Roles") and not role.is_builtin,
    )
