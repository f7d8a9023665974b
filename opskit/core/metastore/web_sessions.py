"""Sessions of people who have signed in. The cookie's value is not stored, only its hash: who reads the metastore (or
a backup of it) can't take over a session."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.engine import Connection

from opskit.core.metastore import passwords
from opskit.core.metastore.tables import web_session, web_user
from opskit.core.metastore.users import User, user_of

_SEEN_EVERY = timedelta(minutes=1)
# Made once: every request of every page asks this.
_BY_COOKIE = (
    select(web_user, *[column.label(f"session_{column.name}") for column in web_session.c])
    .join(web_session, web_session.c.user_id == web_user.c.id)
    .where(web_session.c.hash == bindparam("session"))
)


@dataclass(frozen=True, slots=True)
class WebSession:
    """One session; `id` names it, and opens nothing."""

    id: str
    user_id: int
    by: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


def session_id(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()


def begin(
    connection: Connection, user: User, now: datetime, *, by: str, address: str, agent: str, lifetime: timedelta
) -> str:
    """A new session; the value of its cookie. It ends with the password that the user has now."""
    cookie = secrets.token_urlsafe(32)
    stored = connection.execute(select(web_user.c.password).where(web_user.c.id == user.id)).scalar()
    connection.execute(
        web_session.insert().values(
            hash=session_id(cookie),
            user_id=user.id,
            stamp=passwords.stamp(stored),
            by=by,
            address=address[:64],
            agent="".join(one for one in agent if one.isprintable())[:250],
            created_at=now,
            seen_at=now,
            expires_at=now + lifetime,
        )
    )
    return cookie


def find(connection: Connection, cookie: str, now: datetime, idle: timedelta) -> tuple[WebSession, User] | None:
    """The session of a cookie and its user; None when it is over: too old, not used for `idle`, its user deactivated
    or with another password."""
    row = connection.execute(_BY_COOKIE, {"session": session_id(cookie)}).first()
    if row is None or not row.is_active or row.session_stamp != passwords.stamp(row.password):
        return None
    if row.session_expires_at <= now or row.session_seen_at + idle <= now:
        return None
    return _session(row, "session_"), user_of(row)


def is_stale(session: WebSession, now: datetime) -> bool:
    """Whether `seen` is to be called."""
    return session.seen_at + _SEEN_EVERY <= now


def seen(connection: Connection, session: WebSession, now: datetime) -> None:
    """Note that the session is in use."""
    connection.execute(update(web_session).where(web_session.c.hash == session.id).values(seen_at=now))


def list_sessions(connection: Connection, user_id: int, now: datetime, idle: timedelta) -> list[WebSession]:
    """A user's sessions that are not over, the last used first."""
    query = (
        select(web_session)
        .where(web_session.c.user_id == user_id, web_session.c.expires_at > now, web_session.c.seen_at > now - idle)
        .order_by(web_session.c.seen_at.desc(), web_session.c.hash)
    )
    return [_session(row, "") for row in connection.execute(query)]


def end(connection: Connection, cookie: str) -> None:
    connection.execute(delete(web_session).where(web_session.c.hash == session_id(cookie)))


def end_one(connection: Connection, user_id: int, identifier: str) -> bool:
    """End a session of this user by its id; whether there was one."""
    found = delete(web_session).where(web_session.c.hash == identifier, web_session.c.user_id == user_id)
    return connection.execute(found).rowcount == 1


def end_all(connection: Connection, user_id: int) -> int:
    """End all sessions of a user; how many there were."""
    return connection.execute(delete(web_session).where(web_session.c.user_id == user_id)).rowcount


def sweep(connection: Connection, now: datetime, idle: timedelta) -> None:
    """Delete the rows of sessions that are over."""
    over = or_(web_session.c.expires_at <= now, web_session.c.seen_at <= now - idle)
    connection.execute(delete(web_session).where(over))


def _session(row: Any, prefix: str) -> WebSession:
    names = ("hash", "user_id", "by", "address", "agent", "created_at", "seen_at", "expires_at")
    return WebSession(*(getattr(row, prefix + name) for name in names))
