"""What a person may change about users: of others with the permission, of oneself always. Passwords come as texts and
are hashed here, outside of the transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import api_tokens, passwords, sign_in_limits, users, web_sessions
from opskit.core.metastore.api_tokens import ApiToken
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.roles import permissions_of, require_roles
from opskit.core.metastore.users import User
from opskit.errors import GuardRefused, NotFound, UsageError
from opskit.web.changes import auditing
from opskit.web.faults import Conflict, Forbidden
from opskit.web.identity import CREATE, DELETE, EDIT, Who, exceeding
from opskit.web.store import Store

_RESOURCE = "Users"


def create(store: Store, who: Who, username: str, *, password: str | None, roles: Iterable[str], **fields: Any) -> User:
    """A new user; `password` None: signs in elsewhere. `fields`: first_name, last_name, email, is_active. Forbidden,
    also for roles that allow more than `who` may; Conflict; UsageError, also for an unknown role."""
    who.require(CREATE, _RESOURCE)
    roles, now = list(roles), datetime.now(UTC)
    hashed = _hashed(password, username)
    with _conflicts(), store.writing() as connection:
        _may_give(connection, who, roles)
        user = users.create_user(connection, username, now, roles=roles, password_hash=hashed, **fields)
        auditing.write(connection, who, "users create", now, user=username, roles=roles)
    return user


def update(store: Store, who: Who, username: str, fields: Mapping[str, Any]) -> User:
    """Change username, first_name, last_name, email, is_active, roles or `password` (a text, or None: none any more).
    Raises as `create`; GuardRefused for the last active Admin."""
    who.require(EDIT, _RESOURCE)
    now, changed = datetime.now(UTC), dict(fields)
    if "password" in changed:
        changed["password_hash"] = _hashed(changed.pop("password"), str(changed.get("username", username)))
    with _conflicts(), store.writing() as connection:
        before = users.get_user(connection, username)
        _may_touch(connection, who, before)
        if "roles" in changed:
            _may_give(connection, who, changed["roles"])
        user = users.update_user(connection, username, now, changed)
        if "password_hash" in changed:
            sign_in_limits.forget(connection, username)
        told = {name: value for name, value in changed.items() if name in ("roles", "is_active", "username")}
        auditing.write(connection, who, "users edit", now, user=username, fields=sorted(fields), **_renamed(told))
    return user


def reset_password(store: Store, who: Who, username: str) -> str:
    """A random password, told once; all sessions of the user end."""
    password = passwords.random_password()
    update(store, who, username, {"password": password})
    return password


def delete(store: Store, who: Who, username: str) -> None:
    """Delete a user with sessions and tokens. Nobody deletes oneself: that is how one locks oneself out."""
    who.require(DELETE, _RESOURCE)
    now = datetime.now(UTC)
    with store.writing() as connection:
        user = users.get_user(connection, username)
        if user.id == who.user_id:
            raise GuardRefused("you can't delete yourself", hint="another Admin can")
        _may_touch(connection, who, user)
        users.delete_user(connection, username)
        auditing.write(connection, who, "users delete", now, user=username)


# --- of oneself ---


def change_own_password(store: Store, who: Who, new: str) -> User:
    """Another password for oneself; all sessions end. The caller has checked the old one."""
    _require_self(who)
    hashed, now = _hashed(new, who.username), datetime.now(UTC)
    with store.writing() as connection:
        user = users.update_user(connection, who.username, now, {"password_hash": hashed})
        auditing.write(connection, who, "users change-password", now, user=who.username)
    return user


def create_own_token(
    store: Store, who: Who, name: str, *, scopes: Iterable[str], expires_at: datetime | None
) -> tuple[str, ApiToken]:
    """A token in one's own name: its text, told once, and what is kept of it."""
    _require_self(who)
    now = datetime.now(UTC)
    with store.writing() as connection:
        user = users.get_user(connection, who.username)
        made = api_tokens.create_token(connection, user, name, now, scopes=list(scopes), expires_at=expires_at)
        auditing.write(connection, who, "users token create", now, name=made[1].name, scopes=made[1].scopes)
    return made


def revoke_own_token(store: Store, who: Who, number: int) -> None:
    """NotFound for a token of somebody else."""
    _require_self(who)
    now = datetime.now(UTC)
    with store.writing() as connection:
        token = api_tokens.revoke_token(connection, number, now, user_id=who.user_id)
        auditing.write(connection, who, "users token revoke", now, name=token.name)


def end_own_session(store: Store, who: Who, identifier: str) -> None:
    """NotFound for a session of somebody else."""
    user_id, now = _require_self(who), datetime.now(UTC)
    with store.writing() as connection:
        if not web_sessions.end_one(connection, user_id, identifier):
            raise NotFound("this session has ended already")
        auditing.write(connection, who, "users end-session", now, user=who.username)


def _require_self(who: Who) -> int:
    if who.user_id is None or who.by not in ("web", "proxy"):
        raise Forbidden("sign in as yourself, in a browser, to change this")
    return who.user_id


def _hashed(password: str | None, username: str) -> str | None:
    if password is None:
        return None
    passwords.check(password, username)
    return passwords.hashed(password)


def _may_give(connection: Connection, who: Who, roles: Collection[str]) -> None:
    try:
        require_roles(connection, roles)
    except NotFound as error:
        raise UsageError(error.message, hint=error.hint) from error
    for role in roles:
        if exceeding(who, permissions_of(connection, [role])):
            raise Forbidden(f"the role {role} allows more than you may: you can't give it")


def _may_touch(connection: Connection, who: Who, user: User) -> None:
    # Else who may edit users could take over an Admin's account by its password.
    if exceeding(who, permissions_of(connection, user.roles)):
        raise Forbidden(f"{user.username} may do more than you: you can't change this user")


def _renamed(told: dict[str, Any]) -> dict[str, Any]:
    return {"new_username" if name == "username" else name: value for name, value in told.items()}


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except users.Taken as error:
        raise Conflict(error.message, hint=error.hint) from error
