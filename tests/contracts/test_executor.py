"""What every executor must guarantee (opskit/core/executors/contract.py), shown with real processes."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from opskit.core.executors import contract
from opskit.core.executors.local import LocalExecutor
from tests.waiting import wait_until
from tests.workers import WorkerProcess, attempt, worker

E = TypeVar("E")

DAG = """
import os, time
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def wait_for_file(name):
    open(name + ".begun", "a").write("x")
    while not os.path.exists(name):
        time.sleep(0.01)

with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    PythonOperator(task_id="fine", python_callable=lambda: 42)
    PythonOperator(task_id="bad", python_callable=lambda: 1 / 0)
    PythonOperator(task_id="waits", python_callable=wait_for_file, op_args=[os.environ["GATE"]])
"""


class Pump:
    """Lets an executor work, and keeps what it says."""

    def __init__(self, executor: contract.Executor) -> None:
        self.executor = executor
        self.said: list[contract.Event] = []

    def turn(self) -> None:
        self.executor.flush()
        fd = self.executor.fileno()
        if fd >= 0:
            select.select([fd], [], [], 0.02)
        self.said += self.executor.events(datetime.now(UTC))

    def wait_for(self, kind: type[E], **fields: Any) -> E:
        """The first event of that kind with these fields."""

        def found() -> E | None:
            self.turn()
            for event in self.said:
                if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
                    return event
            return None

        event = wait_until(found, what=lambda: f"{kind.__name__} {fields}; there is {self.said}")
        assert event is not None
        return event

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(event, kind) for event in self.said)


@pytest.fixture
def gate(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = home / "gate"
    monkeypatch.setenv("GATE", str(path))
    return path


@pytest.fixture
def running(home: Path, gate: Path) -> Iterator[WorkerProcess]:
    with worker(home) as process:
        process.write_dag(DAG)
        yield process


@pytest.fixture(params=["local"])
def pump(request: pytest.FixtureRequest, home: Path, running: WorkerProcess) -> Iterator[Pump]:
    executor = LocalExecutor(home / "run", "scheduler-1")
    made = Pump(executor)
    made.wait_for(contract.WorkerJoined)
    yield made
    executor.close()


def key_of(message: dict[str, Any]) -> contract.AttemptKey:
    run, task, index, dispatch = message["key"]
    return (run, task, index, dispatch)


def fence(pump: Pump, epoch: int = 1) -> contract.Held:
    pump.said = [event for event in pump.said if not isinstance(event, contract.Held)]
    pump.executor.fence("d", epoch)
    return pump.wait_for(contract.Held)


def test_an_executor_that_reached_a_worker_knows_it_and_its_slots(pump: Pump) -> None:
    joined = pump.wait_for(contract.WorkerJoined)
    assert pump.executor.worker_id == joined.worker_id
    assert pump.executor.slots == joined.slots > 0


def test_each_accepted_attempt_ends_with_its_result(pump: Pump) -> None:
    fence(pump)
    fine, bad = attempt("fine"), attempt("bad")
    pump.executor.dispatch([fine, bad])
    good = pump.wait_for(contract.Ended, key=key_of(fine)).result
    assert (good["state"], good["xcoms"]) == ("success", [["return_value", 42]])
    assert isinstance(good["ended_at"], datetime)
    failed = pump.wait_for(contract.Ended, key=key_of(bad)).result
    assert failed["state"] == "failed"
    assert "ZeroDivisionError" in failed["reason"]


def test_a_result_is_repeated_to_the_next_scheduler_until_it_is_acknowledged(pump: Pump, home: Path) -> None:
    fence(pump)
    message = attempt("fine")
    pump.executor.dispatch([message])
    pump.wait_for(contract.Ended, key=key_of(message))
    pump.executor.close()

    second = Pump(LocalExecutor(home / "run", "scheduler-2"))
    try:
        second.wait_for(contract.WorkerJoined)
        assert key_of(message) in fence(second, epoch=2).keys
        second.wait_for(contract.Ended, key=key_of(message))
        second.executor.acknowledge([key_of(message)])
        second.executor.flush()
        assert key_of(message) not in fence(second, epoch=3).keys
    finally:
        second.executor.close()


def test_after_a_fence_an_older_scheduler_starts_nothing(pump: Pump) -> None:
    fence(pump, epoch=5)
    late = attempt("fine", epoch=4)
    pump.executor.dispatch([late])
    assert pump.wait_for(contract.Refused, key=key_of(late)).reason == "fenced"
    assert pump.count(contract.Ended) == 0


def test_a_key_is_never_started_twice(pump: Pump, gate: Path) -> None:
    fence(pump)
    message = attempt("waits")
    pump.executor.dispatch([message])
    pump.wait_for(contract.Started, key=key_of(message))
    pump.executor.dispatch([message])
    assert pump.wait_for(contract.Refused, key=key_of(message)).reason == "known"
    gate.touch()
    pump.wait_for(contract.Ended, key=key_of(message))
    assert Path(f"{gate}.begun").read_text() == "x"


def test_held_names_what_runs_and_what_waits(pump: Pump, gate: Path) -> None:
    fence(pump)
    messages = [attempt("waits") for _ in range(pump.executor.slots + 3)]
    pump.executor.dispatch(messages)
    assert fence(pump, epoch=2).keys == frozenset(map(key_of, messages))
    gate.touch()
    for message in messages:
        pump.wait_for(contract.Ended, key=key_of(message))


def test_a_killed_attempt_still_ends_with_a_result(pump: Pump) -> None:
    fence(pump)
    message = attempt("waits")
    pump.executor.dispatch([message])
    started = pump.wait_for(contract.Started, key=key_of(message))
    pump.executor.kill([key_of(message)], "cleared")
    assert pump.wait_for(contract.Ended, key=key_of(message)).result["state"] == "failed"
    wait_until(lambda: not os.path.exists(f"/proc/{started.pid}"), what="the process to be gone")


def test_a_worker_that_is_lost_is_reported_and_the_next_one_is_found(
    pump: Pump, home: Path, running: WorkerProcess
) -> None:
    first = pump.executor.worker_id
    running.process.kill()
    running.process.wait()
    assert pump.wait_for(contract.WorkerGone).worker_id == first
    assert (pump.executor.worker_id, pump.executor.slots) == (None, 0)
    pump.said.clear()
    with worker(home):
        assert pump.wait_for(contract.WorkerJoined).worker_id != first


def test_no_call_fails_while_there_is_no_worker(home: Path) -> None:
    executor = LocalExecutor(home / "run", "scheduler-1")
    executor.fence("d", 1)
    executor.dispatch([attempt("fine")])
    executor.acknowledge([(1, "t", -1, 1)])
    executor.kill([(1, "t", -1, 1)], "why")
    executor.flush()
    assert executor.events(datetime.now(UTC)) == []
    assert executor.fileno() == -1
