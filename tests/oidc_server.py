"""An OpenID Connect provider: real HTTP, real RSA keys, and each mistake that a test asks for."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "opskit", "the client's secret: % and +"


@dataclass
class Provider:
    """`claims`: of the person who signs in. `lies`: what ID tokens say instead; `userinfo`: told there only."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    signs_with: Any = None
    """Another key than the published ones."""
    algorithm: str = "RS256"
    refuses: str = ""
    """The error with which it sends people back."""
    keys: list[RSAKey] = field(default_factory=lambda: [_new_key()])
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ends_sessions: bool = False
    """Whether its metadata name a page for signing out."""

    def rotate(self) -> None:
        self.keys = [OTHER_KEY]

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        standard = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        said = {**standard, **self.claims, **self.lies}
        if self.algorithm == "none":
            return f"{_part({'alg': 'none'})}.{_part(said)}."
        key = self.signs_with or self.keys[0]
        if self.algorithm == "HS256":
            key = OctKey.import_key(SECRET * 2)
        header = {"alg": self.algorithm, **({"kid": key.kid} if key.kid else {})}
        return jwt.encode(header, {name: one for name, one in said.items() if one is not None}, key, [self.algorithm])


def _new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": secrets.token_hex(8)})


OTHER_KEY = _new_key()


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@contextmanager
def oidc_provider() -> Iterator[Provider]:
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(provider))
    provider.issuer = f"http://127.0.0.1:{server.server_port}/realm"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/realm/.well-known/openid-configuration":
                base = provider.issuer
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
                described = {name: f"{base}/{path}" for name, path in names.items()}
                if provider.ends_sessions:
                    described["end_session_endpoint"] = f"{base}/logout?realm=main"
                self._json({"issuer": base, "userinfo_endpoint": f"{base}/userinfo", **described})
            elif parts.path == "/realm/keys":
                self._json({"keys": [key.as_dict(private=False) for key in provider.keys]})
            elif parts.path == "/realm/authorize":
                self._authorize(query)
            elif parts.path == "/realm/userinfo":
                self._json({"sub": provider.claims["sub"], **provider.userinfo})
            else:
                self._json({}, 404)

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            given = {name: values[0] for name, values in parse_qs(body).items()}
            pair = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            known = [parse_qs("x=" + part)["x"][0] for part in pair.split(":")] == [CLIENT, SECRET]
            asked = provider.codes.pop(given.get("code", ""), None)  # a code holds once
            challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest()).rstrip(b"=")
            if not known or asked is None or challenge.decode() != asked["code_challenge"]:
                self._json({"error": "invalid_grant"}, 400)
            elif given["redirect_uri"] != asked["redirect_uri"] or given["grant_type"] != "authorization_code":
                self._json({"error": "invalid_request"}, 400)
            else:
                token = {"access_token": "an access token", "token_type": "Bearer", "expires_in": 60}
                self._json({**token, "id_token": provider.id_token(asked)})

        def _authorize(self, query: dict[str, str]) -> None:
            assert query["code_challenge_method"] == "S256" and query["response_type"] == "code"
            assert query["client_id"] == CLIENT and "openid" in query["scope"].split()
            if provider.refuses:
                back = {"error": provider.refuses, "state": query["state"]}
            else:
                code = secrets.token_urlsafe(16)
                provider.codes[code] = query
                back = {"code": code, "state": query["state"]}
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{urlencode(back)}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _json(self, value: Any, status: int = 200) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
