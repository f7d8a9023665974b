"""Tokens with which programs use the REST API in a user's name. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from opskit.core.metastore.permissions import MENU, READ, Permission, checked
from opskit.core.metastore.tables import web_token, web_user
from opskit.core.metastore.users import User, user_of
from opskit.errors import NotFound, UsageError

PREFIX = "opskit_"
"""Of every token, so that programs that look for leaked secrets know it."""
_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One token, without its text."""

    id: int
    username: str
    name: str
    scopes: tuple[str, ...]
    """`all` (of what the user may do), `read`, or `action:resource`, each."""
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def create_token(
    connection: Connection,
    user: User,
    name: str,
    now: datetime,
    *,
    scopes: Sequence[str] = ("all",),
    expires_at: datetime | None,
) -> tuple[str, ApiToken]:
    """A new token: its text, which nobody can read again, and what is kept of it."""
    if not name.strip() or len(name) > 250 or not name.isprintable():
        raise UsageError("a token has a name of 1 to 250 characters, that tells what it is for")
    if expires_at is not None and expires_at <= now:
        raise UsageError("the token would have expired already")
    scopes = tuple(dict.fromkeys(map(_checked, scopes)))
    if not scopes:
        raise UsageError("a token needs a scope", hint="all, read, or action:resource, for example can_read:DAGs")
    text = PREFIX + secrets.token_urlsafe(32)
    values = {
        "hash": hash_of(text),
        "user_id": user.id,
        "name": name.strip(),
        "scopes": json.dumps(scopes, ensure_ascii=False),
        "created_at": now,
        "expires_at": expires_at,
    }
    made = connection.execute(insert(web_token).values(**values))
    number = int(made.inserted_primary_key[0])  # type: ignore[index]
    return text, ApiToken(number, user.username, name.strip(), scopes, now, expires_at, None, None)


def find_token(connection: Connection, text: str, now: datetime) -> tuple[ApiToken, User] | None:
    """The token and its user; None when it does not hold (any more), or its user is deactivated."""
    columns = [column.label(f"token_{column.name}") for column in web_token.c]
    row = connection.execute(
        select(web_user, *columns)
        .join(web_token, web_token.c.user_id == web_user.c.id)
        .where(web_token.c.hash == hash_of(text))
    ).first()
    if row is None or not row.is_active:
        return None
    token = _token(row, "token_")
    return (token, user_of(row)) if token.is_valid(now) else None


def is_stale(token: ApiToken, now: datetime) -> bool:
    """Whether `used` is to be called."""
    return token.used_at is None or token.used_at + _USED_EVERY <= now


def used(connection: Connection, token: ApiToken, now: datetime) -> None:
    """Note that the token is in use."""
    connection.execute(update(web_token).where(web_token.c.id == token.id).values(used_at=now))


def list_tokens(connection: Connection, username: str | None = None) -> list[ApiToken]:
    """All tokens, or those of one user; the newest first, with those that hold no more."""
    columns = [column.label(f"token_{column.name}") for column in web_token.c]
    query = select(web_user.c.username, *columns).join(web_token, web_token.c.user_id == web_user.c.id)
    if username is not None:
        query = query.where(web_user.c.username == username)
    return [_token(row, "token_") for row in connection.execute(query.order_by(web_token.c.id.desc()))]


def revoke_token(connection: Connection, number: int, now: datetime, *, user_id: int | None = None) -> ApiToken:
    """Let a token hold no more; of this user, where one is given. NotFound when there is none."""
    mine = [web_token.c.id == number] + ([] if user_id is None else [web_token.c.user_id == user_id])
    columns = [column.label(f"token_{column.name}") for column in web_token.c]
    query = select(web_user.c.username, *columns).join(web_token, web_token.c.user_id == web_user.c.id).where(*mine)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no token {number}", hint="opskit users token list shows them")
    connection.execute(update(web_token).where(*mine, web_token.c.revoked_at.is_(None)).values(revoked_at=now))
    return _token(row, "token_")


def narrowed(permissions: frozenset[Permission], scopes: Iterable[str]) -> frozenset[Permission]:
    """What a token with these scopes may do, of what its user may."""
    kept = set[Permission]()
    for scope in scopes:
        if scope == "all":
            return permissions
        if scope == "read":
            kept.update(one for one in permissions if one[0] in (READ, MENU))
        else:
            action, _, resource = scope.partition(":")
            kept.update({(action, resource)} & permissions)
    return frozenset(kept)


def _checked(scope: str) -> str:
    if scope in ("all", "read"):
        return scope
    action, colon, resource = scope.partition(":")
    if not colon:
        raise UsageError(f"there is no scope {scope!r}", hint="all, read, or action:resource, as can_read:DAGs")
    checked(action, resource)
    return scope


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _token(row: Any, prefix: str) -> ApiToken:
    found = {name.removeprefix(prefix): value for name, value in row._mapping.items() if name.startswith(prefix)}
    del found["hash"], found["user_id"]
    return ApiToken(**{**found, "username": row.username, "scopes": tuple(json.loads(found["scopes"]))})
