"""Users and roles of an Airflow: read from the tables of its FAB auth manager, and written into ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore import passwords, permissions, roles, users
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.objects import Fields, Objects, Write
from opskit.errors import OpskitError, UsageError

_RENAMED = {"Assets": "Datasets", "Cluster activity": "Cluster Activity", "Import Error": "ImportError"}
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of the tables ab_… by the name of the table."""
Problems = list[tuple[str, str]]


def read_users(rows: Rows, problems: Problems) -> dict[str, Fields]:
    """username → first_name, last_name, email, active, roles, password (its hash, or None). A hash that can't be
    checked here is a problem, and left out."""
    named = {row["id"]: str(row["name"]) for row in rows["ab_role"]}
    of_user: dict[int, list[str]] = {}
    for row in rows["ab_user_role"]:
        if row["role_id"] in named:
            of_user.setdefault(row["user_id"], []).append(named[row["role_id"]])
    found: dict[str, Fields] = {}
    for row in rows["ab_user"]:
        name, password = str(row["username"]), row.get("password") or None
        if password is not None and not passwords.is_understood(password):
            problems.append((f"users/{name}.password", "its hash is of a kind that opskit does not know"))
            password = None
        found[name] = {
            "first_name": row.get("first_name") or "",
            "last_name": row.get("last_name") or "",
            "email": row.get("email") or "",
            "active": bool(row.get("active", True)),
            "roles": sorted(of_user.get(row["id"], ())),
            "password": password,
        }
    return found


def read_roles(rows: Rows, problems: Problems) -> dict[str, Fields]:
    """Name → permissions, as `role_fields` has them."""
    actions = {row["id"]: str(row["name"]) for row in rows["ab_permission"]}
    resources = {row["id"]: str(row["name"]) for row in rows["ab_view_menu"]}
    pairs = {
        row["id"]: (actions[row["permission_id"]], resources[row["view_menu_id"]])
        for row in rows["ab_permission_view"]
        if row["permission_id"] in actions and row["view_menu_id"] in resources
    }
    of_role: dict[int, list[tuple[str, str]]] = {}
    for row in rows["ab_permission_view_role"]:
        if row["permission_view_id"] in pairs:
            of_role.setdefault(row["role_id"], []).append(pairs[row["permission_view_id"]])
    return {
        str(row["name"]): role_fields(str(row["name"]), of_role.get(row["id"], ()), problems)
        for row in rows["ab_role"]
        if row["name"] not in permissions.ROLES
    }


def role_fields(name: str, pairs: Iterable[tuple[str, str]], problems: Problems) -> Fields:
    """`permissions`: the pairs (action, resource) that opskit knows, sorted. The others are one problem."""
    known, unknown = set(), set()
    for action, resource in pairs:
        try:
            known.add(permissions.checked(action, _RENAMED.get(resource, resource)))
        except UsageError:
            unknown.add(f"{action} on {resource}")
    if unknown:
        first = sorted(unknown)[0]
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        problems.append((f"roles/{name}.permissions", f"opskit has no {first}{more}"))
    return {"permissions": [list(pair) for pair in sorted(known)]}


def builtin_roles() -> frozenset[str]:
    """Those that are always there: they are as they are here, whatever they allowed there."""
    return frozenset(permissions.ROLES)


def people_here(engine: Engine) -> Objects:
    """Users and roles of ours, in the same fields; of a password only whether there is one."""
    with reading(engine) as connection:
        return {
            "roles": {
                role.name: {"permissions": [list(pair) for pair in sorted(role.permissions)]}
                for role in roles.list_roles(connection)
            },
            "users": {
                user.username: {
                    "first_name": user.first_name,
                    "last_name": user.last_name,
                    "email": user.email,
                    "active": user.is_active,
                    "roles": sorted(user.roles),
                    "password": user.has_password,
                }
                for user in users.list_users(connection)
            },
        }


def take_people(engine: Engine, writes: Sequence[Write], now: datetime) -> tuple[int, Problems]:
    """Write roles and users, each in a transaction of its own, roles first. How many were written; what was not."""
    taken, problems = 0, Problems()
    for write in sorted(writes, key=lambda one: (one.kind, one.name)):
        try:
            with transaction(engine) as connection:
                assert write.fields is not None
                if write.kind == "roles":
                    _take_role(connection, write.name, write.fields)
                else:
                    _take_user(connection, write.name, write.fields, now)
            taken += 1
        except OpskitError as error:
            problems.append((f"{write.kind}/{write.name}", error.message))
    return taken, problems


def _take_role(connection: Connection, name: str, fields: Fields) -> None:
    pairs = [(action, resource) for action, resource in fields["permissions"]]
    if any(role.name == name for role in roles.list_roles(connection)):
        roles.set_permissions(connection, name, pairs)
    else:
        roles.create_role(connection, name, pairs)


def _take_user(connection: Connection, name: str, fields: Fields, now: datetime) -> None:
    values = {key: fields[key] for key in ("first_name", "last_name", "email", "roles")}
    values["is_active"] = fields["active"]
    if users.find_user(connection, name) is None:
        users.create_user(connection, name, now, password_hash=fields["password"], **values)
        return
    if fields["password"] is not None:
        values["password_hash"] = fields["password"]
    users.update_user(connection, name, now, values)
