"""Users: create, update, delete. Passwords come in as text, are hashed here, and never come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import passwords, users
from opskit.core.metastore.users import Taken, User
from opskit.errors import NotFound, UsageError
from opskit.web.changes import auditing
from opskit.web.faults import Conflict
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store

RESOURCE = "Users"


def create(
    store: Store,
    who: Who,
    username: str,
    *,
    roles: Iterable[str],
    password: str | None = None,
    first_name: str = "",
    last_name: str = "",
    email: str = "",
) -> User:
    """Add a user; without a password, one who can't sign in with one.

    Forbidden; Conflict when username or e-mail address is taken; UsageError for an unknown role, a password that is too
    weak, or another value that can't be."""
    who.require(CREATE, RESOURCE)
    password_hash = _hashed(password, username)
    now = datetime.now(UTC)
    chosen = list(roles)
    with store.changing() as connection:
        try:
            made = users.create_user(
                connection,
                username,
                now,
                roles=chosen,
                password_hash=password_hash,
                first_name=first_name,
                last_name=last_name,
                email=email,
            )
        except Taken as error:
            raise Conflict(error.message) from error
        except NotFound as error:
            raise UsageError(error.message, hint=error.hint) from error
        auditing.write(connection, who, "users create", now, username=username, roles=chosen)
        return made


def update(store: Store, who: Who, username: str, fields: Mapping[str, Any]) -> User:
    """Change some of username, first_name, last_name, email, is_active, roles, password, and nothing else.

    Raises as `create`; NotFound; GuardRefused when no active Admin would be left."""
    who.require(EDIT, RESOURCE)
    changes = dict(fields)
    if "password" in changes:
        password = changes.pop("password")
        changes["password_hash"] = _hashed(password, str(changes.get("username", username)))
    now = datetime.now(UTC)
    with store.changing() as connection:
        users.get_user(connection, username)
        try:
            changed = users.update_user(connection, username, now, changes)
        except Taken as error:
            raise Conflict(error.message) from error
        except NotFound as error:
            raise UsageError(error.message, hint=error.hint) from error
        said = {name: value for name, value in fields.items() if name in ("username", "roles", "is_active")}
        auditing.write(connection, who, "users edit", now, user=username, fields=sorted(fields), to=said)
        return changed


def delete(store: Store, who: Who, username: str) -> None:
    """Delete a user with all sessions and tokens. Forbidden, NotFound; GuardRefused for the last active Admin."""
    who.require(DELETE, RESOURCE)
    with store.changing() as connection:
        users.delete_user(connection, username)
        auditing.write(connection, who, "users delete", datetime.now(UTC), username=username)


def _hashed(password: str | None, username: str) -> str | None:
    if password is None:
        return None
    passwords.check(password, username)
    return passwords.hashed(password)
