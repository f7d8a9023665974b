"""A webserver in a thread of the test, with people and nothing else: for what guards it."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore import audit, passwords, users
from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.web import app as application
from opskit.web.security.rules import read_rules
from opskit.web.store import Store
from tests.api_site import serving

PASSWORD = "correct horse battery"
CHEAP = "scrypt:1024:8:1"
"""For `passwords._METHOD`: what a test pays for each sign-in."""
FACES = {
    "AIRFLOW_API": ("airflow_api.pools", "airflow_api.users", "airflow_api.event_logs"),
    "OPSKIT_API": (),
    "PAGES": ("pages.sign_in", "pages.account", "pages.users", "pages.roles"),
}
"""Of the application: making all of it takes longer than these tests."""
_CONTEXT = ssl.create_default_context()
PEOPLE = {"ada": "Admin", "viola": "Viewer"}


@dataclass
class WebSite:
    """People: PEOPLE with their roles, all with PASSWORD."""

    config: Config
    engine: Engine
    url: str
    app: Any

    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, **options: Any) -> httpx.Client:
        # To read all certificates of the machine for each client would take longer than most requests.
        self.clients.append(httpx.Client(base_url=self.url, timeout=30, verify=_CONTEXT, **options))
        return self.clients[-1]

    @contextmanager
    def having(self, **given: Any) -> Iterator[None]:
        """With other settings of [webserver] for a while."""
        before = self.config, self.app.state.rules, self.app.state.store
        values = {**self.config.values, **{f"webserver.{name}": value for name, value in given.items()}}
        self.config = replace(self.config, values=values)
        self.app.state.rules, self.app.state.store = read_rules(self.config), Store(self.config, self.engine)
        try:
            yield
        finally:
            self.config, self.app.state.rules, self.app.state.store = before

    def hang_up(self) -> None:
        """Close all clients: after each test."""
        while self.clients:
            self.clients.pop().close()

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
        with pytest.MonkeyPatch.context() as patch:
            for name, modules in FACES.items():
                patch.setattr(application, name, modules)
            app = application.make_app(config, engine)
        with serving(app) as address:
            made = WebSite(config, engine, address, app)
            try:
                yield made
            finally:
                made.hang_up()
    finally:
        engine.dispose()
