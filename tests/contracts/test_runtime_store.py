"""What every RuntimeStore does: in memory, straight on a metastore of each kind, and through a worker's gateway."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from opskit.config import load
from opskit.core.dag.connection import Connection
from opskit.core.dag.runtime import MemoryStore, RunInfo, RuntimeStore
from opskit.core.metastore import asset_events, connections, crypto, schema
from opskit.core.metastore.direct_store import DirectStore
from opskit.core.metastore.engine import Engine, open_engine, transaction
from opskit.core.runner.gateway_store import GatewayStore
from opskit.errors import MetastoreUnavailable, NotFound, UsageError
from tests.databases import Databases
from tests.metastore_rows import NOW, start_run, store_dag

KINDS = ("memory", "sqlite", "postgresql", "mariadb", "gateway")


class World(Protocol):
    """A store, and how a test puts into its cluster what tasks can only read."""

    store: RuntimeStore

    def add_run(self, logical_date: Any, state: str, states: dict[str, str | None]) -> str: ...

    def add_connection(self, connection: Connection) -> None: ...

    def add_events(self, *made: dict[str, Any], source: tuple[str, str, str, int]) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.memory = MemoryStore(dag_ids={"d"})
        self.memory.dags["d"] = {"dag_id": "d", "is_paused": False, "task_ids": ["a", "b", "c"]}
        self.store: RuntimeStore = self.memory

    def add_run(self, logical_date: Any, state: str, states: dict[str, str | None]) -> str:
        run_id = f"manual__{logical_date.isoformat()}"
        self.memory.add_run(RunInfo("d", run_id, "manual", state, logical_date, logical_date, logical_date, {}))
        self.memory.states["d", run_id] = {(task_id, -1): each for task_id, each in states.items()}
        return run_id

    def add_connection(self, connection: Connection) -> None:
        self.memory.connections[str(connection.conn_id)] = connection

    def add_events(self, *made: dict[str, Any], source: tuple[str, str, str, int]) -> None:
        self.memory.add_asset_events(list(made), source)


class MetastoreWorld:
    def __init__(self, engine: Engine, cipher: crypto.Cipher, store: RuntimeStore) -> None:
        self.engine = engine
        self.cipher = cipher
        self.store = store
        with transaction(engine) as database:
            store_dag(database, "d")

    def add_run(self, logical_date: Any, state: str, states: dict[str, str | None]) -> str:
        with transaction(self.engine) as database:
            return start_run(database, "d", logical_date, states, state=state).run_id

    def add_connection(self, connection: Connection) -> None:
        with transaction(self.engine) as database:
            connections.put_connection(database, self.cipher, connection)

    def add_events(self, *made: dict[str, Any], source: tuple[str, str, str, int]) -> None:
        with transaction(self.engine) as database:
            asset_events.record(database, asset_events.of_result(made, source), datetime.now(UTC))


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, databases: Databases, home: Path) -> Iterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    config = load(home)
    cipher = crypto.open_cipher(config)
    if request.param == "gateway":
        engine = open_engine(config)
        schema.migrate(engine)
        with _gateway(home) as path:
            store = GatewayStore(path)
            yield MetastoreWorld(engine, cipher, store)
            store.close()
    else:
        url = databases.migrated(request.param)
        engine = open_engine(url)
        yield MetastoreWorld(engine, cipher, DirectStore(engine, cipher))
        engine.dispose()
        databases.drop(url)
        return
    engine.dispose()


class _gateway:  # noqa: N801 -- used as a function
    """A gateway process on the metastore of `home`, as a worker starts it; gives the path of its socket."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> str:
        path = self._home / "run" / "gateway.sock"
        path.parent.mkdir(exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(path.parent, os.O_DIRECTORY)
        self._listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        self._listener.listen()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors = (self._listener.fileno(), theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "opskit.core.runner.gateway", self._home, *map(str, descriptors), str(os.getpid())],
            pass_fds=descriptors,
        )
        theirs.close()
        return str(path)

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait(timeout=20)
        self._listener.close()


