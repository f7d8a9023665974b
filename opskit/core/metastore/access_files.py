"""Reads and writes the files in which Airflow exports users and roles (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from opskit.core.metastore import passwords, roles, users
from opskit.core.metastore.permissions import ROLES, Permission, checked
from opskit.errors import UsageError


@dataclass(slots=True)
class ImportedAccess:
    """What an import did, by name; `skipped`: what has no meaning here, and why."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    without_password: list[str] = field(default_factory=list)
    """Users who can't sign in with a password until one is set."""


def dump_users(connection: Connection, *, hashes: bool = False) -> str:
    """All users as `airflow users export` writes them; with `hashes`, those of their passwords, too."""
    rows = []
    for user in users.list_users(connection):
        row: dict[str, Any] = {
            "id": user.id,
            "username": user.username,
            "email": user.email,
            "firstname": user.first_name,
            "lastname": user.last_name,
            "roles": list(user.roles),
            "active": user.is_active,
        }
        if hashes:
            found = users.credentials(connection, user.username)
            row["password_hash"] = found[1] if found else None
        rows.append(row)
    return json.dumps(rows, indent=4, ensure_ascii=False) + "\n"


def import_users(connection: Connection, text: str, where: str, now: datetime) -> ImportedAccess:
    """Add and change users by such a file; nothing when it has a mistake (UsageError naming the user). A user that is
    new has the password that `password_hash` belongs to (werkzeug's formats), or none."""
    done = ImportedAccess()
    for number, row in enumerate(_rows(text, where), 1):
        name = row.get("username")
        if not isinstance(name, str) or not name:
            raise UsageError(f"{where}: entry {number} has no username")
        try:
            _import_user(connection, name, row, now, done)
        except UsageError as error:
            raise UsageError(f"{where}: {name}: {error.message}", hint=error.hint) from error
    return done


def _import_user(
    connection: Connection, name: str, row: Mapping[str, Any], now: datetime, done: ImportedAccess
) -> None:
    fields: dict[str, Any] = {}
    for theirs, ours in (("firstname", "first_name"), ("lastname", "last_name"), ("email", "email")):
        if isinstance(row.get(theirs), str):
            fields[ours] = row[theirs]
    if isinstance(row.get("active"), bool):
        fields["is_active"] = row["active"]
    names = row.get("roles", [])
    if not isinstance(names, list) or not all(isinstance(role, str) for role in names):
        raise UsageError("roles is no list of names")
    stored = row.get("password_hash")
    if stored is not None and not (isinstance(stored, str) and passwords.is_understood(stored)):
        raise UsageError("password_hash is of a kind that opskit does not know")
    before = users.credentials(connection, name)
    if before is None:
        users.create_user(connection, name, now, roles=names, password_hash=stored, **fields)
        done.added.append(name)
        if stored is None:
            done.without_password.append(name)
        return
    user, hash_now = before
    if "roles" in row:
        fields["roles"] = tuple(names)
    if stored is not None and stored != hash_now:
        fields["password_hash"] = stored
    fields = {key: value for key, value in fields.items() if key == "password_hash" or value != getattr(user, key)}
    if fields:
        users.update_user(connection, name, now, fields)
    (done.changed if fields else done.unchanged).append(name)


def dump_roles(found: Iterable[roles.Role]) -> str:
    """Roles as `airflow roles export` writes them: a row per role and resource."""
    rows = []
    for role in found:
        resources = sorted({resource for _, resource in role.permissions})
        for resource in resources or [""]:
            actions = ",".join(sorted(action for action, on in role.permissions if on == resource))
            rows.append({"name": role.name, "resource": resource, "action": actions})
    return json.dumps(rows, indent=4, ensure_ascii=False) + "\n"


def import_roles(connection: Connection, text: str, where: str) -> ImportedAccess:
    """Add what such a file gives to roles, and roles that are not there; nothing is taken from any. A plain list of
    names, as older Airflow writes it, makes roles that allow nothing."""
    wanted: dict[str, set[Permission]] = {}
    done = ImportedAccess()
    for row in _rows(text, where, names=True):
        name = row.get("name")
        if not isinstance(name, str) or not name:
            raise UsageError(f"{where}: a role without a name")
        given = wanted.setdefault(name, set())
        resource = row.get("resource") or ""
        for action in filter(None, str(row.get("action") or "").split(",")):
            try:
                given.add(checked(action.strip(), str(resource)))
            except UsageError:
                # Pages of Airflow's own that opskit does not have.
                done.skipped.append(f"{name}: {action.strip()} on {resource}")
    for name, given in wanted.items():
        known = {role.name: role for role in roles.list_roles(connection)}
        if name not in known:
            roles.create_role(connection, name, given)
            done.added.append(name)
        elif name == "Admin" or given <= known[name].permissions:
            done.unchanged.append(name)
        else:
            roles.add_permissions(connection, name, given)
            done.changed.append(name)
    return done


def own_roles(connection: Connection) -> list[roles.Role]:
    """Those that an export is for: made by people, or added to."""
    return [role for role in roles.list_roles(connection) if role.name not in ROLES or role.added]


def _rows(text: str, where: str, *, names: bool = False) -> Sequence[Mapping[str, Any]]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {error}") from error
    if not isinstance(data, list):
        raise UsageError(f"{where}: a list is needed")
    rows = [{"name": one} if names and isinstance(one, str) else one for one in data]
    for row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"{where}: {row!r} stands where an object is needed")
    return rows
