"""Streams that tell open pages of changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, update

from opskit.core.metastore import dag_loads, dags, runs, tables
from opskit.core.metastore.browsing import pulse
from opskit.core.metastore.engine import Engine, open_engine, transaction
from opskit.system.wake import wake
from opskit.web import gate, live, watcher
from opskit.web.faults import SignInNeeded
from opskit.web.store import Store
from opskit.web.topics import Topic
from tests.databases import Databases
from tests.metastore_rows import NOW, dag_data, loaded_file
from tests.page_site import PageSite, page_site
from tests.waiting import wait_until


def add_dags(engine: Engine, *dag_ids: str) -> None:
    with transaction(engine) as connection:
        files = [loaded_file(f"{dag_id}.py", dag_data(dag_id)) for dag_id in dag_ids]
        dag_loads.store_loaded_files(connection, files, NOW)


def start(engine: Engine, dag_id: str, hours: int = 0) -> runs.Run:
    at = NOW + timedelta(hours=hours)
    with transaction(engine) as connection:
        run = runs.trigger(connection, dag_id, at, logical_date=at)
        connection.execute(
            insert(tables.task_instance).values(
                dag_run_id=run.id, task_id="a", map_index=-1, state="queued", try_number=1, dispatches=1
            )
        )
    return run


def change(engine: Engine, table: Any, **values: Any) -> None:
    with transaction(engine) as connection:
        connection.execute(update(table).values(**values))


@pytest.fixture
def engine(metastore_url: str) -> Iterator[Engine]:
    opened = open_engine(metastore_url)
    add_dags(opened, "one", "two")
    yield opened
    opened.dispose()


def prints(engine: Engine, run: runs.Run) -> dict[str, str]:
    """Fingerprint by what it is of."""
    with transaction(engine) as connection:
        of_dags = pulse.of_dags(connection, {"one", "two", "gone"})
        key, task = (run.dag_id, run.run_id), (run.dag_id, run.run_id, "a", -1)
        return {
            "dags": pulse.of_all_dags(connection),
            "operations": pulse.of_operations(connection),
            "one": of_dags["one"],
            "two": of_dags["two"],
            "run": pulse.of_runs(connection, {key, ("one", "gone")})[key],
            "task": pulse.of_task_instances(connection, {task, ("one", "gone", "a", -1)})[task],
        }


def test_a_fingerprint_changes_with_what_its_page_shows_and_only_then(engine: Engine) -> None:
    run = start(engine, "one")
    before = prints(engine, run)
    assert prints(engine, run) == before

    def changed() -> set[str]:
        nonlocal before
        now = prints(engine, run)
        different = {name for name in now if now[name] != before[name]}
        before = now
        return different

    change(engine, tables.task_instance, state="running", start_date=NOW)
    assert changed() == {"one", "run", "task"}
    change(engine, tables.dag_run, state="running", start_date=NOW)
    assert changed() == {"dags", "one", "run", "task"}
    change(engine, tables.task_instance, state="success", end_date=NOW)
    change(engine, tables.dag_run, state="success", end_date=NOW)
    assert changed() == {"dags", "one", "run", "task"}
    with transaction(engine) as connection:
        dags.set_paused(connection, ["two"], True, NOW)
    assert changed() == {"dags", "two"}
    start(engine, "two", 1)
    assert changed() == {"dags", "two"}
    with transaction(engine) as connection:
        connection.execute(insert(tables.log).values(at=NOW, owner="ada", event="dags pause", extra="{}"))
    assert changed() == {"operations"}


@pytest.fixture(scope="module")
def one_site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    url = databases.migrated("sqlite")
    with page_site(tmp_path_factory.mktemp("home"), url) as made:
        add_dags(made.engine, "one", "two")
        yield made
    databases.drop(url)


@pytest.fixture
def site(one_site: PageSite) -> Iterator[PageSite]:
    """Each test has a watcher of its own."""
    yield one_site
    live.close(one_site.app)
    one_site.app.state.watcher = None


class Stream:
    """What one page hears."""

    def __init__(self, site: PageSite, topic: str, role: str = "Admin") -> None:
        self.events: list[tuple[str, str]] = []
        self._client = httpx.Client(base_url=site.url, headers={"X-Test-Role": role}, timeout=30, verify=False)
        self._stop = threading.Event()
        self.ended = threading.Event()
        self._topic = topic
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kind = ""
        with self._client, self._client.stream("GET", "/live", params={"topic": self._topic}) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert "content-encoding" not in answer.headers
            for line in answer.iter_lines():
                if self._stop.is_set():
                    break
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append((kind, line.removeprefix("data: ")))
        self.ended.set()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def close(self) -> None:
        self._stop.set()


@contextmanager
def listening(site: PageSite, *topics: str) -> Iterator[list[Stream]]:
    """Streams that have said hello. They end with the next event or heartbeat."""
    with ExitStack() as stack:
        streams = [Stream(site, topic) for topic in topics]
        for stream in streams:
            stack.callback(stream.close)
        wait_until(lambda: all(stream.kinds()[:1] == ["hello"] for stream in streams), 20)
        yield streams


def test_hundreds_of_listeners_cost_one_look_and_nobody_none(site: PageSite) -> None:
    looker = live.watcher_of(site.app)
    assert looker.looks == 0 and not looker.is_awake
    with listening(site, *["dag:one"] * 12):
        site.forget()
        before = looker.looks
        wait_until(lambda: looker.looks >= before + 2, 20)
        per_look = len([one for one in site.statements if not one.startswith("BEGIN")]) / (looker.looks - before)
        assert per_look <= 3 and looker.listeners == 12


def test_a_change_is_told_to_those_whom_it_concerns(site: PageSite) -> None:
    with listening(site, "dag:one", "dag:two", "dags") as (one, two, dags_page):
        start(site.engine, "one")
        wake(site.config.run_folder)
        wait_until(lambda: "change" in one.kinds() and "change" in dags_page.kinds(), 20)
        assert "change" not in two.kinds()


def test_who_is_to_see_nothing_hears_nothing(site: PageSite) -> None:
    for topic, role, status in (("dags", "Public", 403), ("operations", "Viewer", 403), ("nonsense", "Admin", 400)):
        assert site.as_(role).get("/live", params={"topic": topic}).status_code == status


def test_a_stream_ends_with_its_session(site: PageSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise SignInNeeded("sign in first")

    monkeypatch.setattr(live, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(gate, "identify", gone)
    with listening(site, "home") as (stream,):
        assert stream.ended.wait(20)
        assert stream.kinds()[-1] == "end"


def test_too_many_listeners_are_told_to_come_later(site: PageSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 0)
    stream = Stream(site, "home")
    assert stream.ended.wait(20) and stream.kinds() == ["later"]


def test_all_streams_end_at_once_when_the_webserver_does(site: PageSite) -> None:
    with listening(site, "home", "dags") as streams:
        live.close(site.app)
        assert all(stream.ended.wait(20) for stream in streams)


def test_the_watcher_sleeps_when_the_last_listener_has_left(site: PageSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LINGER_SECONDS", 0.0)
    monkeypatch.setattr(watcher, "EVERY_SECONDS", 0.05)
    store: Store = site.app.state.store
    alone = watcher.Watcher(store, lambda _, topics: dict.fromkeys(topics, "x"))

    async def once() -> None:
        listener = alone.listen(Topic("home"))
        await asyncio.wait_for(listener.seen.wait(), 20)
        assert alone.is_awake
        alone.leave(listener)

    asyncio.run(once())
    wait_until(lambda: not alone.is_awake, 20)
    looks = alone.looks
    asyncio.run(once())
    assert alone.looks > looks, "it wakes again for the next one"
