"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import moto_server, strays, warm
from tests.browser import browser, sign_in  # noqa: F401 - fixtures
from tests.databases import KINDS, Databases
from tests.moto_server import S3

if importlib.util.find_spec("tests.sshd"):
    from tests.sshd import sshd_nodes  # noqa: F401

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]

# How long something takes depends on what else the machine does.
hypothesis.settings.register_profile("here", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("here")
strays.mark()
for _name in [name for name in os.environ if name.startswith(("OPSKIT__", "AIRFLOW__"))]:
    del os.environ[_name]  # the developer's own cluster is none of the tests' business
os.environ["OPSKIT__WEBSERVER__ENABLED"] = "no"  # for opskit standalone: tests that want pages start a webserver


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Makes databases: `.empty(kind)`, `.migrated(kind)`, `.drop(url)`; kinds are sqlite, postgresql, mariadb."""
    made = Databases(tmp_path_factory.mktemp("databases"))
    yield made
    made.drop_all()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """URL of a fresh, empty database, on each kind in turn."""
    url = databases.empty(request.param)
    yield url
    databases.drop(url)


@pytest.fixture(params=KINDS)
def metastore_url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    """URL of a fresh metastore with the current schema, on each kind in turn."""
    url = databases.migrated(request.param)
    yield url
    databases.drop(url)


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """URL of a fresh, empty PostgreSQL database."""
    url = databases.empty("postgresql")
    yield url
    databases.drop(url)


@pytest.fixture
def mariadb_url(databases: Databases) -> Iterator[str]:
    """URL of a fresh, empty MariaDB database."""
    url = databases.empty("mariadb")
    yield url
    databases.drop(url)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An OPSKIT_HOME of its own, with an empty DAG folder; the environment points to it."""
    folder = tmp_path / "opskit-home"
    (folder / "dags").mkdir(parents=True)
    monkeypatch.setenv("OPSKIT_HOME", str(folder))
    return folder


@pytest.fixture
def opskit(home: Path) -> Opskit:
    """`opskit("dags", "list", env={…}, check=True, input="…")`: a process with text output (see warm.py)."""

    def run(
        *arguments: object,
        env: dict[str, str] | None = None,
        check: bool = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        done = warm.run(*map(str, arguments), env={**os.environ, "OPSKIT_HOME": str(home), **(env or {})}, **options)
        if check and done.returncode != 0:
            raise AssertionError(
                f"opskit {' '.join(map(str, arguments))} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = moto_server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A running S3 API without buckets, credentials for it in the environment: `.endpoint_url`, `.make_bucket()`."""
    for name, value in moto_server.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield s3_server
    s3_server.reset()


@pytest.fixture(autouse=True)
def no_process_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test ends what it starts. (Unit tests start nothing.)"""
    if "unit" in request.path.parent.parts:
        yield
        return
    before = strays.numbers()
    yield
    strays.check(before)