def test_xcoms_come_in_the_order_of_the_tasks_that_were_asked_for(world: World) -> None:
    run_id = world.add_run(NOW, "running", {"a": "running"})
    store = world.store
    values: dict[str, Any] = {"a": {"é": [1, 2.5, None, True]}, "b": "text", "c": None}
    for task_id, value in values.items():
        store.set_xcom("d", run_id, task_id, -1, "return_value", value)
    store.set_xcom("d", run_id, "a", -1, "other", 0)
    asked = store.get_xcoms("d", run_id, ["c", "missing", "a"], "return_value")
    assert asked == [("c", -1, None), ("a", -1, values["a"])]
    assert store.get_xcoms("d", run_id, None, "return_value") == [(name, -1, value) for name, value in values.items()]
    assert store.get_xcoms("d", run_id, ["a"], "other") == [("a", -1, 0)]
    assert store.get_xcoms("d", "no such run", None, "other") == []


def test_an_xcom_that_is_set_again_is_replaced(world: World) -> None:
    run_id = world.add_run(NOW, "running", {"a": "running"})
    for value in (1, 2):
        world.store.set_xcom("d", run_id, "a", -1, "k", value)
    assert world.store.get_xcoms("d", run_id, ["a"], "k") == [("a", -1, 2)]


def test_xcoms_of_mapped_tasks_come_by_index(world: World) -> None:
    run_id = world.add_run(NOW, "running", {"a": "running"})
    for index in (10, 2, 0):
        world.store.set_xcom("d", run_id, "a", index, "k", index)
    assert world.store.get_xcoms("d", run_id, ["a"], "k") == [("a", 0, 0), ("a", 2, 2), ("a", 10, 10)]
    assert world.store.get_xcoms("d", run_id, ["a"], "k", 2) == [("a", 2, 2)]


def test_a_large_xcom_comes_back_whole(world: World) -> None:
    run_id = world.add_run(NOW, "running", {"a": "running"})
    value = ["ü" * 100] * 10_000
    world.store.set_xcom("d", run_id, "a", -1, "k", value)
    assert world.store.get_xcoms("d", run_id, ["a"], "k") == [("a", -1, value)]


def test_variables_are_set_read_and_deleted(world: World) -> None:
    store = world.store
    assert store.get_variable("v") is None
    store.set_variable("v", '{"a": 1}', "words")
    assert store.get_variable("v") == '{"a": 1}'
    store.set_variable("v", "")
    assert store.get_variable("v") == ""
    assert store.delete_variable("v") is True
    assert store.delete_variable("v") is False
    assert store.get_variable("v") is None


def test_a_connection_comes_with_its_secrets(world: World) -> None:
    new = Connection("c", "http", "words", "h", "me", "geheim", "s", 80, {"token": "x"})
    world.add_connection(new)
    found = world.store.get_connection("c")
    assert found == new
    assert found is not None and found.description == "words"
    assert world.store.get_connection("other") is None


def test_runs_are_found_by_id_and_by_date(world: World) -> None:
    run_id = world.add_run(NOW, "success", {})
    found = world.store.get_run("d", run_id)
    assert found is not None
    assert (found.dag_id, found.run_id, found.state, found.logical_date) == ("d", run_id, "success", NOW)
    assert world.store.get_run("d", logical_date=NOW) == found
    assert world.store.get_run("d", "other") is None
    assert world.store.get_run("other", run_id) is None
    assert world.store.get_run("d", logical_date=NOW + timedelta(microseconds=1)) is None


def test_the_run_before_is_the_newest_earlier_one(world: World) -> None:
    for days, state in enumerate(["success", "failed", "running"]):
        world.add_run(NOW + timedelta(days), state, {})
    last = NOW + timedelta(2)
    before = world.store.previous_run("d", last)
    assert before is not None and before.logical_date == NOW + timedelta(1)
    good = world.store.previous_run("d", last, "success")
    assert good is not None and good.logical_date == NOW
    assert world.store.previous_run("d", NOW) is None


def test_runs_are_counted_by_state_and_date(world: World) -> None:
    for days, state in enumerate(["success", "failed", "success"]):
        world.add_run(NOW + timedelta(days), state, {})
    dates = [NOW + timedelta(days) for days in range(2)]
    assert world.store.count_runs("d", ["success"], dates) == 1
    assert world.store.count_runs("d", ["success", "failed"], dates) == 2
    assert world.store.count_runs("d", [], dates) == 0
    assert world.store.count_runs("d", ["success"], []) == 0


