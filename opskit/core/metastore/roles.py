"""Roles: what people may do. Rows hold those that people made, and what they added to those of permissions.py."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection

from opskit.core.metastore.dags import nearest
from opskit.core.metastore.permissions import (
    ADMIN,
    DELETE,
    EDIT,
    READ,
    ROLES,
    Permission,
    checked,
    dag_of,
    grants_of,
)
from opskit.core.metastore.tables import dag, web_role, web_user
from opskit.errors import GuardRefused, NotFound, UsageError

_LONGEST_NAME = 64
# Made once: every request asks these.
_ALL = select(web_role.c.name, web_role.c.permissions)
_CONTROLLED = select(dag.c.dag_id, dag.c.access_control).where(dag.c.access_control.is_not(None))


@dataclass(frozen=True, slots=True)
class Role:
    """One role with all that it allows, but what DAG files give to it."""

    name: str
    permissions: frozenset[Permission]

    @property
    def is_builtin(self) -> bool:
        return self.name in ROLES

    @property
    def added(self) -> frozenset[Permission]:
        """What can be taken from it."""
        return self.permissions - ROLES.get(self.name, frozenset())


def list_roles(connection: Connection) -> list[Role]:
    """All roles: first those that are always there, from the weakest to the strongest, then the others by name."""
    rows = {row.name: _read(row.permissions) for row in connection.execute(select(web_role))}
    names = [*ROLES, *sorted(rows.keys() - ROLES.keys())]
    return [Role(name, ROLES.get(name, frozenset()) | rows.get(name, frozenset())) for name in names]


def get_role(connection: Connection, name: str, *, lock: bool = False) -> Role:
    """One role. NotFound, naming the nearest one, when there is none."""
    query = select(web_role.c.permissions).where(web_role.c.name == name)
    # Some databases take no text with a NUL.
    text = connection.execute(query.with_for_update() if lock else query).scalar() if name.isprintable() else None
    if text is None and name not in ROLES:
        raise NotFound(
            f"there is no role {name!r}", hint=nearest(name, [known.name for known in list_roles(connection)])
        )
    return Role(name, ROLES.get(name, frozenset()) | (_read(text) if text else frozenset()))


def require_roles(connection: Connection, names: Iterable[str]) -> None:
    """NotFound for the first that is no role."""
    for name in names:
        if name not in ROLES:
            get_role(connection, name)


def permissions_of(connection: Connection, names: Collection[str]) -> frozenset[Permission]:
    """What somebody with these roles may do. Names that are no roles give nothing."""
    given = frozenset[Permission]().union(*(ROLES.get(name, frozenset()) for name in names))
    if not names or ADMIN in names:
        return given
    rows = connection.execute(_ALL)
    given = given.union(*(_read(row.permissions) for row in rows if row.name in names))
    if all((action, "DAGs") in given for action in (READ, EDIT, DELETE)):
        return given  # there is nothing that one DAG could add
    own = connection.execute(_CONTROLLED)
    return given.union(*(grants_of(row.dag_id, _controls(row.access_control), names) for row in own))


def create_role(connection: Connection, name: str, permissions: Iterable[Permission] = ()) -> Role:
    """A new role. UsageError for a name that can't be one or is taken."""
    _check_name(name)
    wanted = _checked(permissions)
    taken = connection.execute(select(web_role.c.name).where(web_role.c.name == name).with_for_update()).first()
    if taken is not None or name in ROLES:
        raise UsageError(f"there is a role {name!r} already")
    connection.execute(insert(web_role).values(name=name, permissions=_text(wanted)))
    return Role(name, wanted)


def set_permissions(connection: Connection, name: str, permissions: Iterable[Permission]) -> Role:
    """Let a role allow exactly this. GuardRefused when it would take what belongs to a role that is always there."""
    before, wanted = get_role(connection, name, lock=True), _checked(permissions)
    base = ROLES.get(name, frozenset())
    if lost := sorted(base - wanted):
        action, resource = lost[0]
        raise GuardRefused(
            f"{action} on {resource} belongs to the role {name} and can't be taken from it",
            hint="make a role of your own with less: opskit roles create",
        )
    if name == ADMIN and any(dag_of(resource) is None for _, resource in wanted - base):
        raise GuardRefused("the role Admin allows everything already")
    if wanted == before.permissions:
        return before
    values = {"permissions": _text(wanted - base)}
    if not connection.execute(update(web_role).where(web_role.c.name == name).values(**values)).rowcount:
        connection.execute(insert(web_role).values(name=name, **values))
    return Role(name, wanted)


def add_permissions(connection: Connection, name: str, permissions: Iterable[Permission]) -> Role:
    """Let a role allow this, too."""
    return set_permissions(connection, name, get_role(connection, name, lock=True).permissions | set(permissions))


def remove_permissions(connection: Connection, name: str, permissions: Iterable[Permission]) -> Role:
    """Take this from a role; what it does not have is nothing to take."""
    return set_permissions(connection, name, get_role(connection, name, lock=True).permissions - set(permissions))


def delete_role(connection: Connection, name: str) -> list[str]:
    """Delete a role; the usernames that had it. GuardRefused for one that is always there."""
    get_role(connection, name)
    if name in ROLES:
        raise GuardRefused(f"the role {name} is always there and can't be deleted")
    had = _replace_in_users(connection, name, None)
    connection.execute(delete(web_role).where(web_role.c.name == name))
    return had


def rename_role(connection: Connection, name: str, new_name: str) -> Role:
    """Give a role another name; who has it keeps it. GuardRefused for one that is always there."""
    role = get_role(connection, name, lock=True)
    if name in ROLES:
        raise GuardRefused(f"the role {name} is always there and keeps its name")
    _check_name(new_name)
    if new_name in ROLES or connection.execute(select(web_role.c.name).where(web_role.c.name == new_name)).first():
        raise UsageError(f"there is a role {new_name!r} already")
    connection.execute(update(web_role).where(web_role.c.name == name).values(name=new_name))
    _replace_in_users(connection, name, new_name)
    return Role(new_name, role.permissions)


def _replace_in_users(connection: Connection, name: str, new_name: str | None) -> list[str]:
    """Usernames of those who had the role, and have the other (None: none) in its place."""
    had = []
    for row in connection.execute(select(web_user.c.id, web_user.c.username, web_user.c.roles).with_for_update()).all():
        roles = json.loads(row.roles)
        if name in roles:
            had.append(row.username)
            left = [new_name if role == name else role for role in roles if role != name or new_name is not None]
            text = json.dumps(left, ensure_ascii=False)
            connection.execute(update(web_user).where(web_user.c.id == row.id).values(roles=text))
    return sorted(had)


def _check_name(name: str) -> None:
    if not name.strip() or name != name.strip() or len(name) > _LONGEST_NAME or not name.isprintable() or "/" in name:
        raise UsageError(f"a role's name has 1 to {_LONGEST_NAME} characters, no / and no spaces around it")


def _checked(permissions: Iterable[Permission]) -> frozenset[Permission]:
    return frozenset(checked(action, resource) for action, resource in permissions)


def _text(permissions: Collection[Permission]) -> str:
    return json.dumps(sorted(permissions), ensure_ascii=False)


@lru_cache(maxsize=256)
def _read(text: str) -> frozenset[Permission]:
    return frozenset((action, resource) for action, resource in json.loads(text))


@lru_cache(maxsize=4096)
def _controls(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text)
    return found
