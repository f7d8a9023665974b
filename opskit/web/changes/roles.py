"""What a person may change about roles. Nobody gives away more than one may oneself."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import roles
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.permissions import ROLES, Permission
from opskit.core.metastore.roles import Role
from opskit.web.changes import auditing
from opskit.web.faults import Conflict, Forbidden
from opskit.web.identity import CREATE, DELETE, EDIT, Who, exceeding
from opskit.web.store import Store

_RESOURCE = "Roles"


def create(store: Store, who: Who, name: str, permissions: Collection[Permission] = ()) -> Role:
    """A new role. Forbidden, also for permissions that `who` lacks; Conflict; UsageError."""
    who.require(CREATE, _RESOURCE)
    now = datetime.now(UTC)
    _may_give(who, permissions)
    with store.writing() as connection:
        _require_free(connection, name)
        role = roles.create_role(connection, name, permissions)
        auditing.write(connection, who, "roles create", now, role=name, permissions=sorted(permissions))
    return role


def update(
    store: Store,
    who: Who,
    name: str,
    *,
    permissions: Collection[Permission] | None = None,
    new_name: str | None = None,
) -> Role:
    """Let a role allow exactly this, give it another name, or both. Raises as `create`; GuardRefused for what can't be
    taken from it."""
    who.require(EDIT, _RESOURCE)
    now = datetime.now(UTC)
    with store.writing() as connection:
        role = roles.get_role(connection, name, lock=True)
        before = role.permissions
        if permissions is not None:
            _may_give(who, frozenset(permissions) ^ before)
            role = roles.set_permissions(connection, name, permissions)
        told: dict[str, Any] = {}
        if role.permissions != before:
            told = {"added": sorted(role.permissions - before), "removed": sorted(before - role.permissions)}
        if new_name is not None and new_name != name:
            _may_give(who, before)
            _require_free(connection, new_name)
            role = roles.rename_role(connection, name, new_name)
            told["new_name"] = new_name
        if told:
            auditing.write(connection, who, "roles edit", now, role=name, **told)
    return role


def delete(store: Store, who: Who, name: str) -> list[str]:
    """Delete a role; the usernames that had it. GuardRefused for one that is always there."""
    who.require(DELETE, _RESOURCE)
    now = datetime.now(UTC)
    with store.writing() as connection:
        _may_give(who, roles.get_role(connection, name).permissions if name not in ROLES else ())
        had = roles.delete_role(connection, name)
        auditing.write(connection, who, "roles delete", now, role=name, users=had)
    return had


def _require_free(connection: Connection, name: str) -> None:
    if name in {role.name for role in roles.list_roles(connection)}:
        raise Conflict(f"there is a role {name!r} already")


def _may_give(who: Who, permissions: Collection[Permission]) -> None:
    if too_much := exceeding(who, permissions):
        raise Forbidden(f"you may not do {' on '.join(too_much)} yourself: you can't give or take it")
