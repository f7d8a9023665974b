"""The people (and programs) who may use the web UI and the REST API. Passwords come and go as hashes only."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from opskit.core.metastore import passwords
from opskit.core.metastore.dags import nearest
from opskit.core.metastore.permissions import ADMIN
from opskit.core.metastore.roles import require_roles
from opskit.core.metastore.tables import web_session, web_token, web_user
from opskit.errors import GuardRefused, NotFound, UsageError

FIELDS = ("username", "first_name", "last_name", "email", "is_active", "roles", "password_hash")
"""What `update_user` can change."""
_LONGEST = {"username": 250, "first_name": 250, "last_name": 250, "email": 320}
FIRST_USER = "admin"
_BY_NAME = select(web_user).where(web_user.c.username == bindparam("name"))
"""Made once: each request with basic authentication asks it."""


class Taken(UsageError):
    """Another user has this username or e-mail address."""


@dataclass(frozen=True, slots=True)
class User:
    """One user. What proves who it is, is not part of it."""

    id: int
    username: str
    first_name: str
    last_name: str
    email: str
    is_active: bool
    roles: tuple[str, ...]
    has_password: bool
    created_at: datetime
    changed_at: datetime
    last_sign_in_at: datetime | None
    sign_ins: int
    failed_sign_ins: int

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


def user_of(row: Any) -> User:
    """A User of a row with the columns of `web_user`."""
    return User(
        row.id,
        row.username,
        row.first_name,
        row.last_name,
        row.email,
        bool(row.is_active),
        tuple(json.loads(row.roles)),
        row.password is not None,
        row.created_at,
        row.changed_at,
        row.last_sign_in_at,
        row.sign_ins,
        row.failed_sign_ins,
    )


def can_be_username(name: str) -> bool:
    """Whether it may be asked for at all: some databases take no text with a NUL."""
    return 0 < len(name) <= _LONGEST["username"] and name.isprintable()


def list_users(connection: Connection) -> list[User]:
    """All users by username."""
    return [user_of(row) for row in connection.execute(select(web_user).order_by(web_user.c.username))]


def find_user(connection: Connection, username: str) -> User | None:
    if not can_be_username(username):
        return None
    row = connection.execute(select(web_user).where(web_user.c.username == username)).first()
    return user_of(row) if row else None


def get_user(connection: Connection, username: str) -> User:
    """One user. NotFound, naming the nearest one, when there is none."""
    return user_of(_row(connection, username))


def user_by_email(connection: Connection, email: str) -> User:
    """The user with this e-mail address. NotFound when there is none."""
    row = connection.execute(
        select(web_user).where(func.lower(web_user.c.email) == email.lower(), web_user.c.email != "")
    ).first()
    if row is None:
        raise NotFound(f"there is no user with the e-mail address {email!r}")
    return user_of(row)


def find_by_identity(connection: Connection, identity: str) -> User | None:
    """The user for whom somebody else vouches under this mark."""
    row = connection.execute(select(web_user).where(web_user.c.identity == identity)).first()
    return user_of(row) if row else None


def link_identity(connection: Connection, user: User, identity: str) -> bool:
    """Let a user that has neither a password nor a mark be known by this mark; whether it could be."""
    free = (web_user.c.id == user.id, web_user.c.password.is_(None), web_user.c.identity.is_(None))
    return connection.execute(update(web_user).where(*free).values(identity=identity)).rowcount == 1


def credentials(connection: Connection, username: str) -> tuple[User, str | None] | None:
    """The user and the hash of the password (None: has none); None when there is no such user."""
    row = connection.execute(_BY_NAME, {"name": username}).first()
    return (user_of(row), row.password) if row else None


def create_user(
    connection: Connection,
    username: str,
    now: datetime,
    *,
    roles: Iterable[str],
    password_hash: str | None,
    first_name: str = "",
    last_name: str = "",
    email: str = "",
    is_active: bool = True,
    identity: str | None = None,
) -> User:
    """A new user; a `password_hash` of None lets nobody sign in with a password. Taken, UsageError for a value that
    can't be, NotFound for an unknown role."""
    fields: dict[str, Any] = {
        "username": username,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "is_active": is_active,
        "roles": tuple(roles),
        "password_hash": password_hash,
    }
    values = _checked(connection, fields, None)
    try:
        with connection.begin_nested():
            connection.execute(insert(web_user).values(**values, identity=identity, created_at=now, changed_at=now))
    except IntegrityError as error:  # by somebody else, since we looked
        raise Taken(f"there is a user {username!r} already") from error
    return get_user(connection, username)


