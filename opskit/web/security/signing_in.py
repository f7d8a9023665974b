"""Finds the person behind a request: by a proxy's word, basic authentication, a token, or a session's cookie."""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections.abc import Iterable
from datetime import UTC, datetime

from fastapi import Request, Response

from opskit.core.metastore import api_tokens, audit, passwords, sign_in_limits, users, web_sessions
from opskit.core.metastore.engine import transaction
from opskit.core.metastore.permissions import PUBLIC, Permission
from opskit.core.metastore.roles import list_roles, permissions_of
from opskit.core.metastore.users import User
from opskit.errors import UsageError
from opskit.web.faults import Forbidden, SignInNeeded, TooManyAttempts
from opskit.web.identity import Who
from opskit.web.kept import is_refetch
from opskit.web.security import cookies
from opskit.web.security.known_passwords import KnownPasswords
from opskit.web.security.rules import rules_of
from opskit.web.store import Store

log = logging.getLogger(__name__)
_WRONG = "wrong username or password"
_LIVE, _LOG_STREAM = "/live", "/log/stream"
"""What a page asks for by itself, while nobody may sit before it: this path, and paths that end so."""


def identify(request: Request, store: Store) -> Who:
    """Who sends this request. SignInNeeded when it carries no credentials that hold; TooManyAttempts."""
    named = rules_of(request).proxy_user(request)
    if named is not None:
        return _by_proxy(request, store, named)
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        return _by_password(request, store, value.strip())
    if kind.lower() == "bearer":
        return _by_token(store, value.strip())
    if "authorization" in request.headers:
        # Not the session's: a request with this header needs no token against forgery.
        raise SignInNeeded("this kind of authorization is not known here: send Basic or Bearer")
    return _by_session(request, store)


def check_password(store: Store, username: str, password: str, address: str) -> User:
    """The user, if this is the password. SignInNeeded, in the same words and the same time whether or not there is
    such a user; TooManyAttempts."""
    now = datetime.now(UTC)
    found = None
    if users.can_be_username(username):
        found = store.look(("credentials", username), lambda connection: users.credentials(connection, username))
    user, stored = found if found is not None else (None, None)
    if user is not None and user.is_active and stored and _known.knows(stored, password, address):
        return user
    # A program that begins with many requests at once is no guesser: one is looked at, and then the others are known.
    # (It is the same for names that nobody has: how long an answer takes must not tell them.)
    with _known.turn(username, password, address):
        if user is not None and user.is_active and stored and _known.holds(stored, password, address):
            return user  # who knows the password is not held up by those who guess it elsewhere
        return _checked(store, user, stored, username, password, address, now)


def _checked(
    store: Store, user: User | None, stored: str | None, username: str, password: str, address: str, now: datetime
) -> User:
    with transaction(store.engine) as connection:
        wait = sign_in_limits.attempt(connection, username, address, now)
    if wait is not None:
        raise TooManyAttempts(math.ceil(wait.total_seconds()))
    right = passwords.is_right(stored, password)
    if not right or user is None or stored is None or not user.is_active:
        with transaction(store.engine) as connection:
            users.sign_in_failed(connection, user.id if user is not None else 0)
        log.warning("somebody at %s could not sign in", address)
        raise SignInNeeded(_WRONG)
    anew = passwords.hashed(password) if passwords.is_outdated(stored) else None
    with transaction(store.engine) as connection:
        sign_in_limits.succeeded(connection, username, address, now)
        users.signed_in(connection, user.id, now, anew)
    _known.remember(anew or stored, password, address)
    return user


def begin_session(request: Request, store: Store, answer: Response, user: User, by: str) -> None:
    """Sign a person in: a new session, whatever cookie the browser had."""
    rules, now = rules_of(request), datetime.now(UTC)
    before = cookies.read(request, rules)
    address = rules.address(request)
    with store.writing() as connection:
        if before:
            web_sessions.end(connection, before)
        web_sessions.sweep(connection, now, rules.idle)
        agent = request.headers.get("user-agent", "")
        cookie = web_sessions.begin(connection, user, now, by=by, address=address, agent=agent, lifetime=rules.lifetime)
        extra = {"by": "web", "with": by, "address": address}
        audit.write(connection, "users sign-in", now, owner=user.username, extra=extra)
    cookies.give(answer, request, rules, cookie)


