"""The application in a thread of the test, asked by somebody of a given role, with its statements counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request
from sqlalchemy import event

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore.engine import Engine, open_engine
from opskit.web import gate, live
from opskit.web.app import make_app
from opskit.web.identity import ROLES, Who
from tests.api_site import serving


@dataclass
class PageSite:
    """`as_("Viewer")` is a client for one role; `statements` are those of the application since `forget()`."""

    config: Config
    engine: Engine
    app: Any
    url: str
    who: dict[str, Who] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    def as_(self, role: str) -> httpx.Client:
        """Of this built-in role, or of what `who` has under that name. Redirects are not followed."""
        if role not in self.clients:
            self.clients[role] = httpx.Client(
                base_url=self.url, headers={"X-Test-Role": role}, timeout=30, verify=False
            )
        return self.clients[role]

    def get(self, path: str, role: str = "Admin", status: int = 200) -> str:
        """The page, which is under 200 kB and has nothing that its content policy forbids."""
        answer = self.as_(role).get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-800:])
        assert len(answer.content) < 200_000, (path, len(answer.content))
        return answer.text

    def post(self, path: str, role: Any = "Admin", status: Any = 303, **fields: Any) -> httpx.Response:
        """A form."""
        answer = self.as_(role).post(path, data=fields)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-800:])
        return answer

    def forget(self) -> None:
        self.statements.clear()


@contextmanager
def page_site(home: Path, url: str, environment: dict[str, str] | None = None) -> Iterator[PageSite]:
    """`url`: of a migrated metastore."""
    config = settings.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url, **(environment or {})})
    engine = open_engine(config, pool_size=5)
    app = make_app(config, engine)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        with serving(app) as address:
            site = PageSite(config, engine, app, address, statements=statements)

            async def identify(request: Request) -> Who:
                role = request.headers["X-Test-Role"]
                request.state.who = site.who.get(role) or Who(role.lower(), (role,), ROLES[role], csrf_token="token")
                return request.state.who  # type: ignore[no-any-return]

            app.dependency_overrides[gate.identify] = identify
            try:
                yield site
            finally:
                live.close(app)
                for client in site.clients.values():
                    client.close()
    finally:
        engine.dispose()
