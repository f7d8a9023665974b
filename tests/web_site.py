"""A webserver in a thread of the test, with people and nothing else: for what guards it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore import audit, passwords, users
from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.web.app import make_app
from tests.api_site import serving

PASSWORD = "correct horse battery"
CHEAP = "scrypt:1024:8:1"
"""For `passwords._METHOD`: what a test pays for each sign-in."""
PEOPLE = {"ada": "Admin", "viola": "Viewer"}


@dataclass
class WebSite:
    """People: PEOPLE with their roles, all with PASSWORD."""

    config: Config
    engine: Engine
    url: str
    app: Any

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def signed_in(self, username: str = "ada", password: str = PASSWORD, **options: Any) -> Browser:
        browser = Browser(self.client(**options))
        answer = browser.http.post("/login", data={"username": username, "password": password})
        assert answer.status_code == 303, answer.text
        return browser

    def audit_lines(self, event: str | None = None) -> list[AuditLine]:
        with reading(self.engine) as connection:
            return audit.read(connection, event=event)


class Browser:
    """A client with the cookie of a session, that posts forms as pages do."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def token(self) -> str:
        return csrf_token(self.http.get("/me").text)

    def post(self, path: str, **fields: Any) -> httpx.Response:
        return self.http.post(path, data={"csrf_token": self.token(), **fields})


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrf-token" content="([^"]*)"', page)
    assert found, page
    return found[1]


@contextmanager
def web_site(home: Path, url: str, given: dict[str, Any] | None = None, *, people: bool = True) -> Iterator[WebSite]:
    """`url`: of a migrated metastore. `given`: settings of [webserver]. Patch `passwords._METHOD` to CHEAP before."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
    for name, value in (given or {}).items():
        environment[f"OPSKIT__WEBSERVER__{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    config = settings.load(home, environment)
    engine = open_engine(config, pool_size=5)
    try:
        if people:
            hashed = passwords.hashed(PASSWORD)
            with transaction(engine) as connection:
                for name, role in PEOPLE.items():
                    users.create_user(connection, name, datetime.now(UTC), roles=[role], password_hash=hashed)
        app = make_app(config, engine)
        with serving(app) as address:
            yield WebSite(config, engine, address, app)
    finally:
        engine.dispose()