def end_session(request: Request, store: Store, answer: Response, who: Who) -> None:
    """Sign a person out."""
    rules, now = rules_of(request), datetime.now(UTC)
    cookie = cookies.read(request, rules)
    if cookie:
        with store.writing() as connection:
            web_sessions.end(connection, cookie)
            audit.write(connection, "users sign-out", now, owner=who.username, extra={"by": "web"})
    cookies.take_away(answer, request, rules)


def _permissions(store: Store, roles: Iterable[str]) -> frozenset[Permission]:
    names = tuple(roles)
    return store.look(("permissions", names), lambda connection: permissions_of(connection, names))


def _who(store: Store, user: User, by: str, csrf_token: str = "") -> Who:
    permissions = _permissions(store, user.roles)
    return Who(user.username, user.roles, permissions, by, user.id, user.name, csrf_token)


def _by_password(request: Request, store: Store, value: str) -> Who:
    try:
        username, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise SignInNeeded("this is no basic authentication")
    user = check_password(store, username, password, rules_of(request).address(request))
    return _who(store, user, "basic")


def _by_token(store: Store, text: str) -> Who:
    now = datetime.now(UTC)
    found = store.look(
        ("token", api_tokens.hash_of(text)), lambda connection: api_tokens.find_token(connection, text, now)
    )
    if found is None:
        raise SignInNeeded("this token does not hold (any more)")
    token, user = found
    permissions = api_tokens.narrowed(_permissions(store, user.roles), token.scopes)
    if api_tokens.is_stale(token, now):
        with transaction(store.engine) as connection:
            api_tokens.used(connection, token, now)
    return Who(user.username, user.roles, permissions, "token", user.id, user.name)


def _by_session(request: Request, store: Store) -> Who:
    rules, now = rules_of(request), datetime.now(UTC)
    cookie = cookies.read(request, rules)
    token = cookies.csrf_token(cookie) if cookie else ""
    found = None
    if cookie:
        found = store.look(
            ("session", web_sessions.session_id(cookie)),
            lambda connection: web_sessions.find(connection, cookie, now, rules.idle),
        )
    if found is None:
        permissions = _permissions(store, [PUBLIC])
        if not permissions:
            raise SignInNeeded("sign in first")
        return Who("anonymous", (PUBLIC,), permissions, "public", csrf_token=token)
    session, user = found
    who = _who(store, user, "web", token)
    path = request.url.path
    by_itself = path == _LIVE or path.endswith(_LOG_STREAM) or is_refetch(request)
    if web_sessions.is_stale(session, now) and not by_itself:
        with transaction(store.engine) as connection:
            web_sessions.seen(connection, session, now)
    return who


def _by_proxy(request: Request, store: Store, username: str) -> Who:
    rules, now = rules_of(request), datetime.now(UTC)
    with store.reading() as connection:
        user = users.find_user(connection, username)
    if user is None:
        try:
            user = _first_seen(store, username, rules.default_role, now)
        except users.Taken:  # by another request, at the same time
            with store.reading() as connection:
                user = users.get_user(connection, username)
    if not user.is_active:
        raise Forbidden(f"the user {username} is deactivated")
    with store.reading() as connection:
        roles = rules.proxy_roles(request)
        if roles is None:
            roles = list(user.roles)
        else:
            there = {role.name for role in list_roles(connection)}
            roles = [name for name in roles if name in there]
        permissions = permissions_of(connection, roles)
    token = cookies.proxy_csrf_token(store.config, username)
    return Who(username, tuple(roles), permissions, "proxy", user.id, user.name, token)


def _first_seen(store: Store, username: str, role: str, now: datetime) -> User:
    with store.writing() as connection:
        try:
            user = users.create_user(connection, username, now, roles=[role], password_hash=None)
        except users.Taken:
            raise
        except UsageError as error:
            raise Forbidden(f"the proxy names somebody who can't be a user: {error.message}") from error
        audit.write(connection, "users create", now, owner=username, extra={"by": "proxy", "roles": [role]})
    return user


_known = KnownPasswords()
"""Made before the processes of a webserver are forked, so that it is theirs together."""