def update_user(connection: Connection, username: str, now: datetime, fields: Mapping[str, Any]) -> User:
    """Change some of FIELDS. A new password and a deactivation end the user's sessions. Raises as `create_user`, and
    GuardRefused when no active Admin would be left."""
    if unknown := fields.keys() - set(FIELDS):
        raise UsageError(f"a user has no {sorted(unknown)[0]}", hint=f"it has {', '.join(FIELDS)}")
    row = _row(connection, username, lock=True)
    values = _checked(connection, fields, row)
    stays = ADMIN in fields.get("roles", json.loads(row.roles)) and fields.get("is_active", row.is_active)
    if not stays:
        _keep_an_admin(connection, row)
    connection.execute(update(web_user).where(web_user.c.id == row.id).values(**values, changed_at=now))
    if "password_hash" in fields or not fields.get("is_active", True):
        connection.execute(delete(web_session).where(web_session.c.user_id == row.id))
    return get_user(connection, str(values.get("username", username)))


def delete_user(connection: Connection, username: str) -> None:
    """Delete a user with all sessions and tokens. NotFound; GuardRefused for the last active Admin."""
    _keep_an_admin(connection, _row(connection, username, lock=True))
    remove_user(connection, username)


def remove_user(connection: Connection, username: str) -> None:
    """As `delete_user`, whoever it is."""
    row = _row(connection, username)
    for table in (web_session, web_token):
        connection.execute(delete(table).where(table.c.user_id == row.id))
    connection.execute(delete(web_user).where(web_user.c.id == row.id))


def signed_in(connection: Connection, user_id: int, now: datetime, new_hash: str | None = None) -> None:
    """Count a sign-in that went well; `new_hash` takes the place of one that was made in an outdated way."""
    values: dict[str, Any] = {"last_sign_in_at": now, "sign_ins": web_user.c.sign_ins + 1, "failed_sign_ins": 0}
    if new_hash is not None:
        values["password"] = new_hash
    connection.execute(update(web_user).where(web_user.c.id == user_id).values(**values))


def sign_in_failed(connection: Connection, user_id: int) -> None:
    """Count a wrong password; 0: of nobody, which takes as long."""
    failed = web_user.c.failed_sign_ins + 1
    connection.execute(update(web_user).where(web_user.c.id == user_id).values(failed_sign_ins=failed))


def add_first_admin(connection: Connection, password_hash: str, now: datetime) -> bool:
    """Make the user `admin` when there is no user at all; whether that was so."""
    if connection.execute(select(web_user.c.id).limit(1)).first() is not None:
        return False
    try:
        create_user(connection, FIRST_USER, now, roles=[ADMIN], password_hash=password_hash)
    except Taken:
        return False  # another webserver that starts at the same time has made it
    return True


def is_empty(connection: Connection) -> bool:
    """Whether there is no user yet."""
    return connection.execute(select(web_user.c.id).limit(1)).first() is None


def _row(connection: Connection, username: str, *, lock: bool = False) -> Row[Any]:
    query = select(web_user).where(web_user.c.username == username)
    row = connection.execute(query.with_for_update() if lock else query).first() if can_be_username(username) else None
    if row is None:
        known = connection.execute(select(web_user.c.username)).scalars().all()
        raise NotFound(f"there is no user {username!r}", hint=nearest(username, known))
    return row


def _checked(connection: Connection, fields: Mapping[str, Any], before: Row[Any] | None) -> dict[str, Any]:
    """Values of columns. `before`: the row that changes; None: it is a new one."""
    values = dict(fields)
    for name, longest in _LONGEST.items():
        if name in values and (len(values[name]) > longest or not values[name].isprintable()):
            raise UsageError(f"{name}: at most {longest} characters, and none that can't be printed")
    if "username" in values and (not values["username"] or re.search(r"[\s:/]", values["username"])):
        raise UsageError("a username has at least one character, and neither spaces nor : or /")
    own = before.id if before is not None else None
    if "username" in values:
        _free(connection, web_user.c.username == values["username"], own, f"user {values['username']!r}")
    if values.get("email"):
        same = func.lower(web_user.c.email) == values["email"].lower()
        _free(connection, same, own, f"user with the e-mail address {values['email']}")
    if "roles" in values:
        names: Collection[str] = list(dict.fromkeys(values["roles"]))
        require_roles(connection, names)
        values["roles"] = json.dumps(names, ensure_ascii=False)
    if "password_hash" in values:
        values["password"] = values.pop("password_hash")
        if values["password"] is not None and not passwords.is_understood(values["password"]):
            raise UsageError("this hash of a password is of a kind that opskit does not know")
    return values


def _free(connection: Connection, same: Any, own: int | None, what: str) -> None:
    other = connection.execute(select(web_user.c.id).where(same, web_user.c.id != (own or 0))).first()
    if other is not None:
        raise Taken(f"there is a {what} already")


def _keep_an_admin(connection: Connection, row: Row[Any]) -> None:
    """GuardRefused when this user is the last active Admin. All rows are locked, so that two don't go at once."""
    users = connection.execute(
        select(web_user.c.id, web_user.c.roles, web_user.c.is_active).order_by(web_user.c.id).with_for_update()
    ).all()
    admins = {one.id for one in users if one.is_active and ADMIN in json.loads(one.roles)}
    if admins == {row.id}:
        raise GuardRefused(
            f"{row.username} is the last active user with the role {ADMIN}", hint="give the role to another user first"
        )