def test_task_states_are_those_of_one_run(world: World) -> None:
    first = world.add_run(NOW, "running", {"a": "success", "b": None})
    world.add_run(NOW + timedelta(1), "running", {"a": "failed"})
    assert world.store.task_states("d", first) == {("a", -1): "success", ("b", -1): None}
    assert world.store.task_states("d", "other") == {}


def test_a_dag_is_found_with_its_tasks(world: World) -> None:
    assert world.store.find_dag("d") == {"dag_id": "d", "is_paused": False, "task_ids": ["a", "b", "c"]}
    assert world.store.find_dag("other") is None


def test_events_of_assets_are_found_by_asset_by_alias_and_by_time(world: World) -> None:
    store = world.store

    def event(name: str, n: int, *aliases: str) -> dict[str, Any]:
        return {"name": name, "uri": f"s3://lake/{name}", "group": "asset", "extra": {"n": n}, "aliases": list(aliases)}

    assert store.asset_events(name="a") == []
    assert store.find_asset(name="a") is None
    of_march = {**event("b", 2, "al"), "partition_key": "2024-03"}
    world.add_events(event("a", 1), of_march, source=("d", "t", "r", 3))
    between = datetime.now(UTC)
    world.add_events(event("a", 3, "al"), source=("d", "t", "r2", -1))

    def numbers(**question: Any) -> list[int]:
        return [row["extra"]["n"] for row in store.asset_events(**question)]

    assert numbers(name="a", uri="s3://lake/a") == [1, 3]
    assert numbers(uri="s3://lake/b") == [2]
    assert numbers(name="a", uri="s3://lake/b") == []
    assert numbers(alias="al") == [2, 3]
    assert numbers(alias="al", limit=1) == [2]
    assert numbers(alias="other") == []
    assert numbers(name="a", ascending=False) == [3, 1]
    assert numbers(name="a", limit=1) == [1]
    assert (numbers(name="a", before=between), numbers(name="a", after=between)) == ([1], [3])
    (row,) = store.asset_events(name="b")
    assert row["at"].tzinfo is not None
    assert {key: row[key] for key in sorted(row.keys() - {"id", "at"})} == {
        "aliases": ["al"],
        "asset_extra": {},
        "extra": {"n": 2},
        "group": "asset",
        "name": "b",
        "partition_key": "2024-03",
        "source_dag_id": "d",
        "source_map_index": 3,
        "source_run_id": "r",
        "source_task_id": "t",
        "uri": "s3://lake/b",
    }
    assert store.find_asset(name="b") == {"name": "b", "uri": "s3://lake/b", "group": "asset", "extra": {}}
    assert store.find_asset(uri="s3://lake/a") == store.find_asset("a", "s3://lake/a") != store.find_asset("b")
    assert store.triggering_asset_events("d", "none") == []


def test_what_a_task_keeps_is_its_own_until_its_time_is_over(world: World) -> None:
    run_id = world.add_run(NOW, "running", {"a": "running"})
    mine, other = ["task", "d", run_id, "a", -1], ["task", "d", run_id, "a", 2]
    assert world.store.get_state(mine, "page") is None
    world.store.set_state(mine, "page", {"done": [1, "é"]}, datetime.now(UTC) + timedelta(hours=1))
    world.store.set_state(mine, "old", 1, datetime.now(UTC) - timedelta(seconds=1))
    world.store.set_state(other, "page", 0, None)
    assert world.store.get_state(mine, "page") == {"done": [1, "é"]}
    assert world.store.get_state(mine, "old") is None
    world.store.set_state(mine, "page", 2, None)
    assert (world.store.get_state(mine, "page"), world.store.get_state(other, "page")) == (2, 0)
    world.store.delete_state(mine, "page")
    world.store.delete_state(mine, "never")
    assert world.store.get_state(mine, "page") is None
    world.store.delete_state(other, None)
    assert world.store.get_state(other, "page") is None
    with pytest.raises((UsageError, TypeError), match=r"can't be (written as JSON|sent)"):
        world.store.set_state(mine, "page", object(), None)


