"""A webserver of several processes: one to those who ask, whatever happens to any of them."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from opskit.core.metastore import instances, passwords, schema, users
from opskit.core.metastore.engine import open_engine, reading, transaction
from tests.browser import free_port
from tests.waiting import wait_until

PROGRAM = """
import runpy, sys
from opskit.web import app, supervised, supervisor
# Making all of it takes longer than these tests.
app.AIRFLOW_API, app.OPSKIT_API, app.PAGES = ("airflow_api.pools",), ("opskit_api.jobs",), ("live", "wellbeing")
supervised.STUCK_SECONDS, supervisor._DUMP_SECONDS = 4.0, 0.2
{more}
sys.argv = ["opskit", "webserver"]
runpy.run_module("opskit", run_name="__main__")
"""
PASSWORD = "correct horse battery"


class Site:
    """A webserver with two workers; ada is an Admin."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home, self.port, self.process = home, port, process
        self.callers: list[Caller] = []

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def children(self) -> dict[str, int]:
        """Pid by the name of the process, of those that live."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found[Path(f"/proc/{child.pid}/comm").read_text().strip()] = child.pid
        return found

    def connect(self) -> Caller:
        self.callers.append(Caller(self))
        return self.callers[-1]

    def hang_up(self) -> None:
        while self.callers:
            self.callers.pop().http.close()

    def served_by(self, caller: Caller) -> int | None:
        port = caller.http.sock.getsockname()[1]
        for pid in self.children().values():
            with suppress(psutil.Error):
                if any(one.raddr and one.raddr.port == port for one in psutil.Process(pid).net_connections("tcp")):
                    return pid
        return None

    def two(self) -> tuple[Caller, Caller]:
        """Connections to different workers."""
        callers: dict[int, Caller] = {}

        def enough() -> bool:
            caller = self.connect()
            assert caller.get("/livez")[0] == 200
            callers.setdefault(self.served_by(caller) or 0, caller)
            return len(callers) == 2

        wait_until(enough)
        first, second = callers.values()
        return first, second


class Caller:
    """One connection, kept alive."""

    def __init__(self, site: Site) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)

    def ask(self, method: str, path: str, body: object = None, password: str = PASSWORD) -> tuple[int, Any]:
        login = base64.b64encode(f"ada:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        self.http.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.http.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def get(self, path: str, password: str = PASSWORD) -> tuple[int, Any]:
        return self.ask("GET", path, password=password)


@contextmanager
def webserver(home: Path, more: str = "", workers: int = 2) -> Iterator[Site]:
    environment = {
        **os.environ,
        "OPSKIT_HOME": str(home),
        "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/opskit.db",
        "OPSKIT__WEBSERVER__WORKERS": str(workers),
        "OPSKIT__WEBSERVER__WEB_SERVER_PORT": str(port := free_port()),
        "OPSKIT__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    }
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(more=more)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Site(home, port, process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("workers") / "home"
    (home / "dags").mkdir(parents=True)
    engine = open_engine(f"sqlite:///{home}/opskit.db")
    schema.migrate(engine)
    with transaction(engine) as connection:
        hashed = passwords.hashed(PASSWORD)
        users.create_user(connection, "ada", datetime.now(UTC), roles=["Admin"], password_hash=hashed)
    engine.dispose()
    return home


@pytest.fixture
def site(prepared: Path, tmp_path: Path) -> Iterator[Site]:
    home = tmp_path / "home"
    shutil.copytree(prepared, home)
    with webserver(home) as made:
        wait_until(lambda: len(made.children()) == 3, 60, what=made.log)
        yield made
        made.hang_up()


def test_two_workers_share_connections_evenly_one_row_and_the_count_of_wrong_passwords(site: Site) -> None:
    callers = [site.connect() for _ in range(10)]
    for caller in callers:
        assert caller.get("/livez")[0] == 200
    spread = Counter(site.served_by(caller) for caller in callers)
    workers = {pid for name, pid in site.children().items() if name in ("opskit-web-1", "opskit-web-2")}
    assert spread == dict.fromkeys(workers, 5)
    assert all(os.getpriority(os.PRIO_PROCESS, pid) == 5 for pid in workers)
    assert os.getpriority(os.PRIO_PROCESS, site.process.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert len(os.listdir(f"/proc/{site.process.pid}/task")) == 1  # else its forks would not be safe
    engine = open_engine(f"sqlite:///{site.home}/opskit.db")

    def rows() -> list[instances.Instance]:
        with reading(engine) as connection:
            return instances.list_instances(connection, kind="webserver")

    wait_until(lambda: bool(rows()) and rows()[0].progress > 0)
    [row] = rows()
    assert (row.pid, row.ended_at) == (site.process.pid, None)

    one, other = site.two()
    assert one.get("/api/v1/pools")[0] == 200
    assert other.get("/api/v1/pools")[0] == 200
    guesses = [(caller, f"wrong {number}") for number in range(4) for caller in (one, other)]
    answers = [caller.get("/api/v1/pools", password=guess)[0] for caller, guess in guesses]
    assert answers == [401] * 5 + [429] * 3
    # Now neither tells that this one is right.
    assert [caller.get("/api/v1/pools")[0] for caller in (one, other)] == [429, 429]

    children = site.children()
    site.process.terminate()
    assert site.process.wait(30) == 0, site.log()
    assert not any(map(_runs, children.values()))
    assert not list((site.home / "run").glob("webserver.*"))
    assert rows()[0].ended_at is not None
    assert "Traceback" not in site.log()
    assert "was closed: no worker" not in site.log()
    engine.dispose()


def test_a_job_of_one_worker_is_seen_shared_and_stopped_by_the_other_and_outlives_both(site: Site) -> None:
    one, other = site.two()
    stream = site.connect()
    stream.http.request(
        "GET", "/live?topic=operations", headers={"Authorization": "Basic " + _login(), "Accept": "text/event-stream"}
    )
    events = stream.http.getresponse()
    while not events.readline().startswith(b"event: hello"):
        pass
    status, job = one.ask("POST", "/opskit/v1/jobs", {"verb": "doctor"})
    assert status == 202
    while not events.readline().startswith(b"event: change"):
        pass
    events.close()
    assert other.ask("POST", "/opskit/v1/jobs", {"verb": "doctor"})[1]["id"] == job["id"]
    assert [seen["id"] for seen in other.get("/opskit/v1/jobs")[1]["jobs"]] == [job["id"]]
    # Neither of the two has it: the keeper does.
    before = site.children()
    os.kill(site.served_by(one) or 0, signal.SIGKILL)
    os.kill(site.served_by(other) or 0, signal.SIGKILL)
    wait_until(lambda: len(site.children()) == 3 and not _equal(before, site.children()))
    third = site.connect()
    ended = third.get(f"/opskit/v1/jobs/{job['id']}?wait=20")[1]
    assert (ended["state"], ended["exit_code"]) == ("done", 4), ended
    assert site.children()["opskit-web-jobs"] == before["opskit-web-jobs"]

    one, other = site.two()
    job = one.ask("POST", "/opskit/v1/jobs", {"verb": "backup"})[1]
    assert other.ask("DELETE", f"/opskit/v1/jobs/{job['id']}")[0] == 202
    ended = one.get(f"/opskit/v1/jobs/{job['id']}?wait=20")[1]
    assert (ended["state"], ended["report"]) == ("failed", None)


def _login() -> str:
    return base64.b64encode(f"ada:{PASSWORD}".encode()).decode()


def _equal(before: dict[str, int], now: dict[str, int]) -> bool:
    return any(before[name] == now.get(name) for name in ("opskit-web-1", "opskit-web-2"))


def test_workers_that_die_or_hang_are_replaced_while_requests_are_answered(site: Site) -> None:
    one, other = site.two()
    pid = site.served_by(one)
    assert pid is not None
    keeper = site.children()["opskit-web-jobs"]
    os.kill(pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    for _ in range(10):
        assert site.connect().get("/api/v1/pools")[0] == 200
        assert other.get("/api/v1/pools")[0] == 200
    wait_until(lambda: len(site.children()) == 3 and not {pid, keeper} & {*site.children().values()})
    assert f"(pid {pid}): killed by SIGKILL; starting it again in 0.0 s" in site.log()
    with pytest.raises((OSError, http.client.HTTPException)):
        one.get("/livez")
    assert other.get("/livez")[0] == 200

    pid = site.served_by(other)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: f"(pid {pid}, frozen): its main loop has not gone round for" in site.log(), 30, what=site.log)
    for _ in range(5):
        assert site.connect().get("/livez")[0] == 200
    wait_until(lambda: len(site.children()) == 3 and pid not in site.children().values(), 30, what=site.log)
    site.two()

    children = site.children()
    site.process.kill()
    site.process.wait()
    wait_until(lambda: not any(map(_runs, children.values())))


def test_it_gives_up_when_no_worker_starts(home: Path) -> None:
    broken = "supervisor.serve = lambda *_: 1 / 0; supervisor._FIRST_PAUSE_SECONDS = 0.01"
    with webserver(home, broken) as site:
        assert site.process.wait(60) == 1
        assert "the webserver gives up: its worker" in site.log()
        assert "ZeroDivisionError" in site.log()
        assert not list((home / "run").glob("webserver.*"))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
