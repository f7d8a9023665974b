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
from opskit.core.metastore import variables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import attempt_result, instance
from tests.databases import Databases
from tests.waiting import wait_until
from tests.workers import Scheduler, WorkerProcess, attempt, worker

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


def test_the_worker_is_known_to_the_metastore_while_it_lives(running: WorkerProcess, engine: Engine) -> None:
    def row() -> tuple[str, int, object] | None:
        with reading(engine) as connection:
            found = connection.execute(
                select(instance.c.id, instance.c.pid, instance.c.ended_at).where(instance.c.kind == "worker")
            ).first()
        return None if found is None else tuple(found)

    identity = running.connect().welcome["worker"]
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
