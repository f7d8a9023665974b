"""What attempts ask the metastore through the gateway, and what the gateway does for a worker without a scheduler."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from opskit.config import load
from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, variables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import attempt_result, instance
from tests.databases import Databases
from tests.proxy import Proxy
from tests.waiting import wait_until
from tests.workers import Frame, Scheduler, WorkerProcess, attempt, worker

DAG = """
import logging, time
from opskit import DAG, Variable
from opskit.operators import PythonOperator

def asks():
    value = Variable.get("api_password")
    print("printed", value)
    logging.getLogger(__name__).info("logged %s", value)
    return Variable.get("plain")

def asks_often():
    for number in range(200):
        Variable.set("count", str(number))
    return Variable.get("count")

with DAG("d") as dag:
    for function in (asks, asks_often):
        PythonOperator(task_id=function.__name__, python_callable=function)
"""


@pytest.fixture
def engine(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    opened = open_engine(url)
    cipher = open_cipher(load(home))
    with transaction(opened) as connection:
        variables.set_variable(connection, cipher, "api_password", "hunter2 is secret")
        variables.set_variable(connection, cipher, "plain", "value")
    yield opened
    opened.dispose()
    databases.drop(url)


@pytest.fixture
def running(home: Path, engine: Engine) -> Iterator[WorkerProcess]:
    with worker(home) as process:
        process.write_dag(DAG)
        yield process


@pytest.fixture
def scheduler(running: WorkerProcess) -> Scheduler:
    connected = running.connect()
    connected.fence("d", 1)
    return connected


def test_a_secret_that_a_task_fetched_is_masked_in_its_prints_and_log_lines(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    given = attempt("asks")
    assert scheduler.do(given)["xcoms"] == [["return_value", "value"]]
    log = running.log(given)
    assert "printed ***" in log and "logged ***" in log and "hunter2" not in log


def test_a_killed_gateway_is_started_again_and_no_question_is_lost(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    scheduler.do(attempt("asks"))
    given = attempt("asks_often")
    scheduler.run(given)
    for _ in range(2):
        (gateway,) = wait_until(lambda: running.children("opskit-gateway"), what="a gateway")
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda gone=gateway: gone not in running.children("opskit-gateway"), what="its end")
    result = scheduler.result(given["key"], timeout=60)
    assert result["xcoms"] == [["return_value", "199"]]


def test_a_worker_without_a_scheduler_makes_itself_known_to_the_metastore(
    running: WorkerProcess, engine: Engine
) -> None:
    def row() -> tuple[str, int, object] | None:
        with reading(engine) as connection:
            found = connection.execute(
                select(instance.c.id, instance.c.pid, instance.c.ended_at).where(instance.c.kind == "worker")
            ).first()
        return None if found is None else tuple(found)

    scheduler = running.connect()
    identity = scheduler.welcome["worker"]
    scheduler.close()  # one that is connected would do it for the worker
    found = wait_until(row, what="the worker's row")
    assert found == (identity, running.process.pid, None)
    assert running.stop() == 0
    assert row()[2] is not None


def test_results_are_left_in_the_metastore_when_no_scheduler_comes_and_repeated_to_the_one_that_does(
    running: WorkerProcess, scheduler: Scheduler, engine: Engine
) -> None:
    given = attempt("asks")
    result = scheduler.do(given)
    scheduler.close()

    def stored() -> list[str]:
        with reading(engine) as connection:
            return list(connection.execute(select(attempt_result.c.payload)).scalars())

    payloads = wait_until(stored, timeout=40, what="the result in attempt_result")
    assert [json.loads(payload) for payload in payloads] == [result]
    second = running.connect("scheduler-2")
    assert second.fence("d", 2)["keys"] == [given["key"]]
    assert second.result(given["key"]) == result


AT_LOAD = """
from opskit import DAG, Variable
from opskit.hooks import BaseHook
from opskit.operators import PythonOperator

VALUE = Variable.get("plain")
SECRET = Variable.get("api_password")
HOST = BaseHook.get_connection("lake").host

def tells():
    print("printed", SECRET)
    return [VALUE, HOST]

with DAG("d"):
    PythonOperator(task_id="tells", python_callable=tells)
"""


def write(home: Path, engine: Engine, key: str, value: str) -> None:
    with transaction(engine) as connection:
        variables.set_variable(connection, open_cipher(load(home)), key, value)


def value_of(result: Frame) -> object:
    assert result["state"] == "success", result
    return result["xcoms"][0][1]


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
def test_a_dag_file_may_ask_while_the_worker_loads_it_and_attempts_have_changed_values_soon(
    home: Path, engine: Engine, isolation: str
) -> None:
    with transaction(engine) as connection:
        connections.put_connection(connection, open_cipher(load(home)), Connection("lake", "postgres", host="north"))
    with worker(home, scheduler__variable_refresh_interval=1) as process:
        process.write_dag(AT_LOAD)
        scheduler = process.connect()
        scheduler.fence("d", 1)
        for _ in range(3):
            given = attempt("tells", isolation=isolation)
            assert value_of(scheduler.do(given)) == ["value", "north"]
            assert "printed ***" in process.log(given)
        write(home, engine, "plain", "new")
        wait_until(
            lambda: value_of(scheduler.do(attempt("tells", isolation=isolation))) == ["new", "north"],
            what="the new value",
        )


def test_a_variable_that_does_not_exist_is_the_reason_why_attempts_of_the_file_fail(
    running: WorkerProcess, scheduler: Scheduler, home: Path, engine: Engine
) -> None:
    running.write_dag(AT_LOAD.replace('"plain"', '"absent"'))
    result = scheduler.do(attempt("tells"))
    assert result["state"] == "failed" and "Variable absent does not exist" in result["reason"]


def test_a_load_that_waits_for_the_metastore_goes_on_when_that_is_back_and_fails_when_its_time_is_over(
    home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.migrated("postgresql")
    proxy = Proxy(url)
    opened = open_engine(url)
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", proxy.url)
    write(home, opened, "plain", "value")
    text = AT_LOAD.replace('BaseHook.get_connection("lake").host', "None").replace('Variable.get("api_password")', '""')
    try:
        with worker(home, core__dagbag_import_timeout=8) as process:
            process.write_dag(text)
            scheduler = process.connect()
            scheduler.fence("d", 1)
            proxy.refuse()
            given = attempt("tells")
            scheduler.run(given)
            wait_until(lambda: "trying again in" in process.errors.read_text(), what="a gateway that waits")
            proxy.accept()
            assert value_of(scheduler.result(given["key"], timeout=30)) == ["value", None]
            proxy.refuse()
            process.write_dag(text + "\n# changed\n")
            result = scheduler.do(attempt("tells"), timeout=40)
            assert result["state"] == "failed" and "timed out after 8 s in d.py:6" in result["reason"], result
            proxy.accept()
    finally:
        proxy.close()
        opened.dispose()
        databases.drop(url)


def test_a_new_version_of_a_dag_is_loaded_at_once_where_it_comes_from_variables(
    running: WorkerProcess, scheduler: Scheduler, home: Path, engine: Engine
) -> None:
    running.write_dag(AT_LOAD.replace('BaseHook.get_connection("lake").host', "None"))

    def value(version: str) -> object:
        return value_of(scheduler.do(attempt("tells", version_hash=version)))

    assert value("v1") == ["value", None]
    write(home, engine, "plain", "new")
    assert value("v1") == ["value", None]
    assert value("v2") == ["new", None]
    zygotes = running.children("opskit-zygote")
    assert value("v1") == value("v2") == ["new", None]
    assert running.children("opskit-zygote") == zygotes
