"""Signing out at the OpenID Connect provider, too: RP-initiated logout, where webserver.oidc_end_session asks for it.

The session here is over before anything of this happens. The ID token that the provider wants to see again lies
encrypted in a cookie that only `/logout` is sent, for one that is not too long for a cookie; without it the provider is
told who we are, and asks the person itself.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

from fastapi import Request, Response

from opskit.core.metastore.crypto import open_cipher
from opskit.errors import ConfigError, OpskitError
from opskit.web.identity import Who
from opskit.web.security import oidc
from opskit.web.security.rules import rules_of
from opskit.web.store import Store

PATH = "/logout"
_AFTERWARDS = "/login"
_LONGEST = 3500
"""Characters of a cookie: browsers take 4,096 with its name and attributes."""


def is_wanted(store: Store) -> bool:
    return oidc.is_used(store.config) and bool(store.config.get("webserver", "oidc_end_session"))


def remember(request: Request, store: Store, answer: Response, username: str, id_token: str) -> None:
    """Keep with the browser what ends the session at the provider, for as long as the session here may last."""
    if not is_wanted(store):
        return
    cipher = open_cipher(store.config)
    sealed = cipher.encrypt(json.dumps({"username": username, "id_token": id_token}))
    if len(sealed) > _LONGEST:
        sealed = cipher.encrypt(json.dumps({"username": username, "id_token": ""}))
    rules = rules_of(request)
    secure = rules.is_secure(request)
    answer.set_cookie(
        _cookie(secure),
        sealed,
        max_age=int(rules.lifetime.total_seconds()),
        path=PATH,
        httponly=True,
        samesite="strict",
        secure=secure,
    )


def forget(request: Request, answer: Response) -> None:
    """Somebody signs in otherwise, or has signed out."""
    secure = rules_of(request).is_secure(request)
    answer.delete_cookie(_cookie(secure), path=PATH, httponly=True, samesite="strict", secure=secure)


def url(request: Request, store: Store, who: Who) -> str | None:
    """Where this person, who has signed in by the provider, ends the session there; None when there is nothing to end,
    or the provider has no such page. RemoteError when it can't be asked."""
    text = request.cookies.get(_cookie(rules_of(request).is_secure(request)), "")
    if not text or not is_wanted(store):
        return None
    try:
        kept = json.loads(open_cipher(store.config).decrypt(text, "the cookie of this sign-out"))
    except ConfigError:
        raise
    except (OpskitError, ValueError):
        return None
    if kept["username"] != who.username:
        return None
    provider = oidc.provider_of(request, store)
    if not provider.has_end_session:
        return None
    asked = {
        "client_id": provider.client_id,
        "post_logout_redirect_uri": oidc.own_url(request, store.config, _AFTERWARDS),
    }
    if kept["id_token"]:
        asked["id_token_hint"] = kept["id_token"]
    target = provider.endpoint("end_session_endpoint")
    return f"{target}{'&' if '?' in target else '?'}{urlencode(asked)}"


def _cookie(secure: bool) -> str:
    # Not __Host-: such a cookie goes with every request, and this one may be long.
    return "__Secure-opskit_oidc_end" if secure else "opskit_oidc_end"
