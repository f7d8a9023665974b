"""The worker as a process, over its socket, with real DAG files: what the protocol promises."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from opskit.core.runner import wire
from tests.waiting import wait_until
from tests.workers import Scheduler, WorkerProcess, attempt, gone, worker

DAG = """
import os, signal, subprocess, sys, time
from datetime import timedelta
from opskit import DAG
from opskit.core.dag.exceptions import AirflowFailException, AirflowSkipException
from opskit.operators import PythonOperator

HERE = os.environ["OPSKIT_HOME"]

def note(name, text):
    with open(f"{HERE}/{name}", "a") as file:
        file.write(f"{text}\\n")

def ok():
    print("hello from the task")
    return {"answer": 42}

def skip():
    raise AirflowSkipException("not today")

def fail():
    raise ValueError("it is broken")

def fail_for_good():
    raise AirflowFailException("never again")

def exits():
    sys.exit(5)

def exits_hard():
    os._exit(3)

def crashes():
    import ctypes
    ctypes.string_at(0)

def eats():
    held = []
    while True:
        held.append(bytearray(8 << 20))

def waits():
    note("waiting", os.getpid())
    time.sleep(300)

def ignores_term():
    child = subprocess.Popen([sys.executable, "-c",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"],
        stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    note("child", child.pid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("waiting", os.getpid())
    time.sleep(300)

def leaves_grandchildren():
    for options in ({}, {"start_new_session": True}):
        note("child", subprocess.Popen(["sleep", "300"], **options).pid)

def waits_with_grandchild():
    note("child", subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
    note("waiting", os.getpid())
    time.sleep(300)

def big():
    return "x" * (1 << 20)

def unwritable():
    return object()

def counts():
    note("count", os.getpid())

def environment():
    return [os.environ["AIRFLOW_CTX_DAG_ID"], os.environ["OPSKIT_CTX_TASK_ID"], os.environ.get("LEFT")]

def leaves_environment():
    os.environ["LEFT"] = "behind"

def forks():
    if os.fork() == 0:
        return "child"
    os.wait()
    return "parent"

def randoms():
    import random
    return random.random()

import random

with DAG("d") as dag:
    for function in (ok, skip, fail, fail_for_good, exits, exits_hard, crashes, eats, waits, ignores_term,
                     leaves_grandchildren, waits_with_grandchild, big, unwritable, counts, environment,
                     leaves_environment, forks, randoms):
        PythonOperator(task_id=function.__name__, python_callable=function)
"""


@pytest.fixture
def running(home: Path) -> Iterator[WorkerProcess]:
    with worker(home) as process:
        process.write_dag(DAG)
        yield process


@pytest.fixture
def scheduler(running: WorkerProcess) -> Scheduler:
    connected = running.connect()
    connected.fence("d", 1)
    return connected


def noted(home: Path, name: str, number: int = 1) -> list[int]:
    """Pids that a task wrote down."""

    def read() -> list[int] | None:
        try:
            lines = (home / name).read_text().split()
        except FileNotFoundError:
            return None
        return [int(line) for line in lines] if len(lines) >= number else None

    found = wait_until(read, what=f"{number} lines in {name}")
    assert found is not None
    return found


@pytest.mark.parametrize("isolation", ["fork", "reuse"])
class TestOutcomes:
    """Each isolation gives the same outcomes."""

    def test_a_task_that_ends_well_reports_its_xcom_and_its_prints_are_in_its_log(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        given = attempt("ok", isolation=isolation)
        result = scheduler.do(given)
        assert (result["state"], result["xcoms"]) == ("success", [["return_value", {"answer": 42}]])
        assert result["pid"] and result["started_at"] <= result["ended_at"]
        assert "hello from the task" in running.log(given)

    @pytest.mark.parametrize(
        ("task_id", "state", "retry", "reason"),
        [
            ("skip", "skipped", True, "not today"),
            ("fail", "failed", True, "ValueError: it is broken"),
            ("fail_for_good", "failed", False, "AirflowFailException: never again"),
            ("exits", "failed", True, "the task called sys.exit(5)"),
        ],
    )
    def test_exceptions_become_states(
        self,
        running: WorkerProcess,
        scheduler: Scheduler,
        isolation: str,
        task_id: str,
        state: str,
        retry: bool,
        reason: str,
    ) -> None:
        given = attempt(task_id, isolation=isolation)
        result = scheduler.do(given)
        assert (result["state"], result["retry"], result["reason"]) == (state, retry, reason)
        assert reason.split(": ")[-1] in running.log(given)

    def test_a_hard_exit_is_a_failure_with_its_code_in_the_log(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        given = attempt("exits_hard", isolation=isolation)
        result = scheduler.do(given)
        assert (result["state"], result["exit_code"], result["signal"]) == ("failed", 3, None)
        assert "exit code 3 from os._exit" in result["reason"]
        assert "exit code 3 from os._exit" in running.log(given)

    def test_a_crash_is_a_failure_with_its_signal_and_its_stack_in_the_log(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        given = attempt("crashes", isolation=isolation)
        result = scheduler.do(given)
        assert (result["state"], result["signal"], result["reason"]) == ("failed", "SIGSEGV", "killed by SIGSEGV")
        log = running.log(given)
        assert "in crashes" in log
        assert "killed by SIGSEGV" in log

    def test_a_crash_touches_no_other_attempt(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        waiting = attempt("waits", isolation=isolation)
        scheduler.run(waiting)
        scheduler.started(waiting["key"])
        crashed = [attempt("crashes", isolation=isolation) for _ in range(3)]
        scheduler.run(*crashed)
        for each in crashed:
            assert scheduler.result(each["key"])["signal"] == "SIGSEGV"
        assert scheduler.do(attempt("ok", isolation=isolation))["state"] == "success"
        assert not gone(noted(running.home, "waiting")[0])

    def test_an_xcom_of_a_mebibyte_arrives_whole(self, scheduler: Scheduler, isolation: str) -> None:
        result = scheduler.do(attempt("big", isolation=isolation))
        assert result["xcoms"] == [["return_value", "x" * (1 << 20)]]

    def test_a_return_value_that_is_no_json_fails_the_task(self, scheduler: Scheduler, isolation: str) -> None:
        result = scheduler.do(attempt("unwritable", isolation=isolation))
        assert result["state"] == "failed"
        assert "object" in result["reason"]

    def test_a_process_that_the_task_forks_reports_nothing(self, scheduler: Scheduler, isolation: str) -> None:
        result = scheduler.do(attempt("forks", isolation=isolation))
        assert result["xcoms"] == [["return_value", "parent"]]
        assert scheduler.do(attempt("ok", isolation=isolation))["state"] == "success"
        assert sum(frame["t"] == "result" and frame["key"][1] == "forks" for frame in scheduler.frames) == 1

    def test_an_attempt_has_the_airflow_variables_and_nothing_of_its_predecessor(
        self, scheduler: Scheduler, isolation: str
    ) -> None:
        scheduler.do(attempt("leaves_environment", isolation=isolation))
        result = scheduler.do(attempt("environment", isolation=isolation))
        assert result["xcoms"] == [["return_value", ["d", "environment", None]]]

    def test_what_a_task_leaves_running_ends_with_it(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        assert scheduler.do(attempt("leaves_grandchildren", isolation=isolation))["state"] == "success"
        for pid in noted(running.home, "child", 2):
            wait_until(lambda pid=pid: gone(pid), what="the end of a process that a task left")

    def test_a_kill_ends_a_running_attempt_with_the_given_reason(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        given = attempt("waits", isolation=isolation)
        scheduler.run(given)
        noted(running.home, "waiting")
        scheduler.kill(given["key"], "marked as failed by ann")
        result = scheduler.result(given["key"])
        assert (result["state"], result["reason"]) == ("failed", "marked as failed by ann")
        wait_until(lambda: gone(noted(running.home, "waiting")[0]), what="the end of the attempt")

    def test_who_ignores_sigterm_is_killed_after_the_grace_with_its_children(
        self, running: WorkerProcess, scheduler: Scheduler, isolation: str
    ) -> None:
        given = attempt("ignores_term", isolation=isolation)
        scheduler.run(given)
        noted(running.home, "waiting")
        scheduler.kill(given["key"])
        result = scheduler.result(given["key"])
        assert (result["state"], result["signal"]) == ("failed", "SIGKILL")
        for pid in (*noted(running.home, "waiting"), *noted(running.home, "child")):
            wait_until(lambda pid=pid: gone(pid), what="the end of the attempt and its child")


def test_attempts_are_processes_of_their_own_by_default_and_share_one_with_reuse(scheduler: Scheduler) -> None:
    forked = {scheduler.do(attempt("ok"))["pid"] for _ in range(3)}
    reused = {scheduler.do(attempt("ok", isolation="reuse"))["pid"] for _ in range(3)}
    assert (len(forked), len(reused)) == (3, 1)


def test_forked_attempts_draw_different_random_numbers(scheduler: Scheduler) -> None:
    drawn = {scheduler.do(attempt("randoms"))["xcoms"][0][1] for _ in range(3)}
    assert len(drawn) == 3


def test_a_memory_limit_fails_the_attempt_with_its_reason(home: Path) -> None:
    with worker(home, core__task_memory_limit=150) as running:
        running.write_dag(DAG)
        scheduler = running.connect()
        given = attempt("eats")
        result = scheduler.do(given)
        assert result["state"] == "failed"
        assert "MemoryError" in result["reason"] and "core.task_memory_limit is 150 MiB" in result["reason"]
        assert "MemoryError" in running.log(given)
        assert scheduler.do(attempt("ok"))["state"] == "success"


def test_a_key_is_started_once_however_often_it_is_dispatched(running: WorkerProcess, scheduler: Scheduler) -> None:
    given = attempt("counts")
    scheduler.run(given, given)
    scheduler.result(given["key"])
    scheduler.run(given)
    wait_until(
        lambda: scheduler.look() is not None and sum(f["t"] == "refused" for f in scheduler.frames) == 2,
        what="two refusals",
    )
    assert {frame["reason"] for frame in scheduler.frames if frame["t"] == "refused"} == {"known"}
    assert len(noted(running.home, "count")) == 1


def test_a_dispatch_with_an_older_epoch_is_refused(running: WorkerProcess, scheduler: Scheduler) -> None:
    other = running.connect("scheduler-2")
    assert other.fence("d", 2)["keys"] == []
    late = attempt("counts", epoch=1)
    scheduler.run(late)
    refused = scheduler.wait_for(lambda frame: frame["t"] == "refused")
    assert (refused["key"], refused["reason"]) == (late["key"], "fenced")
    assert other.do(attempt("ok", epoch=2))["state"] == "success"
    assert not (running.home / "count").exists()


def test_an_older_fence_changes_nothing_and_shows_the_newer_epoch(running: WorkerProcess, scheduler: Scheduler) -> None:
    other = running.connect("scheduler-2")
    other.fence("d", 5)
    given = attempt("waits", epoch=5)
    other.run(given)
    other.started(given["key"])
    held = scheduler.fence("d", 4)
    assert (held["epoch"], held["keys"]) == (5, [])
    other.kill(given["key"])
    assert other.result(given["key"])["state"] == "failed"


def test_a_result_is_repeated_to_the_next_owner_until_it_is_acknowledged(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    given = attempt("ok")
    first = scheduler.do(given)
    scheduler.close()
    second = running.connect("scheduler-2")
    assert second.fence("d", 2)["keys"] == [given["key"]]
    assert second.result(given["key"]) == first
    second.send({"t": "ack", "keys": [given["key"]]})
    assert second.fence("d", 2)["keys"] == []


def test_attempts_go_on_without_a_scheduler_and_are_adopted_by_the_next(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    given = attempt("waits")
    scheduler.run(given)
    pid = noted(running.home, "waiting")[0]
    scheduler.close()
    second = running.connect("scheduler-2")
    assert second.fence("d", 2)["keys"] == [given["key"]]
    assert second.started(given["key"])["pid"] == pid
    second.kill(given["key"], "over")
    assert second.result(given["key"])["reason"] == "over"


def test_waiting_attempts_start_by_priority_when_slots_are_free(home: Path) -> None:
    with worker(home, core__parallelism=1) as running:
        running.write_dag(DAG)
        scheduler = running.connect()
        assert scheduler.welcome["slots"] == 1
        first = attempt("waits")
        scheduler.run(first)
        noted(home, "waiting")
        low, high = attempt("counts", priority=1), attempt("counts", priority=9)
        scheduler.run(low, high)
        scheduler.kill(first["key"])
        scheduler.result(low["key"])
        results = [frame["key"] for frame in scheduler.frames if frame["t"] == "result"]
        assert results == [first["key"], high["key"], low["key"]]


def test_a_waiting_attempt_can_be_killed_before_it_starts(home: Path) -> None:
    with worker(home, core__parallelism=1) as running:
        running.write_dag(DAG)
        scheduler = running.connect()
        first, second = attempt("waits"), attempt("counts")
        scheduler.run(first, second)
        noted(home, "waiting")
        scheduler.kill(second["key"], "cleared")
        assert scheduler.result(second["key"])["reason"] == "cleared"
        scheduler.kill(first["key"])
        scheduler.result(first["key"])
        assert not (home / "count").exists()


def test_a_file_that_can_not_be_loaded_fails_its_attempts_and_no_others(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    running.write_dag("import nothing_of_that_name\n", "broken.py")
    broken = attempt("a", "b", "broken.py")
    result = scheduler.do(broken)
    assert result["state"] == "failed"
    assert "nothing_of_that_name" in result["reason"]
    assert "nothing_of_that_name" in running.log(broken)
    assert scheduler.do(attempt("ok"))["state"] == "success"
    missing = scheduler.do(attempt("a", "b", "nowhere.py"))
    assert (missing["state"], "nowhere.py" in missing["reason"]) == ("failed", True)


def test_a_file_that_hangs_is_given_up_while_others_run(home: Path) -> None:
    with worker(home, core__dagbag_import_timeout=1) as running:
        running.write_dag(DAG)
        running.write_dag("import time\nprint('loading')\ntime.sleep(300)\n", "hangs.py")
        scheduler = running.connect()
        hanging = attempt("a", "h", "hangs.py")
        scheduler.run(hanging)
        assert scheduler.do(attempt("ok"))["state"] == "success"
        result = scheduler.result(hanging["key"])
        assert "timed out after 1 s in hangs.py:3" in result["reason"]
        assert "loading" in running.log(hanging)


def test_a_changed_file_is_run_as_it_is_now_and_an_unchanged_one_is_not_loaded_again(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    scheduler.do(attempt("ok"))
    zygotes = running.children("opskit-zygote")
    os.utime(running.home / "dags" / "d.py")
    scheduler.do(attempt("ok"))
    assert running.children("opskit-zygote") == zygotes
    running.write_dag(DAG.replace('"answer": 42', '"answer": 43'))
    assert scheduler.do(attempt("ok"))["xcoms"] == [["return_value", {"answer": 43}]]
    wait_until(lambda: running.children("opskit-zygote") != zygotes and len(running.children("opskit-zygote")) == 1)


def test_a_changed_module_beside_the_file_is_noticed(running: WorkerProcess, scheduler: Scheduler) -> None:
    uses = DAG.replace("import os,", "import beside\nimport os,").replace("42", "beside.ANSWER")
    running.write_dag("ANSWER = 1\n", "beside.py")
    running.write_dag(uses)
    assert scheduler.do(attempt("ok"))["xcoms"] == [["return_value", {"answer": 1}]]
    running.write_dag("ANSWER = 22\n", "beside.py")
    assert scheduler.do(attempt("ok"))["xcoms"] == [["return_value", {"answer": 22}]]


def test_idle_zygotes_are_bounded_and_busy_ones_are_kept(home: Path) -> None:
    with worker(home, scheduler__zygotes=2) as running:
        scheduler = running.connect()
        for number in range(4):
            running.write_dag(DAG.replace('DAG("d")', f'DAG("d{number}")'), f"d{number}.py")
        waiting = attempt("waits", "d0", "d0.py")
        scheduler.run(waiting)
        noted(home, "waiting")
        for number in range(1, 4):
            assert scheduler.do(attempt("ok", f"d{number}", f"d{number}.py"))["state"] == "success"
        wait_until(lambda: len(running.children("opskit-zygote")) == 2, what="two zygotes")
        assert not gone(noted(home, "waiting")[0])
        scheduler.kill(waiting["key"])
        assert scheduler.result(waiting["key"])["state"] == "failed"


def test_when_a_zygote_is_killed_its_attempts_fail_and_the_next_ones_run(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    given = attempt("waits_with_grandchild")
    scheduler.run(given)
    noted(running.home, "waiting")
    (zygote,) = running.children("opskit-zygote")
    os.kill(zygote, signal.SIGKILL)
    result = scheduler.result(given["key"])
    assert (result["state"], result["signal"]) == ("failed", "lost")
    assert "zygote" in result["reason"] and "SIGKILL" in result["reason"]
    for pid in (*noted(running.home, "waiting"), *noted(running.home, "child")):
        wait_until(lambda pid=pid: gone(pid), what="the end of the attempt and of its child")
    assert scheduler.do(attempt("ok"))["state"] == "success"


def test_when_the_template_is_killed_running_attempts_go_on_and_new_files_are_loaded(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    given = attempt("waits")
    scheduler.run(given)
    noted(running.home, "waiting")
    (template,) = running.children("opskit-template")
    os.kill(template, signal.SIGKILL)
    running.write_dag(DAG.replace('DAG("d")', 'DAG("e")'), "e.py")
    assert scheduler.do(attempt("ok", "e", "e.py"))["state"] == "success"
    assert scheduler.do(attempt("ok"))["state"] == "success"
    assert not gone(noted(running.home, "waiting")[0])
    scheduler.kill(given["key"])
    assert scheduler.result(given["key"])["state"] == "failed"


def test_when_the_template_dies_while_a_file_is_loaded_the_load_begins_again(home: Path) -> None:
    with worker(home) as running:
        slow = (
            "import os, time\nopen(os.environ['OPSKIT_HOME'] + '/loading', 'a').write('1\\n')\ntime.sleep(0.5)\n" + DAG
        )
        running.write_dag(slow)
        scheduler = running.connect()
        given = attempt("ok")
        scheduler.run(given)
        noted(home, "loading")
        os.kill(running.children("opskit-template")[0], signal.SIGKILL)
        assert scheduler.result(given["key"])["state"] == "success"


def test_when_the_worker_is_killed_no_attempt_survives(home: Path) -> None:
    running = WorkerProcess(home)
    try:
        running.write_dag(DAG)
        scheduler = running.connect()
        given = [attempt("waits_with_grandchild"), attempt("waits", isolation="reuse"), attempt("ignores_term")]
        scheduler.run(*given)
        started = noted(home, "waiting", 3) + noted(home, "child", 2)
        helpers = running.children("opskit-template") + running.children("opskit-zygote")
        running.process.kill()
        running.process.wait()
        for pid in started + helpers:
            wait_until(lambda pid=pid: gone(pid), what=f"the end of {pid}")
    finally:
        running.stop()


def test_a_second_worker_of_the_same_home_is_refused(running: WorkerProcess, scheduler: Scheduler) -> None:
    second = WorkerProcess(running.home)
    assert second.process.wait(30) == 11
    assert scheduler.do(attempt("ok"))["state"] == "success"


def test_a_worker_starts_after_one_that_was_killed(home: Path) -> None:
    first = WorkerProcess(home)
    first.write_dag(DAG)
    identity = first.connect().welcome["worker"]
    first.process.kill()
    first.process.wait()
    first.stop()
    with worker(home) as second:
        scheduler = second.connect()
        assert scheduler.welcome["worker"] != identity
        assert scheduler.do(attempt("ok"))["state"] == "success"


def test_a_stopped_worker_hands_back_what_has_not_begun_and_reports_what_it_ends(home: Path) -> None:
    with worker(home, core__parallelism=1) as running:
        running.write_dag(DAG)
        scheduler = running.connect()
        scheduler.fence("d", 1)
        first, second = attempt("waits"), attempt("counts")
        scheduler.run(first, second)
        noted(home, "waiting")
        running.process.send_signal(signal.SIGTERM)
        back = scheduler.result(second["key"])
        assert (back["state"], back["reason"]) == ("up_for_reschedule", "the worker is stopping")
        ended = scheduler.result(first["key"])
        assert (ended["state"], ended["reason"]) == ("failed", "the worker was stopped")
        scheduler.send({"t": "ack", "keys": [first["key"], second["key"]]})
        assert running.process.wait(20) == 0
        assert not (home / "count").exists()
        assert not list((home / "run").glob("worker.*.pid.json"))
        assert not (home / "run" / "worker.sock").exists()


def test_a_signal_that_comes_after_a_clean_stop_does_not_make_it_look_like_a_failure(home: Path) -> None:
    with worker(home) as running:
        running.connect().close()
        while running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(0.001)
        assert running.process.returncode == 0


def test_nonsense_on_the_socket_closes_that_connection_only(running: WorkerProcess, scheduler: Scheduler) -> None:
    for nonsense in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", wire.encode({"t": "run", "attempts": []})):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(20)
            stranger.connect(str(running.home / "run" / "worker.sock"))
            stranger.sendall(nonsense)
            assert stranger.recv(1024) == b""
    with socket.socket(socket.AF_UNIX) as cut:
        cut.connect(str(running.home / "run" / "worker.sock"))
        cut.sendall(b"\x00\x00\x10\x00{")
    scheduler.send({"t": "run", "attempts": [{"key": [1, "a", -1, 1]}]})
    with pytest.raises(wire.ConnectionClosed):
        scheduler.wait_for(lambda _: False)
    again = running.connect("again")
    again.fence("d", 1)
    assert again.do(attempt("ok"))["state"] == "success"


def test_the_socket_is_for_its_owner_only(running: WorkerProcess, scheduler: Scheduler) -> None:
    assert (running.home / "run" / "worker.sock").stat().st_mode & 0o777 == 0o600


def test_a_home_with_a_very_long_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / ("long" * 20) / ("path" * 20)
    home.mkdir(parents=True)
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    with worker(home) as running:
        running.write_dag(DAG)
        assert running.connect().do(attempt("ok"))["state"] == "success"


def test_a_worker_that_stops_does_not_ask_a_metastore_that_is_away_without_pause(
    running: WorkerProcess, scheduler: Scheduler
) -> None:
    assert scheduler.do(attempt("ok"))["state"] == "success"
    scheduler.close()  # the result is not acknowledged, and this home has no metastore to keep it in
    running.process.terminate()

    def refusals() -> list[datetime]:
        lines = [line for line in running.errors.read_text().splitlines() if "results wait for the metastore" in line]
        return [datetime.fromisoformat(line[:23]) for line in lines]

    found = wait_until(lambda: refusals() if len(refusals()) > 2 else None, what=running.errors.read_text)
    assert found is not None
    assert min((after - before).total_seconds() for before, after in itertools.pairwise(found)) > 0.1
