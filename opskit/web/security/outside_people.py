"""The user that belongs to a person whom an OpenID Connect provider vouches for; made when it is not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from opskit.core.metastore import audit, users
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.roles import list_roles
from opskit.core.metastore.users import User
from opskit.errors import NotFound, UsageError
from opskit.web.security.oidc import Person


def user_of(connection: Connection, person: Person, default_role: str, now: datetime) -> User:
    """The user. UsageError when the name belongs to somebody else, or the user is deactivated.

    A user of the same name that was made here is another person's until shown otherwise: names at a provider can be
    chosen and changed. Only one without a password, made for that, is taken.
    """
    roles = _roles(connection, person.roles, default_role)
    user = users.find_by_identity(connection, person.identity)
    if user is None:
        user = users.find_user(connection, person.username)
        if user is None:
            return _made(connection, person, roles or [default_role], now)
        if not users.link_identity(connection, user, person.identity):
            raise UsageError(
                f"the user {person.username} is there already, and does not sign in this way",
                hint="an Admin can delete it, or make it anew without a password: opskit users create --external",
            )
        audit.write(connection, "users link", now, owner=user.username, extra={"by": "oidc"})
    if not user.is_active:
        raise UsageError(f"the user {user.username} is deactivated")
    if roles is not None and tuple(roles) != user.roles:
        user = users.update_user(connection, user.username, now, {"roles": roles})
        audit.write(connection, "users edit", now, owner=user.username, extra={"by": "oidc", "roles": roles})
    users.signed_in(connection, user.id, now)
    return user


def _roles(connection: Connection, named: Sequence[str] | None, default_role: str) -> list[str] | None:
    if named is None:
        return None
    there = {role.name for role in list_roles(connection)}
    return [name for name in named if name in there] or [default_role]


def _made(connection: Connection, person: Person, roles: list[str], now: datetime) -> User:
    fields: dict[str, Any] = {"first_name": person.first_name, "last_name": person.last_name}
    try:
        if person.email:
            users.user_by_email(connection, person.email)
    except NotFound:
        fields["email"] = person.email
    user = users.create_user(
        connection, person.username, now, roles=roles, password_hash=None, identity=person.identity, **fields
    )
    audit.write(connection, "users create", now, owner=user.username, extra={"by": "oidc", "roles": roles})
    users.signed_in(connection, user.id, now)
    return user
