"""Roles: create, update, delete."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from opskit.core.metastore import roles, users
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.permissions import Permission
from opskit.core.metastore.roles import Role
from opskit.errors import GuardRefused, NotFound
from opskit.web.changes import auditing
from opskit.web.faults import Conflict
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store

RESOURCE = "Roles"


def create(store: Store, who: Who, name: str, permissions: Iterable[Permission] = ()) -> Role:
    """Forbidden; Conflict when the name is taken; UsageError for a name, action or resource that can't be one."""
    who.require(CREATE, RESOURCE)
    with store.changing() as connection:
        _require_free(connection, name)
        made = roles.create_role(connection, name, permissions)
        auditing.write(connection, who, "roles create", datetime.now(UTC), role=name, permissions=_text(made))
        return made


def update(
    store: Store, who: Who, name: str, *, permissions: Iterable[Permission] | None = None, new_name: str | None = None
) -> Role:
    """Let a role allow exactly this (None: what it does), or have another name; its users keep it.

    Forbidden, NotFound, Conflict, UsageError; GuardRefused for what can't be taken from a role that is always there."""
    who.require(EDIT, RESOURCE)
    now = datetime.now(UTC)
    with store.changing() as connection:
        changed = roles.get_role(connection, name, lock=True)
        if permissions is not None:
            changed = roles.set_permissions(connection, name, permissions)
        if new_name not in (None, name):
            changed = _renamed(connection, changed, str(new_name), now)
        extra = {} if changed.name == name else {"to": changed.name}
        auditing.write(connection, who, "roles edit", now, role=name, permissions=_text(changed), **extra)
        return changed


def delete(store: Store, who: Who, name: str) -> None:
    """Delete a role, also from those who have it. Forbidden, NotFound; GuardRefused for one that is always there."""
    who.require(DELETE, RESOURCE)
    with store.changing() as connection:
        had = roles.delete_role(connection, name)
        auditing.write(connection, who, "roles delete", datetime.now(UTC), role=name, users=had)


def _renamed(connection: Connection, role: Role, name: str, now: datetime) -> Role:
    if role.is_builtin:
        raise GuardRefused(f"the role {role.name} is always there and keeps its name")
    _require_free(connection, name)
    made = roles.create_role(connection, name, role.permissions)
    for user in users.list_users(connection):
        if role.name in user.roles:
            kept = [name if one == role.name else one for one in user.roles]
            users.update_user(connection, user.username, now, {"roles": kept})
    roles.delete_role(connection, role.name)
    return made


def _require_free(connection: Connection, name: str) -> None:
    try:
        roles.get_role(connection, name)
    except NotFound:
        return
    raise Conflict(f"there is a role {name!r} already", hint="edit it, or choose another name")


def _text(role: Role) -> list[str]:
    return [f"{action} on {resource}" for action, resource in sorted(role.permissions)]
