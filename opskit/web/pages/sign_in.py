"""The page for signing in, and the end of a session."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from opskit.errors import OpskitError, UsageError
from opskit.web import flash, gate
from opskit.web.faults import SignInNeeded, TooManyAttempts
from opskit.web.gate import SignedIn
from opskit.web.identity import Who
from opskit.web.render import render
from opskit.web.security import cookies, oidc, oidc_sign_out, outside_people, signing_in
from opskit.web.security.local_paths import local_path
from opskit.web.security.rules import rules_of
from opskit.web.store import Store, TheStore

log = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_page(request: Request, store: TheStore, next: str = "/") -> Response:
    who = _who(request, store)
    if who is not None and who.by != "public":
        return RedirectResponse(local_path(next), 303)
    return _page(request, store, next)


@router.post("/login")
def login(
    request: Request,
    store: TheStore,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    try:
        user = signing_in.check_password(store, username, password, rules_of(request).address(request))
    except SignInNeeded as error:
        return _page(request, store, next, username=username, error=error.message, status=401)
    except TooManyAttempts as error:
        answer = _page(request, store, next, username=username, error=error.message, status=429)
        answer.headers["Retry-After"] = str(error.seconds)
        return answer
    to = RedirectResponse(local_path(next), 303)
    signing_in.begin_session(request, store, to, user, "password")
    oidc_sign_out.forget(request, to)
    return to


@router.get("/login/oidc")
def begin_oidc(request: Request, store: TheStore, next: str = "/") -> Response:
    return oidc.begin(request, store, local_path(next))


@router.get(oidc.CALLBACK)
def finish_oidc(request: Request, store: TheStore) -> Response:
    default_role = str(store.config.get("webserver", "oidc_default_role"))
    try:
        person, wanted, id_token = oidc.finish(request, store)
        with store.writing() as connection:
            user = outside_people.user_of(connection, person, default_role, datetime.now(UTC))
    except UsageError as error:
        answer: Response = _page(request, store, "/", error=error.message, status=400)
    else:
        answer = RedirectResponse(local_path(wanted), 303)
        signing_in.begin_session(request, store, answer, user, "oidc")
        oidc_sign_out.remember(request, store, answer, user.username, id_token)
    oidc.forget(request, answer)
    return answer


@router.post("/logout")
def logout(request: Request, store: TheStore, who: SignedIn) -> Response:
    """End the session here, then the one at the provider, where both is wanted."""
    answer: Response = RedirectResponse("/login", 303)
    signing_in.end_session(request, store, answer, who)
    try:
        provider_url = oidc_sign_out.url(request, store, who)
    except OpskitError as error:
        log.warning("%s is signed out here, and not at the provider: %s", who.username, error.message)
        answer = flash.redirect(request, "/login", "You are signed out here, but the provider can't be asked", "warn")
    else:
        if provider_url is not None:
            request.state.who = None
            # A page, and no redirect: forms may only lead to our own site, also by way of redirects.
            answer = render(request, "signed_out.html", provider_url=provider_url)
    cookies.take_away(answer, request, rules_of(request))
    oidc_sign_out.forget(request, answer)
    return answer


def _who(request: Request, store: Store) -> Who | None:
    try:
        return gate.identified(request, store)
    except SignInNeeded:
        return None


def _page(
    request: Request, store: Store, next: str, *, username: str = "", error: str = "", status: int = 200
) -> HTMLResponse:
    request.state.who = None  # nobody's links, whoever looks at the page
    config = store.config
    label = str(config.get("webserver", "oidc_label")) if oidc.is_used(config) else ""
    values = {"next": local_path(next), "username": username, "error": error, "oidc_label": label}
    return render(request, "login.html", status=status, **values)
