"""The settings of the web's walls, read once per application, and what they say of one request."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from opskit.config import Config
from opskit.errors import ConfigError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every request to one webserver."""

    networks: tuple[Network, ...]
    """Of trusted proxies."""
    user_header: str
    roles_header: str
    default_role: str
    always_secure: bool
    hosts: frozenset[str]
    """Names that are served, beside addresses and names without a dot; `*.x` all below x."""
    base_netloc: str
    """Host and port of base_url; empty: there is none."""
    max_body: int
    """Bytes."""
    idle: timedelta
    lifetime: timedelta

    def peer(self, connection: HTTPConnection) -> str:
        """The address that the connection comes from."""
        return connection.client.host if connection.client else ""

    def is_trusted(self, address: str) -> bool:
        """Whether a proxy that is believed has this address."""
        if not self.networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any((mapped or parsed) in network for network in self.networks)

    def address(self, connection: HTTPConnection) -> str:
        """Who asks: the nearest address that is no trusted proxy's."""
        address = self.peer(connection)
        passed = ",".join(connection.headers.getlist("x-forwarded-for")).split(",")
        while self.is_trusted(address) and passed:
            # What stands further left than the last trusted proxy may be invented.
            address = passed.pop().strip() or address
        return address[:64]

    def is_secure(self, connection: HTTPConnection) -> bool:
        """Whether the browser speaks HTTPS."""
        if self.always_secure or connection.scope["scheme"] in ("https", "wss"):
            return True
        said = connection.headers.get("x-forwarded-proto", "").split(",")[-1].strip()
        return said == "https" and self.is_trusted(self.peer(connection))

    def proxy_user(self, connection: HTTPConnection) -> str | None:
        """The person that a trusted proxy names; None: none does."""
        if not self.user_header or not self.is_trusted(self.peer(connection)):
            return None
        named = connection.headers.getlist(self.user_header)
        # Two headers: one of them may be the client's own.
        return named[0].strip() or None if len(named) == 1 else None

    def proxy_roles(self, connection: HTTPConnection) -> list[str] | None:
        """The roles that it names; None: it does not tell."""
        if not self.roles_header or (said := connection.headers.getlist(self.roles_header)) == []:
            return None
        return [name for one in said for part in one.split(",") if (name := part.strip())]

    def serves(self, host: str) -> bool:
        """Whether a Host header names this webserver. Only names with a dot can be an attacker's (DNS rebinding)."""
        name = _host_name(host)
        if name is None:
            return False
        if "*" in self.hosts or name in self.hosts or "." not in name or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
            return True
        except ValueError:
            return any(one.startswith("*.") and name.endswith(one[1:]) for one in self.hosts)


@lru_cache(maxsize=256)
def _host_name(host: str) -> str | None:
    """The name or address of a Host header, in lower case; None: it is none."""
    try:
        parts = urlsplit("//" + host)
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.fragment or "@" in host:
        return None
    return name.rstrip(".") if name.isascii() and not any(one.isspace() for one in name) else None


def read_rules(config: Config) -> Rules:
    """ConfigError for a network, a URL or a default role that can't be."""

    def get(key: str) -> Any:
        return config.get("webserver", key)

    networks: list[Network] = []
    for text in get("trusted_proxies"):
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError as error:
            raise ConfigError(f"webserver.trusted_proxies: {text!r} is no network: {error}") from error
    if get("proxy_user_header") and not networks:
        raise ConfigError(
            "webserver.proxy_user_header is set, but no proxy is trusted", hint="set webserver.trusted_proxies, too"
        )
    base = urlsplit(str(get("base_url")))
    if str(get("base_url")) and (base.scheme not in ("http", "https") or not base.hostname):
        raise ConfigError(f"webserver.base_url: {str(get('base_url'))!r} is no http or https URL")
    own = {base.hostname or "localhost", socket.gethostname(), str(get("web_server_host"))}
    hosts = {name.lower() for name in [*own, *get("allowed_hosts")]}
    tls = bool(get("cookie_secure")) or bool(get("web_server_ssl_cert")) or base.scheme == "https"
    return Rules(
        tuple(networks),
        str(get("proxy_user_header")),
        str(get("proxy_roles_header")),
        str(get("proxy_default_role")),
        tls,
        frozenset(hosts),
        base.netloc.lower(),
        int(get("max_body_kib")) * 1024,
        timedelta(minutes=int(get("session_lifetime_minutes"))),
        timedelta(minutes=int(get("session_max_minutes"))),
    )


def rules_of(connection: HTTPConnection) -> Rules:
    """Those of the application that a request came to."""
    rules: Rules = connection.app.state.rules
    return rules
