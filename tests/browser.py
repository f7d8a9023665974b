"""A real browser in front of a real opskit: `site` (a webserver, and what it shows), `page` (Chromium, by Playwright).

A page that logs an error, breaks its content security policy or asks another host for anything fails its test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from opskit import config as configuration
from opskit.core.metastore import passwords, schema, users
from opskit.core.metastore.engine import open_engine, transaction
from tests import services, strays, warm
from tests.daemons import Daemon
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PASSWORD = "correct horse battery"
USERS = {"ada": "Admin", "otto": "Op", "ursula": "User", "viola": "Viewer"}
"""Who can sign in, all with PASSWORD, and with which role."""
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Site:
    """An OPSKIT_HOME with its daemons. `url` has no slash at its end."""

    home: Path
    url: str
    environment: dict[str, str]

    def opskit(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = warm.run(*arguments, env=self.environment)
        if check and done.returncode:
            raise AssertionError(
                f"opskit {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    home: Path, *, url: str | None = None, standalone: bool = True, settings: dict[str, str] | None = None
) -> Iterator[Site]:
    """A site with USERS: a whole cluster, or only the webserver. `url`: of the metastore; None: SQLite."""
    port = free_port()
    environment = {
        **os.environ,
        "OPSKIT_HOME": str(home),
        strays.VARIABLE: f"site-{port}",  # it outlives tests, so it is looked after here
        "OPSKIT__WEBSERVER__ENABLED": "yes",
        "OPSKIT__WEBSERVER__WEB_SERVER_PORT": str(port),
        **(settings or {}),
    }
    if url is not None:
        environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = url
    (home / "dags").mkdir(parents=True, exist_ok=True)
    site = Site(home, f"http://127.0.0.1:{port}", environment)
    _create_users(home, environment)
    daemon = Daemon("standalone" if standalone else "webserver", home / "daemon.log", environment)
    try:
        wait_until(lambda: _answers(site.url), 60, what=lambda: daemon.log())
        yield site
    finally:
        daemon.stop(timeout=60)
        strays.check(set(), mark=f"site-{port}")


def _create_users(home: Path, environment: dict[str, str]) -> None:
    """A metastore with USERS; as `opskit db migrate` and `opskit users create` do it, in one process."""
    engine = open_engine(configuration.load(home, environment))
    schema.migrate(engine)
    known = passwords.hashed(PASSWORD)
    with transaction(engine) as connection:
        for name, role in USERS.items():
            names = {"first_name": name.title(), "last_name": "Example", "email": f"{name}@example.com"}
            users.create_user(connection, name, datetime.now(UTC), roles=[role], password_hash=known, **names)
    engine.dispose()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or services.missing("the program chromium is not installed")
    from playwright.sync_api import sync_playwright

    # It lives longer than one test, and so do the processes that it starts in between.
    mark = f"browser-{os.getpid()}"
    mine, os.environ[strays.VARIABLE] = os.environ[strays.VARIABLE], mark
    try:
        playwright = sync_playwright().start()
        found = playwright.chromium.launch(executable_path=program, args=list(CHROMIUM_ARGUMENTS))
    finally:
        os.environ[strays.VARIABLE] = mine
    yield found
    found.close()
    playwright.stop()
    strays.check(set(), mark=mark)


@pytest.fixture
def sign_in(browser: Browser) -> Iterator[Any]:
    """`sign_in(site, "viola", **options of the context) -> Page`: a window of its own for each call."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(site: Site, username: str | None = "ada", **options: Any) -> Page:
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        page = context.new_page()
        watch(page, site.url, problems)
        if username is not None:
            page.goto("/login")
            page.get_by_label("Username").fill(username)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{site.url}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems


def watch(page: Page, url: str, problems: list[str]) -> None:
    """Add to `problems` whatever the page does that no page of ours should."""

    def on_console(message: Any) -> None:
        # An answer 4xx is shown on the page, and the browser logs it as well: tests ask for some on purpose.
        if message.type == "error" and "Failed to load resource" not in message.text:
            problems.append(f"{page.url}: {message.text}")

    def on_request(request: Any) -> None:
        if not request.url.startswith((url, "data:", "about:", "blob:")):
            problems.append(f"{page.url} asks for {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: {error}"))
    page.on("request", on_request)