def test_what_is_kept_about_an_asset_is_found_by_its_name_and_by_its_uri(world: World) -> None:
    asset = {"name": "a", "uri": "s3://lake/a", "group": "asset", "extra": {}, "aliases": []}
    world.add_events(asset, source=("d", "t", "r", -1))
    world.store.set_state(["asset", "a", None], "watermark", "2024-01-01")
    assert world.store.get_state(["asset", "a", None], "watermark") == "2024-01-01"
    assert world.store.get_state(["asset", None, "s3://lake/a"], "watermark") == "2024-01-01"
    world.store.delete_state(["asset", "a", None], None)
    assert world.store.get_state(["asset", "a", None], "watermark") is None


def test_a_triggered_run_is_there_with_its_conf(world: World) -> None:
    run = world.store.trigger_dag_run("d", conf={"x": [1, "é"]})
    assert (run.dag_id, run.run_type, run.state, run.conf) == ("d", "manual", "queued", {"x": [1, "é"]})
    assert run.run_id.startswith("manual__")
    named = world.store.trigger_dag_run("d", run_id="mine", logical_date=NOW)
    assert (named.run_id, named.logical_date) == ("mine", NOW)
    found = world.store.get_run("d", "mine")
    assert found is not None and found.logical_date == NOW


@pytest.mark.parametrize("same", [{"run_id": "mine"}, {"logical_date": NOW}, {"run_id": "mine", "logical_date": NOW}])
def test_a_run_that_exists_is_refused_unless_it_is_to_be_reset(world: World, same: dict[str, Any]) -> None:
    world.store.trigger_dag_run("d", run_id="mine", logical_date=NOW, conf={"n": 1})
    with pytest.raises(UsageError):
        world.store.trigger_dag_run("d", **same)
    again = world.store.trigger_dag_run("d", **same, conf={"n": 2}, reset_existing=True)
    assert (again.run_id, again.conf) == ("mine", {"n": 2})
    found = world.store.get_run("d", "mine")
    assert found is not None and found.state in ("queued", "running")


def test_an_unknown_dag_can_not_be_triggered(world: World) -> None:
    with pytest.raises(NotFound):
        world.store.trigger_dag_run("unknown")


# --- DirectStore alone: what it does while the metastore is away ---


def test_while_the_metastore_is_away_the_direct_store_waits_and_then_answers(tmp_path: Path) -> None:
    path = tmp_path / "opskit.db"
    engine = open_engine(f"sqlite:///{path}")
    schema.migrate(engine)
    engine.dispose()
    away = path.rename(tmp_path / "away.db")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            away.rename(path)

    key = crypto.Cipher([_key()], "the test")
    store = DirectStore(open_engine(f"sqlite:///{path}"), key, sleep=sleep)
    store.set_variable("v", "1")
    assert store.get_variable("v") == "1"
    assert len(waits) == 3
    store.close()


def test_a_trigger_whose_commit_was_not_answered_makes_one_run(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.migrated("sqlite")
    engine = open_engine(url)
    with transaction(engine) as database:
        store_dag(database, "d")
    store = DirectStore(engine, crypto.Cipher([_key()], "the test"), sleep=lambda seconds: None)
    real: Callable[..., Any] = store._patiently
    lost: list[int] = []

    def lose_the_first_answer(begin: Any, work: Any) -> Any:
        def once(database: Any) -> Any:
            if lost:
                return work(database)
            lost.append(1)
            with transaction(engine) as first:
                work(first)
            raise MetastoreUnavailable("gone away during COMMIT")

        # The outer transaction of the first try must not hold SQLite's only write lock.
        return real(lambda target: _no_transaction() if not lost else begin(target), once)

    monkeypatch.setattr(store, "_patiently", lose_the_first_answer)
    run = store.trigger_dag_run("d")
    monkeypatch.undo()
    assert store.get_run("d", run.run_id) == run
    assert store.count_runs("d", ["queued"], [run.logical_date]) == 1
    assert store.previous_run("d", run.logical_date + timedelta(days=1)) == run
    assert store.previous_run("d", run.logical_date) is None
    engine.dispose()
    databases.drop(url)


class _no_transaction:  # noqa: N801 -- stands for a function
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()
