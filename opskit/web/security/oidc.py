"""Signing in with OpenID Connect: authorization code flow with PKCE, state and nonce.

What is remembered between the two requests lies encrypted in a cookie of the browser that began, so that any
webserver of this metastore can go on, and nobody else's answer is taken.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from opskit.config import Config
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.users import can_be_username
from opskit.errors import ConfigError, OpskitError, UsageError
from opskit.web.security.oidc_provider import Provider
from opskit.web.security.rules import rules_of
from opskit.web.store import Store

CALLBACK = "/login/oidc/callback"
_SECONDS = 600
_TOO_LATE = "signing in took too long, or began in another browser: begin again"


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the provider vouches for."""

    identity: str
    """SHA-256 of the issuer and what it calls this person: it never changes, as names do."""
    username: str
    roles: tuple[str, ...] | None
    """None: the provider is not asked for roles."""
    first_name: str
    last_name: str
    email: str


def is_used(config: Config) -> bool:
    return bool(config.get("webserver", "oidc_issuer"))


def begin(request: Request, store: Store, next: str) -> Response:
    """Send the browser to the provider."""
    provider = provider_of(request, store)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": own_url(request, store.config, CALLBACK),
        "scope": str(store.config.get("webserver", "oidc_scopes")),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    target = provider.endpoint("authorization_endpoint")
    answer = RedirectResponse(f"{target}{'&' if '?' in target else '?'}{urlencode(asked)}", 303)
    kept = json.dumps({"state": state, "nonce": nonce, "verifier": verifier, "next": next, "at": int(time.time())})
    secure = rules_of(request).is_secure(request)
    answer.set_cookie(
        _cookie(secure),
        open_cipher(store.config).encrypt(kept),
        max_age=_SECONDS,
        path="/",
        httponly=True,
        samesite="lax",
        secure=secure,
    )
    return answer


def finish(request: Request, store: Store) -> tuple[Person, str, str]:
    """The person, the page that was wanted, and the ID token, from the provider's answer. UsageError when it is not the
    answer to what this browser began, or the provider refused; RemoteError when it can't be asked."""
    kept = _kept(request, store.config)
    given = request.query_params
    if not hmac.compare_digest(str(kept["state"]).encode(), given.get("state", "").encode()):
        raise UsageError(_TOO_LATE)
    if given.get("error") or not given.get("code"):
        # Its words may come from anybody who made the link: only a word that the standard could know is shown.
        reason = given.get("error", "no code")[:60]
        raise UsageError(f"the provider did not sign you in: {reason if reason.isascii() else 'error'}")
    provider = provider_of(request, store)
    tokens = provider.exchange(given["code"], str(kept["verifier"]), own_url(request, store.config, CALLBACK))
    claims = provider.verified(tokens.get("id_token"), str(kept["nonce"]))
    get = store.config.get
    wanted = [str(get("webserver", "oidc_username_claim")), str(get("webserver", "oidc_roles_claim"))]
    if any(name and _find(claims, name) is None for name in wanted) and provider.has_userinfo:
        more = provider.userinfo(tokens.get("access_token"))
        if more.get("sub") != claims["sub"]:
            raise UsageError("the provider told of another person")
        claims = {**more, **claims}
    return _person(provider.issuer, claims, store.config), str(kept["next"]), str(tokens["id_token"])


def forget(request: Request, answer: Response) -> None:
    """What was remembered is used up."""
    secure = rules_of(request).is_secure(request)
    answer.delete_cookie(_cookie(secure), path="/", httponly=True, samesite="lax", secure=secure)


def _person(issuer: str, claims: dict[str, Any], config: Config) -> Person:
    name = str(config.get("webserver", "oidc_username_claim"))
    username = _find(claims, name)
    if not isinstance(username, str) or not can_be_username(username):
        raise UsageError(f"the provider does not tell the claim {name}", hint="see webserver.oidc_username_claim")
    if name == "email" and claims.get("email_verified") is False:
        raise UsageError("the provider has not verified this e-mail address")
    said = {key: value if isinstance(value := claims.get(key), str) else "" for key in ("given_name", "family_name")}
    email = claims.get("email")
    return Person(
        hashlib.sha256(f"{issuer}\0{claims['sub']}".encode()).hexdigest(),
        username,
        _roles(claims, config),
        said["given_name"][:250],
        said["family_name"][:250],
        email if isinstance(email, str) and len(email) <= 320 and claims.get("email_verified") is not False else "",
    )


def _roles(claims: dict[str, Any], config: Config) -> tuple[str, ...] | None:
    name = str(config.get("webserver", "oidc_roles_claim"))
    if not name:
        return None
    found = _find(claims, name)
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    mapped = config.get("webserver", "oidc_role_map")
    table: dict[str, Any] = mapped if isinstance(mapped, dict) else {}
    roles = [str(table[one]) if one in table else one for one in values if isinstance(one, str)]
    if table:
        roles = [one for one in roles if one in table.values()]
    return tuple(dict.fromkeys(roles))


def _find(claims: dict[str, Any], name: str) -> Any:
    """A claim by its name, else by a path: `realm_access.roles`."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def provider_of(request: Request, store: Store) -> Provider:
    """UsageError when none is used; ConfigError when its settings don't fit together."""
    if not is_used(store.config):
        raise UsageError("OpenID Connect is not used here", hint="set webserver.oidc_issuer")
    provider: Provider | None = getattr(request.app.state, "oidc", None)
    if provider is None:
        provider = request.app.state.oidc = Provider.of(store.config)
    return provider


def own_url(request: Request, config: Config, path: str) -> str:
    """A page of ours as the provider knows it."""
    base = str(config.get("webserver", "base_url")).rstrip("/")
    if not base:
        scheme = "https" if rules_of(request).is_secure(request) else "http"
        base = f"{scheme}://{request.headers['host']}"
    return base + path


def _kept(request: Request, config: Config) -> dict[str, Any]:
    text = request.cookies.get(_cookie(rules_of(request).is_secure(request)), "")
    try:
        kept: dict[str, Any] = json.loads(open_cipher(config).decrypt(text, "the cookie of this sign-in"))
    except ConfigError:
        raise
    except (OpskitError, ValueError) as error:
        raise UsageError(_TOO_LATE) from error
    if time.time() - kept["at"] > _SECONDS:
        raise UsageError(_TOO_LATE)
    return kept


def _cookie(secure: bool) -> str:
    return "__Host-opskit_oidc" if secure else "opskit_oidc"
