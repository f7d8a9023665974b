"""The page of one's own account: password, tokens, sessions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from opskit.core.metastore import api_tokens, users, web_sessions
from opskit.errors import OpskitError, UsageError
from opskit.web.changes import users as changes
from opskit.web.faults import Forbidden, SignInNeeded, TooManyAttempts, status_of
from opskit.web.flash import redirect
from opskit.web.gate import SignedIn
from opskit.web.identity import Who
from opskit.web.render import render
from opskit.web.security import cookies, signing_in
from opskit.web.security.rules import rules_of
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False, prefix="/me")
_DAYS = {"7": "a week", "30": "30 days", "90": "90 days", "365": "a year", "": "never"}


@router.get("")
def account(request: Request, store: TheStore, who: SignedIn) -> HTMLResponse:
    return _page(request, store, who)


@router.post("/password")
def change_password(
    request: Request,
    store: TheStore,
    who: SignedIn,
    current: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    try:
        if new != again:
            raise UsageError("the new password was not typed twice alike")
        try:
            signing_in.check_password(store, who.username, current, rules_of(request).address(request))
        except SignInNeeded as error:
            raise UsageError("the present password is another one") from error
        user = changes.change_own_password(store, who, new)
    except (UsageError, TooManyAttempts) as error:
        return _page(request, store, who, error=error)
    answer = redirect(request, "/me", "Your password has changed. All other sessions have ended.")
    signing_in.begin_session(request, store, answer, user, "password")
    return answer


@router.post("/tokens")
def create_token(
    request: Request,
    store: TheStore,
    who: SignedIn,
    name: Annotated[str, Form()] = "",
    scope: Annotated[str, Form()] = "read",
    days: Annotated[str, Form()] = "90",
) -> Response:
    expires = datetime.now(UTC) + timedelta(days=int(days)) if days in _DAYS and days else None
    try:
        if days not in _DAYS:
            raise UsageError("choose how long the token shall hold")
        text, token = changes.create_own_token(store, who, name, scopes=scope.split(), expires_at=expires)
    except UsageError as error:
        return _page(request, store, who, error=error)
    # Answered at once and not after a redirect: the token must not lie in a cookie.
    return _page(request, store, who, made=(token.name, text))


@router.post("/tokens/{number}/revoke")
def revoke_token(request: Request, store: TheStore, who: SignedIn, number: int) -> Response:
    changes.revoke_own_token(store, who, number)
    return redirect(request, "/me", "The token is revoked.")


@router.post("/sessions/{identifier}/end")
def end_session(request: Request, store: TheStore, who: SignedIn, identifier: str) -> Response:
    changes.end_own_session(store, who, identifier)
    return redirect(request, "/me", "The session has ended.")


def _page(
    request: Request,
    store: Store,
    who: Who,
    *,
    error: OpskitError | None = None,
    made: tuple[str, str] | None = None,
) -> HTMLResponse:
    if who.user_id is None:
        raise SignInNeeded("sign in first")
    if who.by not in ("web", "proxy"):
        raise Forbidden("this page is for people who have signed in with a browser")
    rules, now = rules_of(request), datetime.now(UTC)
    with store.reading() as connection:
        user = users.get_user(connection, who.username)
        tokens = api_tokens.list_tokens(connection, who.username)
        sessions = web_sessions.list_sessions(connection, user.id, now, rules.idle)
    cookie = cookies.read(request, rules)
    values: dict[str, Any] = {
        "user": user,
        "tokens": [(token, token.is_valid(now)) for token in tokens[:100]],
        "sessions": sessions[:100],
        "this_session": web_sessions.session_id(cookie) if cookie else "",
        "lifetimes": list(_DAYS.items()),
        "error": error.message if error else "",
        "made": made,
    }
    return render(request, "account.html", status=status_of(error) if error else 200, **values)
