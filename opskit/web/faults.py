"""What a request answers when something is wrong: `application/problem+json` for programs, a page for people."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from opskit.errors import GuardRefused, LockHeld, MetastoreUnavailable, NotFound, OpskitError, RemoteError, UsageError

log = logging.getLogger(__name__)


class SignInNeeded(OpskitError):
    """Nobody is signed in, or the credentials are wrong."""


class Forbidden(GuardRefused):
    """The person lacks a permission."""


class TooManyAttempts(OpskitError):
    """Too many wrong passwords: so many seconds nobody of this name or address may try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many wrong passwords: try again in {seconds} s")
        self.seconds = seconds


class Conflict(UsageError):
    """Something of this name is there already."""


class NotAcceptable(UsageError):
    """The answer does not come in the form that the request asks for."""


class NotServed(OpskitError):
    """A call of Airflow's API that has no meaning here; the message says why."""


_STATUS: tuple[tuple[type[OpskitError], int], ...] = (
    (SignInNeeded, 401),
    (TooManyAttempts, 429),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (NotAcceptable, 406),
    (UsageError, 400),
    (GuardRefused, 409),
    (LockHeld, 409),
    (NotServed, 501),
    (RemoteError, 502),
    (MetastoreUnavailable, 503),
)
_API = ("/api/", "/opskit/")


def status_of(error: OpskitError) -> int:
    """The HTTP status that an error answers with; 500 for what is a bug."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(status: int, detail: str, **more: Any) -> JSONResponse:
    """RFC 9457, as Airflow's API answers."""
    headers = {"WWW-Authenticate": 'Basic realm="opskit", Bearer'} if status == 401 else None
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Let every error become an answer: none shows a traceback or a secret."""
    app.add_exception_handler(OpskitError, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unknown)


def answer(request: Request, status: int, message: str, hint: str | None = None) -> Response:
    """A problem for programs, a page for people."""
    if request.url.path.startswith(_API):
        told = problem(status, message, **({"hint": hint} if hint else {}))
        if status == 401 and "sec-fetch-mode" in request.headers:
            # For a browser's fetch(): it would ask the person for a password, of which it must know nothing.
            told.headers["WWW-Authenticate"] = "Bearer"
        return told
    from opskit.web.render import render

    return render(request, "error.html", status=status, title=HTTPStatus(status).phrase, message=message, hint=hint)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, OpskitError)
    if isinstance(error, SignInNeeded) and not request.url.path.startswith(_API) and request.method == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" + (f"?{urlencode({'next': wanted})}" if wanted != "/" else ""), 303)
    told = answer(request, status_of(error), error.message, error.hint)
    if isinstance(error, TooManyAttempts):
        told.headers["Retry-After"] = str(error.seconds)
    return told


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = answer(request, error.status_code, str(error.detail))
    told.headers.update(error.headers or {})
    return told


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Only where and what: the input itself may be a secret.
    said = "; ".join(f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}" for one in error.errors())
    return answer(request, 400, said)


def _unknown(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer(request, 500, "an unexpected error: the log of the webserver has it")
