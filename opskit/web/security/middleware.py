"""What every request passes before it reaches a handler, and every answer on its way out. Streams stay streams."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opskit.config import Config
from opskit.web import faults
from opskit.web.bodies import again, whole
from opskit.web.security import cookies, csrf
from opskit.web.security.rules import read_rules, rules_of

_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_BEFORE_SIGNING_IN = "/login"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With no-referrer, browsers would send "Origin: null" with our own forms, and we could not tell them from others'.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


_RAW = [(name.encode("ascii"), value.encode("ascii")) for name, value in HEADERS.items()]
_NAMES = {name for name, _ in _RAW}


def install(app: FastAPI, config: Config) -> None:
    """Put the walls around an application, around its own handling of errors, too. ConfigError for wrong settings."""
    app.state.rules = read_rules(config)
    build = app.build_middleware_stack

    def around() -> ASGIApp:
        return Headers(Hosts(Bodies(Forgeries(build()))))

    app.build_middleware_stack = around  # type: ignore[method-assign]


class Headers:
    """Headers on every answer: pages, APIs, errors and files."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        secure = rules_of(connection).is_secure(connection)
        failed = answered = False

        async def with_headers(message: Message) -> None:
            nonlocal failed, answered
            if message["type"] == "http.response.start":
                failed = message["status"] == 500
                given = [pair for pair in message["headers"] if pair[0] not in _NAMES] + _RAW
                message["headers"] = given
                if all(name != b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-store"))
                if secure:
                    given.append((b"strict-transport-security", b"max-age=31536000"))
            else:
                answered = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception:
            # What was answered with a 500, and logged, comes here once more. The server would break the connection off.
            if not (failed and answered):
                raise


class Hosts:
    """Only requests to a name of ours: else a page of somebody else's could be made to look as if it were ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            connection = HTTPConnection(scope)
            hosts = connection.headers.getlist("host")
            if len(hosts) != 1 or not rules_of(connection).serves(hosts[0]):
                message = "this webserver is not known by the name in the Host header"
                answer = faults.answer(Request(scope), 400, message, "add it to webserver.allowed_hosts")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class TooLarge(HTTPException):
    """The body of a request is larger than `max_body_kib`."""


class Bodies:
    """No body larger than allowed is read, whatever it says of its length."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        said, limit = connection.headers.get("content-length", "0"), rules_of(connection).max_body
        got, begun = 0, False
        error = TooLarge(413, f"the body is larger than {limit // 1024} KiB: see webserver.max_body_kib")

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise error
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if not said.isdecimal() or int(said) > limit:
                raise error
            await self._app(scope, counted, watched)
        except TooLarge:
            if begun:
                raise
            await faults.answer(Request(scope), 413, error.detail)(scope, receive, send)


class Forgeries:
    """No change by a request that another site has made: it must not come from there, and must carry the token.

    Whoever brings basic authentication or a token of the API needs none: browsers don't send these by themselves, or
    (basic authentication that a person typed) say where the request comes from.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._is_foreign(request):
            refused = faults.answer(request, 403, "this request came from another site", "use the form of this page")
            await refused(scope, receive, send)
            return
        wanted = self._wanted(request)
        if wanted is None:
            await self._app(scope, receive, send)
            return
        given = request.headers.get("x-csrf-token")
        if given is None and request.headers.get("content-type", "").split(";")[0].strip().lower() in _FORMS:
            try:
                body = await whole(receive)
                given = await _field(scope, body)
            except ClientDisconnect:
                return
            receive = again(body, receive)
        if not csrf.holds(given or "", wanted):
            hint = "load the page again, then repeat it"
            refused = faults.answer(request, 403, "this request lacks the token of your session", hint)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _wanted(self, request: Request) -> str | None:
        """The token that this request must carry; None: none."""
        # In the order in which signing_in.identify looks.
        rules = rules_of(request)
        person = rules.proxy_user(request)
        if person is not None:
            return cookies.proxy_csrf_token(request.app.state.store.config, person)
        if "authorization" in request.headers or request.url.path == _BEFORE_SIGNING_IN:
            return None
        cookie = cookies.read(request, rules)
        return cookies.csrf_token(cookie) if cookie else None

    def _is_foreign(self, request: Request) -> bool:
        site = request.headers.get("sec-fetch-site")
        if site is not None:
            return site not in ("same-origin", "none")
        origin = request.headers.get("origin")
        if origin is None:
            return False  # no browser
        try:
            named = urlsplit(origin).netloc.lower()
        except ValueError:
            return True
        return named not in (request.headers.get("host", "").lower(), rules_of(request).base_netloc or None)


async def _field(scope: Scope, body: bytes) -> str | None:
    async def nothing() -> Message:
        return {"type": "http.disconnect"}

    try:
        form = await Request(scope, again(body, nothing)).form()
    except (HTTPException, MultiPartException):
        return None
    value = form.get("csrf_token")
    await form.close()
    return value if isinstance(value, str) else None
