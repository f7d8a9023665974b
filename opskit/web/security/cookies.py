"""The cookie of a session, and the token against forged requests that belongs to it."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import HTTPConnection
from starlette.responses import Response

from opskit.config import Config
from opskit.core.metastore.crypto import open_cipher
from opskit.web.security.rules import Rules

_NAME = "opskit_session"


def name(secure: bool) -> str:
    """`__Host-`: a browser takes such a cookie only by HTTPS and from this very host, so no neighbour can plant one."""
    return f"__Host-{_NAME}" if secure else _NAME


def read(connection: HTTPConnection, rules: Rules) -> str | None:
    """The session's cookie, if one was sent."""
    return connection.cookies.get(name(rules.is_secure(connection))) or None


def give(answer: Response, connection: HTTPConnection, rules: Rules, value: str) -> None:
    """Let the browser keep the cookie of a session."""
    secure = rules.is_secure(connection)
    answer.set_cookie(
        name(secure),
        value,
        max_age=int(rules.lifetime.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=secure,
    )


def take_away(answer: Response, connection: HTTPConnection, rules: Rules) -> None:
    """Let the browser forget it."""
    secure = rules.is_secure(connection)
    answer.delete_cookie(name(secure), path="/", httponly=True, samesite="lax", secure=secure)


def csrf_token(cookie: str) -> str:
    """The token that pages of this session send with every change."""
    return hmac.new(cookie.encode("utf-8", "surrogatepass"), b"opskit csrf", hashlib.sha256).hexdigest()


def proxy_csrf_token(config: Config, username: str) -> str:
    """The same for a person that a proxy names: there is no session, so it is bound to the name."""
    return "-".join(open_cipher(config).sign("web csrf", username.encode("utf-8", "surrogatepass")))
