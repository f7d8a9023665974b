"""`opskit standalone` and its components as an operator sees them: started, killed, stopped."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from opskit.system.daemon import PidFile, is_alive, read_pid_files
from tests.daemons import Daemon, running
from tests.waiting import wait_until

Opskit = Callable[..., "CompletedProcess[str]"]

DAG_FILE = """
import time
from datetime import datetime
from opskit import DAG
from opskit.operators import BashOperator, PythonOperator

def work(dag_run=None, **_):
    print("working with", dag_run.conf)
    time.sleep(dag_run.conf.get("sleep", 0))
    return 1 / dag_run.conf.get("divisor", 1)

with DAG("story", schedule=None, start_date=datetime(2026, 1, 1), is_paused_upon_creation=False) as dag:
    PythonOperator(task_id="work", python_callable=work) >> BashOperator(task_id="say", bash_command="echo done")
"""


def instance(home: Path, kind: str) -> PidFile | None:
    """The living instance of a kind."""
    for _, record in read_pid_files(home / "run", kind):
        if is_alive(record.pid, record.pid_started):
            return record
    return None


def wait_for_instance(home: Path, kind: str, other_than: int = 0) -> PidFile:
    def found() -> PidFile | None:
        record = instance(home, kind)
        return record if record and record.pid != other_than else None

    record = wait_until(found, 30.0, what=f"a {kind}")
    assert record is not None
    return record


@pytest.fixture
def standalone(home: Path) -> Iterator[Daemon]:
    (home / "dags" / "story.py").write_text(DAG_FILE)
    with running("standalone", home) as daemon:
        daemon.wait_for_line("all DAG files are loaded")
        daemon.wait_for_line("connected to worker")
        yield daemon


def test_one_command_makes_a_home_and_runs_a_dag(standalone: Daemon, home: Path, opskit: Opskit) -> None:
    assert {"opskit.toml", "opskit.db", "dags", "logs", "run"} <= set(os.listdir(home))
    done = opskit("dags", "trigger", "story", "--conf", '{"divisor": 4}', "--wait", "--output", "json")
    run = json.loads(done.stdout)
    assert run["state"] == "success"
    log = opskit("tasks", "logs", "story", run["run_id"], "work").stdout
    assert "working with {'divisor': 4}" in log
    assert standalone.stop(signal.SIGTERM) == 0
    assert all(instance(home, kind) is None for kind in ("scheduler", "dag_processor", "worker", "standalone"))


def test_a_failed_run_is_told_by_the_exit_code_and_clearing_it_runs_it_again(
    standalone: Daemon, opskit: Opskit
) -> None:
    failed = opskit("dags", "trigger", "story", "-c", '{"divisor": 0}', "-r", "bad", "--wait", check=False)
    assert failed.returncode == 4
    assert "states-for-dag-run story bad" in failed.stderr
    rows = json.loads(opskit("tasks", "states-for-dag-run", "story", "bad", "-o", "json").stdout)
    assert {row["task_id"]: row["state"] for row in rows} == {"work": "failed", "say": "upstream_failed"}
    refused = opskit("tasks", "clear", "story", "-r", "bad", check=False)
    assert refused.returncode == 2
    planned = json.loads(opskit("tasks", "clear", "story", "-r", "bad", "--dry-run", "-o", "json").stdout)
    assert len(planned) == 2
    opskit("tasks", "clear", "story", "-r", "bad", "--yes")

    def tried_twice() -> bool:
        found = json.loads(opskit("tasks", "attempts", "story", "bad", "work", "-o", "json").stdout)
        return [attempt["state"] for attempt in found] == ["failed", "failed"]

    wait_until(tried_twice, 30.0, what="a second attempt")
    first = opskit("tasks", "logs", "story", "bad", "work", "--attempt", "1").stdout
    assert "ZeroDivisionError" in first


def test_a_killed_component_is_started_again_and_a_running_attempt_is_unharmed(
    standalone: Daemon, home: Path, opskit: Opskit
) -> None:
    opskit("dags", "trigger", "story", "-c", '{"sleep": 3}', "-r", "long")
    wait_until(lambda: opskit("tasks", "state", "story", "work", "long", check=False).stdout.strip() == "running")
    worker = wait_for_instance(home, "worker")
    for kind in ("scheduler", "dag_processor"):
        before = wait_for_instance(home, kind)
        os.kill(before.pid, signal.SIGKILL)
        assert wait_for_instance(home, kind, other_than=before.pid).argv[-1] == kind.replace("_", "-")
    wait_until(lambda: opskit("dags", "state", "story", "long").stdout.strip() == "success", 60.0)
    tries = json.loads(opskit("tasks", "attempts", "story", "long", "work", "-o", "json").stdout)
    assert len(tries) == 1
    assert wait_for_instance(home, "worker").pid == worker.pid


def test_a_worker_outlives_a_killed_standalone_and_the_next_one_goes_on_with_it(standalone: Daemon, home: Path) -> None:
    worker = wait_for_instance(home, "worker")
    scheduler = wait_for_instance(home, "scheduler")
    os.kill(standalone.pid, signal.SIGKILL)
    standalone.process.wait()
    wait_until(lambda: not is_alive(scheduler.pid, scheduler.pid_started), what="the end of the scheduler")
    assert is_alive(worker.pid, worker.pid_started)
    with running("standalone", home) as second:
        second.wait_for_line("one runs already")
        wait_for_instance(home, "scheduler", other_than=scheduler.pid)
        assert wait_for_instance(home, "worker").pid == worker.pid
        assert second.stop(signal.SIGTERM) == 0
    assert not is_alive(worker.pid, worker.pid_started)


def test_ctrl_c_stops_all_in_order(standalone: Daemon, home: Path) -> None:
    assert standalone.stop(signal.SIGINT) == 0
    lines = [line for line in standalone.log().splitlines() if "standalone |" in line and ": ended with" in line]
    assert [line.split("| ")[1].split(":")[0] for line in lines] == ["dag-processor", "scheduler", "worker"]


def test_a_second_standalone_of_the_same_home_is_refused(standalone: Daemon, opskit: Opskit) -> None:
    assert opskit("standalone", check=False).returncode == 11
    assert opskit("worker", check=False).returncode == 11
    assert standalone.process.poll() is None


def test_a_metastore_that_can_not_be_made_ends_standalone_with_its_reason(home: Path, opskit: Opskit) -> None:
    failed = opskit("standalone", env={"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////dev/null/x.db"}, check=False)
    assert failed.returncode in (10, 12)
    assert "/dev/null" in failed.stderr
    assert "Traceback" not in failed.stderr
