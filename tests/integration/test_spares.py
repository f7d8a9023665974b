"""Spare processes of a zygote: an attempt that gets one is an attempt like any other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_until
from tests.workers import Scheduler, WorkerProcess, attempt, gone, worker

DAG = """
import os, signal, time
from opskit import DAG
from opskit.operators import PythonOperator

def ok():
    print("hello from the task")
    return [os.getpgid(0), os.getsid(0), os.environ["OPSKIT_ATTEMPT_PID"], os.environ["AIRFLOW_CTX_TASK_ID"],
            signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)]

def waits():
    print("waiting", flush=True)
    time.sleep(300)

def crashes():
    import ctypes
    ctypes.string_at(0)

def eats():
    held = []
    while True:
        held.append(bytearray(8 << 20))

with DAG("d") as dag:
    for function in (ok, waits, crashes, eats):
        PythonOperator(task_id=function.__name__, python_callable=function)
"""


@pytest.fixture
def running(home: Path) -> Iterator[WorkerProcess]:
    with worker(home, core__task_memory_limit=150) as process:
        process.write_dag(DAG)
        yield process


@pytest.fixture
def scheduler(running: WorkerProcess) -> Scheduler:
    """Of a worker whose zygote has spares."""
    connected = running.connect()
    connected.fence("d", 1)
    assert connected.do(attempt("ok"))["state"] == "success"
    spares(running)
    return connected


def spares(running: WorkerProcess, but: set[int] = frozenset()) -> set[int]:  # type: ignore[assignment]
    """The pids of spares, once there are some beside these."""
    found = wait_until(lambda: set(running.children("opskit-spare")) - but, what="a spare")
    assert found is not None
    return found


def test_an_attempt_runs_in_a_spare_that_ends_with_it(running: WorkerProcess, scheduler: Scheduler) -> None:
    seen: set[int] = set()
    for _ in range(3):
        before = spares(running)
        given = attempt("ok")
        result = scheduler.do(given)
        pid = result["pid"]
        assert pid in before and pid not in seen
        assert result["xcoms"] == [["return_value", [pid, pid, str(pid), "ok", True]]]
        assert running.log(given).count("hello from the task") == 1
        wait_until(lambda pid=pid: gone(pid), what="the end of the attempt")
        seen.add(pid)
        spares(running, seen | before)


def test_a_spare_that_dies_before_it_has_work_harms_no_attempt(running: WorkerProcess, scheduler: Scheduler) -> None:
    killed = spares(running)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: gone(pid), what="the end of the spare")
    for _ in range(3):
        result = scheduler.do(attempt("ok"))
        assert (result["state"], result["pid"] in killed) == ("success", False)
    spares(running, killed)


def test_an_attempt_in_a_spare_can_be_killed(running: WorkerProcess, scheduler: Scheduler) -> None:
    before = spares(running)
    given = attempt("waits")
    scheduler.run(given)
    pid = scheduler.started(given["key"])["pid"]
    assert pid in before
    wait_until(lambda: "waiting" in running.log(given), what="the task")
    scheduler.kill(given["key"], "marked as failed by ann")
    result = scheduler.result(given["key"])
    assert (result["state"], result["reason"], result["pid"]) == ("failed", "marked as failed by ann", pid)
    wait_until(lambda: gone(pid), what="the end of the attempt")


def test_a_crash_in_a_spare_leaves_its_signal_and_stack(running: WorkerProcess, scheduler: Scheduler) -> None:
    given = attempt("crashes")
    assert scheduler.do(given)["signal"] == "SIGSEGV"
    assert "in crashes" in running.log(given)


def test_the_memory_limit_holds_in_a_spare(running: WorkerProcess, scheduler: Scheduler) -> None:
    result = scheduler.do(attempt("eats"))
    assert "core.task_memory_limit is 150 MiB" in result["reason"]


def test_spares_of_an_older_version_end(running: WorkerProcess, scheduler: Scheduler) -> None:
    before = spares(running)
    running.write_dag(DAG.replace("hello from", "greetings from"))
    given = attempt("ok")
    assert scheduler.do(given)["pid"] not in before
    assert "greetings from the task" in running.log(given)
    for pid in before:
        wait_until(lambda pid=pid: gone(pid), what="the end of the old spares")


def test_a_burst_runs_as_many_at_once_as_there_are_slots(running: WorkerProcess, scheduler: Scheduler) -> None:
    waiting = [attempt("waits") for _ in range(8)]
    scheduler.run(*waiting)
    pids = {scheduler.started(each["key"])["pid"] for each in waiting}
    assert len(pids) == 8
    assert scheduler.do(attempt("ok"))["state"] == "success"


def test_spares_end_when_no_attempt_has_come_for_long(running: WorkerProcess, scheduler: Scheduler) -> None:
    wait_until(lambda: not running.children("opskit-spare"), what="the end of the spares")
    assert running.children("opskit-zygote")
    assert scheduler.do(attempt("ok"))["state"] == "success"


def test_spares_end_with_a_worker_that_is_killed(running: WorkerProcess, scheduler: Scheduler) -> None:
    before = spares(running)
    running.process.kill()
    running.process.wait()
    for pid in before:
        wait_until(lambda pid=pid: gone(pid), what="the end of the spares")
