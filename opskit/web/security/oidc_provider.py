"""What an OpenID Connect provider is asked: its endpoints and keys, a token for a code, and who that is."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from opskit.config import Config
from opskit.errors import ConfigError, RemoteError, UsageError

_TIMEOUT_SECONDS = 10.0
_LONGEST_ANSWER = 1 << 20
_KNOWN_FOR_SECONDS = 3600.0
_KEYS_AT_MOST_EVERY_SECONDS = 30.0
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""With keys that only the provider has. Not HS256: who knows the client's secret could sign as the provider."""
_LEEWAY_SECONDS = 60


@dataclass(slots=True)
class Provider:
    """One provider; endpoints and keys are read when they are first needed, and again after an hour."""

    issuer: str
    client_id: str
    client_secret: str
    _described: dict[str, Any] = field(default_factory=dict)
    _described_at: float = -_KNOWN_FOR_SECONDS
    _keys: Any = None
    _keys_at: float = -_KNOWN_FOR_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, config: Config) -> Provider:
        """ConfigError when the settings don't fit together, or the package for it is missing."""
        issuer, client = (str(config.get("webserver", name)) for name in ("oidc_issuer", "oidc_client_id"))
        if not client:
            raise ConfigError("webserver.oidc_issuer is set, but webserver.oidc_client_id is not")
        _require_safe(issuer, "webserver.oidc_issuer")
        try:
            import joserfc  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                "OpenID Connect needs a package that is not installed", hint="pip install 'opskit[oidc]'"
            ) from error
        return cls(issuer, client, str(config.get("webserver", "oidc_client_secret")))

    def endpoint(self, name: str) -> str:
        """URL of an endpoint. RemoteError when the provider can't be asked or does not name it."""
        url = self._description().get(name)
        if not isinstance(url, str):
            raise RemoteError(f"the provider {self.issuer} names no {name}")
        _require_safe(url, f"the {name} of {self.issuer}")
        return url

    @property
    def has_userinfo(self) -> bool:
        return isinstance(self._description().get("userinfo_endpoint"), str)

    @property
    def has_end_session(self) -> bool:
        return isinstance(self._description().get("end_session_endpoint"), str)

    def exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """The tokens for a code. UsageError when the provider does not take it."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        methods = self._description().get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if not self.client_secret:
            fields["client_id"] = self.client_id
        elif "client_secret_basic" in methods:
            pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            fields |= {"client_id": self.client_id, "client_secret": self.client_secret}
        return _ask(self.endpoint("token_endpoint"), headers, urlencode(fields).encode())

    def verified(self, id_token: Any, nonce: str) -> dict[str, Any]:
        """The claims of an ID token, if the provider has made it, for us, now, and for this very sign-in."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        if not isinstance(id_token, str):
            raise UsageError("the provider sent no ID token", hint="webserver.oidc_scopes must hold openid")
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": self.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": self.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = dict(self._decoded(id_token).claims)
            rules.validate(claims)
        except (JoseError, ValueError) as error:
            raise UsageError(f"the provider's ID token does not hold: {type(error).__name__}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != self.client_id:
            raise UsageError("the provider's ID token is for another program")
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise UsageError("the provider's ID token names nobody")
        return claims

    def userinfo(self, access_token: Any) -> dict[str, Any]:
        """More claims about the person."""
        if not isinstance(access_token, str):
            return {}
        return _ask(self.endpoint("userinfo_endpoint"), {"Authorization": f"Bearer {access_token}"})

    def _decoded(self, id_token: str) -> Any:
        from joserfc import jwt
        from joserfc.errors import JoseError

        try:
            return jwt.decode(id_token, self._key_set(0.0), algorithms=list(_ALGORITHMS))
        except (JoseError, ValueError):
            # It may be signed with a key that is newer than those we know.
            return jwt.decode(id_token, self._key_set(_KEYS_AT_MOST_EVERY_SECONDS), algorithms=list(_ALGORITHMS))

    def _key_set(self, older_than: float) -> Any:
        """The provider's keys; read again when they are known for longer than so many seconds (0: for an hour)."""
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        with self._lock:
            if time.monotonic() - self._keys_at > (older_than or _KNOWN_FOR_SECONDS):
                raw = _ask(self.endpoint("jwks_uri"))
                try:
                    self._keys = KeySet.import_key_set(raw)  # type: ignore[arg-type]
                except (JoseError, ValueError, KeyError, TypeError) as error:
                    raise RemoteError(f"the keys of the provider {self.issuer} can't be read") from error
                self._keys_at = time.monotonic()
            return self._keys

    def _description(self) -> dict[str, Any]:
        if time.monotonic() - self._described_at > _KNOWN_FOR_SECONDS:
            found = _ask(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self.issuer:
                raise ConfigError(
                    f"the provider calls itself {found.get('issuer')!r}, webserver.oidc_issuer says {self.issuer!r}",
                    hint="they must be the same, to the last slash",
                )
            self._described, self._described_at = found, time.monotonic()
        return self._described


class _NoRedirect(HTTPRedirectHandler):
    """A code or a token is sent to nobody but who was meant."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _ask(url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> dict[str, Any]:
    """The JSON object that is answered. `url`: one that `_require_safe` has passed. UsageError when what is posted is
    refused; RemoteError."""
    where = urlsplit(url).netloc
    request = Request(url, body, {"Accept": "application/json", **(headers or {})})  # noqa: S310 -- http or https
    try:
        with build_opener(_NoRedirect).open(request, timeout=_TIMEOUT_SECONDS) as answer:
            found = json.loads(answer.read(_LONGEST_ANSWER))
    except HTTPError as error:
        with error:
            if body is not None and error.code in (400, 401, 403):
                raise UsageError(f"the provider {where} does not take this sign-in (HTTP {error.code})") from error
            raise RemoteError(f"the provider {where} answers with HTTP {error.code}") from error
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RemoteError(f"the provider {where} can't be asked: {reason}") from error
    if not isinstance(found, dict):
        raise RemoteError(f"the provider {where} answers with something else than an object")
    return found


def _require_safe(url: str, what: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise ConfigError(f"{what} is {url!r}: an https URL is needed")
