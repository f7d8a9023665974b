"""Which names are served, whose word is believed, and who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from opskit import config as settings
from opskit.errors import ConfigError
from opskit.web.security.rules import Rules, read_rules


def rules(tmp_path: Path, **given: str) -> Rules:
    return read_rules(
        settings.load(tmp_path, {f"OPSKIT__WEBSERVER__{name.upper()}": text for name, text in given.items()})
    )


def request(peer: str = "10.0.0.1", scheme: str = "http", **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 1), "headers": raw, "scheme": scheme, "path": "/"}
    return HTTPConnection({**scope, "server": ("opskit", 80), "query_string": b""})


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.168.1.9", True),
        ("opskit", True),
        ("Opskit.Corp.Example", True),
        ("opskit.corp.example.:443", True),
        ("a.b.wide.example", True),
        ("wide.example", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#opskit", False),
        ("evil.example/opskit", False),
        ("user@opskit", False),
        ("opskit:notaport", False),
        ("", False),
    ],
)
def test_only_names_of_ours_are_served(tmp_path: Path, host: str, served: bool) -> None:
    made = rules(tmp_path, base_url="https://opskit.corp.example/", allowed_hosts="*.wide.example")
    assert made.serves(host) is served
    assert rules(tmp_path, allowed_hosts="*").serves(host) or not served or host == ""


def test_nobody_is_believed_unless_it_is_set(tmp_path: Path) -> None:
    made = rules(tmp_path, proxy_user_header="X-User", trusted_proxies="10.0.0.0/24,fd00::/8")
    assert made.proxy_user(request("10.0.0.7", x_user="mia")) == "mia"
    assert made.proxy_user(request("::ffff:10.0.0.7", x_user="mia")) == "mia"
    assert made.proxy_user(request("10.0.1.7", x_user="mia")) is None
    assert made.proxy_user(request("testclient", x_user="mia")) is None
    assert made.proxy_user(request("10.0.0.7")) is None
    assert rules(tmp_path).proxy_user(request("10.0.0.7", x_user="mia")) is None
    twice = HTTPConnection({**request("10.0.0.7").scope, "headers": [(b"x-user", b"mia"), (b"x-user", b"admin")]})
    assert made.proxy_user(twice) is None


def test_who_asks_is_the_nearest_address_that_is_no_trusted_proxys(tmp_path: Path) -> None:
    made = rules(tmp_path, trusted_proxies="10.0.0.0/24")
    assert made.address(request("10.0.0.7", x_forwarded_for="6.6.6.6, 1.2.3.4, 10.0.0.9")) == "1.2.3.4"
    assert made.address(request("10.0.0.7", x_forwarded_for="1.2.3.4")) == "1.2.3.4"
    assert made.address(request("5.5.5.5", x_forwarded_for="1.2.3.4")) == "5.5.5.5"
    assert made.address(request("10.0.0.7")) == "10.0.0.7"


def test_cookies_are_for_https_only_wherever_the_browser_speaks_it(tmp_path: Path) -> None:
    behind = rules(tmp_path, trusted_proxies="10.0.0.0/24")
    assert behind.is_secure(request("10.0.0.7", x_forwarded_proto="https"))
    assert not behind.is_secure(request("5.5.5.5", x_forwarded_proto="https"))
    assert behind.is_secure(request("5.5.5.5", scheme="https"))
    assert rules(tmp_path, cookie_secure="true").is_secure(request())
    assert rules(tmp_path, base_url="https://opskit.example").is_secure(request())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"trusted_proxies": "10.0.0.0/99"}, "no network"),
        ({"proxy_user_header": "X-User"}, "no proxy is trusted"),
        ({"base_url": "opskit.example"}, "no http or https URL"),
    ],
)
def test_settings_that_can_not_be_are_refused_by_name(tmp_path: Path, given: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        rules(tmp_path, **given)
