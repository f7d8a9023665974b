"""A webserver in a thread of the test over one OPSKIT_HOME, whose verbs are real processes of opskit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from fastapi import Request

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore.engine import Engine, open_engine
from opskit.web import gate, verbs
from opskit.web.app import make_app
from opskit.web.identity import ROLES, Who
from opskit.web.verbs import Verbs
from tests.api_site import serving


@dataclass
class OperationsSite:
    """`as_role("Op")` is a client of somebody with this role; whoever it is was signed in elsewhere."""

    home: Path
    config: Config
    engine: Engine
    url: str
    verbs: Verbs

    def as_role(self, role: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"x-role": role}, timeout=60, follow_redirects=True, verify=False
        )


@contextmanager
def operations_site(home: Path) -> Iterator[OperationsSite]:
    """`home`: with a migrated metastore, as the environment names it."""
    config = settings.load()
    engine = open_engine(config, pool_size=5)
    app = make_app(config, engine)
    app.dependency_overrides[gate.identify] = _somebody
    try:
        with serving(app) as url:
            yield OperationsSite(home, config, engine, url, verbs.of_app(app))
    finally:
        verbs.end_all(app)
        engine.dispose()


async def _somebody(request: Request) -> Who:
    role = request.headers["x-role"]
    who = Who(role.lower(), (role,), ROLES[role], csrf_token="token")
    request.state.who = who
    return who
