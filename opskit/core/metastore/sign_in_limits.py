"""Slows down whoever guesses passwords: per username and per address, for all webservers of one metastore.

An attempt is counted before the password is looked at, so that many at once are not one; a right password undoes that.
While a key is blocked nothing is counted, so nobody can block a user for longer than `_CAPS` says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import web_sign_in_limit

_FREE = {"user": 4, "address": 9}
"""Wrong passwords in a row that cost no time. Many people may share an address."""
_CAPS = {"user": timedelta(seconds=60), "address": timedelta(minutes=15)}
_FORGOTTEN_AFTER = timedelta(hours=12)


def attempt(connection: Connection, username: str, address: str, now: datetime) -> timedelta | None:
    """Count an attempt; None: the password may be looked at. Else how long nobody of this name or address may try."""
    connection.execute(delete(web_sign_in_limit).where(web_sign_in_limit.c.last_at < now - _FORGOTTEN_AFTER))
    keys = _keys(username, address)
    columns = ["key", "failures", "last_at", "blocked_until"]
    bulk_insert(connection, web_sign_in_limit, columns, [(key, 0, now, now) for _, key in keys], on_conflict="ignore")
    found = (
        select(web_sign_in_limit)
        .where(web_sign_in_limit.c.key.in_([key for _, key in keys]))
        .order_by(web_sign_in_limit.c.key)
        .with_for_update()
    )
    rows = {row.key: row for row in connection.execute(found)}
    wait = max((rows[key].blocked_until - now for _, key in keys), default=timedelta())
    if wait > timedelta():
        return wait
    for kind, key in keys:
        failures = rows[key].failures + 1
        values = {"failures": failures, "last_at": now, "blocked_until": now + _delay(kind, failures)}
        connection.execute(update(web_sign_in_limit).where(web_sign_in_limit.c.key == key).values(**values))
    return None


def succeeded(connection: Connection, username: str, address: str, now: datetime) -> None:
    """The password was right: the user's failures are forgotten, and this attempt was none of the address."""
    for kind, key in _keys(username, address):
        if kind == "user":
            connection.execute(delete(web_sign_in_limit).where(web_sign_in_limit.c.key == key))
        else:
            # Not all of it: with one right password of his own, somebody could go on guessing others.
            fewer = web_sign_in_limit.c.failures - 1
            mine = (web_sign_in_limit.c.key == key, web_sign_in_limit.c.failures > 0)
            connection.execute(update(web_sign_in_limit).where(*mine).values(failures=fewer, blocked_until=now))


def forget(connection: Connection, username: str) -> None:
    """Let a user try at once again."""
    [key] = [key for kind, key in _keys(username, "") if kind == "user"]
    connection.execute(delete(web_sign_in_limit).where(web_sign_in_limit.c.key == key))


def _delay(kind: str, failures: int) -> timedelta:
    over = failures - _FREE[kind]
    return timedelta() if over <= 0 else min(timedelta(seconds=2 ** min(over, 20)), _CAPS[kind])


def _keys(username: str, address: str) -> Sequence[tuple[str, str]]:
    # Hashed: what people type as a username is now and then their password.
    named = (("user", username), ("address", address))
    return [
        (kind, hashlib.sha256(f"{kind}:{value}".encode("utf-8", "surrogatepass")).hexdigest()) for kind, value in named
    ]
