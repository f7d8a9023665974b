"""/roles and /permissions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.core.metastore import roles
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.permissions import ACTIONS, Permission
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Answer, Body, Listing, UpdateMask, changed, paged
from opskit.web.changes import roles as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.store import TheStore

router = APIRouter()
_Reader = Annotated[Who, Depends(allow(READ, "Roles"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Roles"))]
_Editor = Annotated[Who, Depends(allow(EDIT, "Roles"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Roles"))]


class Action(Answer):
    name: str


class Resource(Answer):
    name: str


class ActionResource(Answer):
    """A permission: an action on a resource."""

    action: Action
    resource: Resource


class Role(Answer):
    name: str = Field(min_length=1)
    actions: list[ActionResource]


class RoleCollection(Listing):
    roles: list[Role]


class ActionCollection(Listing):
    actions: list[Action]


class GivenName(Body):
    name: str


class GivenPermission(Body):
    action: GivenName
    resource: GivenName


class RoleFields(Body):
    """What can be changed of a role: `actions` is all that it allows."""

    name: str | None = Field(None, min_length=1, max_length=64)
    actions: list[GivenPermission] | None = None


class NewRole(RoleFields):
    name: str = Field(min_length=1, max_length=64)


@router.get("/roles", operation_id="get_roles", tags=["Role"])
def get_roles(store: TheStore, _: _Reader, window: Annotated[Window, paged("name", "role_id")]) -> RoleCollection:
    """List roles. `role_id` is the name, too."""
    with store.reading() as connection:
        found = sorted(roles.list_roles(connection), key=lambda role: role.name, reverse=window.descending)
    return RoleCollection(roles=[_answer(one) for one in window.of(found)], total_entries=len(found))


@router.post("/roles", operation_id="post_role", tags=["Role"])
def post_role(store: TheStore, who: _Creator, body: NewRole) -> Role:
    """Add a role."""
    return _answer(changes.create(store, who, body.name, _permissions(body) or ()))


@router.get("/roles/{role_name:path}", operation_id="get_role", tags=["Role"])
def get_role(store: TheStore, _: _Reader, role_name: str) -> Role:
    """Get a role."""
    with store.reading() as connection:
        return _answer(roles.get_role(connection, role_name))


@router.patch("/roles/{role_name:path}", operation_id="patch_role", tags=["Role"])
def patch_role(store: TheStore, who: _Editor, role_name: str, body: RoleFields, mask: UpdateMask) -> Role:
    """Change what a role allows, or its name."""
    fields = changed(body, mask)
    if None in fields.values():
        raise UsageError("name and actions can't be null", hint="leave out what shall stay")
    permissions = _permissions(body) if "actions" in fields else None
    return _answer(changes.update(store, who, role_name, permissions=permissions, new_name=fields.get("name")))


@router.delete("/roles/{role_name:path}", operation_id="delete_role", tags=["Role"], status_code=204)
def delete_role(store: TheStore, who: _Deleter, role_name: str) -> None:
    """Delete a role; those who have it lose it."""
    changes.delete(store, who, role_name)


@router.get("/permissions", operation_id="get_permissions", tags=["Permission"])
def get_permissions(
    _: Annotated[Who, Depends(allow(READ, "Permissions"))], window: Annotated[Window, paged()]
) -> ActionCollection:
    """List the actions that a permission can name."""
    return ActionCollection(actions=[Action(name=name) for name in window.of(ACTIONS)], total_entries=len(ACTIONS))


def _permissions(body: RoleFields) -> list[Permission] | None:
    return None if body.actions is None else [(one.action.name, one.resource.name) for one in body.actions]


def _answer(role: roles.Role) -> Role:
    return Role(
        name=role.name,
        actions=[
            ActionResource(action=Action(name=action), resource=Resource(name=resource))
            for action, resource in sorted(role.permissions)
        ],
    )
