"""A message that survives one redirect: in a short-lived, signed cookie, so that no session store is needed."""

from __future__ import annotations

import base64
import json
import time
from typing import Literal

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from opskit.core.metastore.crypto import Cipher, open_cipher
from opskit.errors import OpskitError
from opskit.web.security.rules import rules_of
from opskit.web.store import store_of

Kind = Literal["good", "warn", "bad", "info"]
COOKIE = "opskit_flash"
_SECONDS = 60
_LONGEST = 1500
_PURPOSE = "web flash"


def redirect(request: Request, url: str, message: str | None = None, kind: Kind = "good") -> RedirectResponse:
    """See other, and say this there. `url` is one of our own paths."""
    answer = RedirectResponse(url, 303)
    if message:
        payload = json.dumps([int(time.time()), kind, message[:_LONGEST]]).encode()
        key, signature = _cipher(request).sign(_PURPOSE, payload)
        text = base64.urlsafe_b64encode(payload).decode()
        answer.set_cookie(
            COOKIE,
            f"{text}.{key}.{signature}",
            max_age=_SECONDS,
            httponly=True,
            samesite="lax",
            secure=rules_of(request).is_secure(request),
        )
    return answer


def waiting(request: Request) -> tuple[Kind, str] | None:
    """The message that came with this request, when it is ours and fresh."""
    value = request.cookies.get(COOKIE)
    if not value:
        return None
    try:
        text, key, signature = value.split(".")
        payload = base64.urlsafe_b64decode(text)
        if not signature.isascii() or not _cipher(request).is_signed(_PURPOSE, payload, key, signature):
            return None
        at, kind, message = json.loads(payload)
    except (ValueError, OpskitError):
        return None
    return (kind, message) if time.time() - at <= _SECONDS else None


def take_away(answer: Response) -> None:
    """Let the browser forget the message: it was shown."""
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax")


def _cipher(request: Request) -> Cipher:
    return open_cipher(store_of(request).config)
