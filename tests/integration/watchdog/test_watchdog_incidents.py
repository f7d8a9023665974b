"""What has really happened to others, each as a test: the watchdog finds it, and does no more than it must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit.core.metastore import schema
from opskit.core.metastore.engine import open_engine
from opskit.system.daemon import is_alive, process_started
from tests.databases import Databases
from tests.integration.watchdog.cluster import Cluster, deeds
from tests.integration.watchdog.conftest import Make
from tests.proxy import Proxy
from tests.waiting import wait_until

IMPATIENT = {"OPSKIT__WATCHDOG__WORK_SLOW_AFTER": "1", "OPSKIT__WATCHDOG__WORK_STUCK_AFTER": "2"}
CHAIN = """
from datetime import datetime
from opskit import DAG
from opskit.operators import BashOperator

with DAG("{name}", schedule=None, start_date=datetime(2024, 1, 1), is_paused_upon_creation=False{more}):
    first = BashOperator(task_id="first", bash_command="while [ ! -e {go} ]; do sleep 0.05; done"{task})
    first >> BashOperator(task_id="second", bash_command="true"{task})
"""


def with_dags(cluster: Cluster, *names: str, go: Path, more: str = "", task: str = "") -> None:
    for name in names:
        text = CHAIN.format(name=name, go=go, more=more, task=task)
        (cluster.home / "dags" / f"{name}.py").write_text(text)
    cluster.start("worker")
    cluster.start("dag-processor")
    wait_until(
        lambda: len(cluster.query("SELECT dag_id FROM dag")) >= len(names), what=lambda: cluster.log("dag-processor")
    )


def trigger(cluster: Cluster, name: str) -> None:
    cluster.opskit("dags", "trigger", name, env=cluster.environment)


def states(cluster: Cluster, task: str = "first") -> list[str | None]:
    return [row[0] for row in cluster.query(f"SELECT state FROM task_instance WHERE task_id = '{task}'")]


def test_a_pipe_that_nobody_reads_wedges_a_service_that_looks_active(
    cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """apache/airflow#70526: blocked in a write to a full pipe, four times in 14 h, with the unit "active"."""
    with_dags(cluster, "talk", go=tmp_path / "go")
    child = subprocess.Popen(
        [sys.executable, "-m", "opskit", "scheduler"],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    cluster.children.append(child)
    assert child.stdout
    request.addfinalizer(child.stdout.close)
    first = wait_until(lambda: cluster.living("scheduler"))[0]
    wait_until(lambda: cluster.progress(first.instance_id) > 1)
    # As whatever else writes to the log of a service: then the scheduler's own next line does not fit any more.
    filler = os.open(f"/proc/{child.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"x")
    os.close(filler)
    trigger(cluster, "talk")  # a run that starts is a line in the log
    report = wait_until(lambda: (found := cluster.watchdog())["deeds"] and found, timeout=60)
    assert (report["verdict"], report["repaired"]) == ("stuck", True)
    assert deeds(report)[-1] == ("restart", True)
    assert "pipe" in Path(report["evidence_files"][0]).read_text(), "where it hung"
    assert not is_alive(first.pid, first.pid_started)


def test_one_saturated_dag_is_no_reason_for_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    """apache/airflow#14205: heartbeat fine, one saturated DAG and a full pool; nothing here is a scheduler's fault."""
    go = tmp_path / "go"
    scheduler = cluster.start_scheduler()
    with_dags(cluster, "greedy", "other", go=go, more=", max_active_runs=1, max_active_tasks=1")
    cluster.query("UPDATE slot_pool SET slots = 1 WHERE pool = 'default_pool'")
    for name in ("greedy", "greedy", "other"):
        trigger(cluster, name)
    wait_until(lambda: "running" in states(cluster), what=lambda: cluster.log("scheduler"))
    wait_until(lambda: len(states(cluster)) == 2, what="the other DAG's run waits for the pool")
    seen = []

    def patient() -> bool:
        report = cluster.watchdog(**IMPATIENT)
        seen.append(report)
        assert deeds(report) == [], report
        oldest = cluster.query("SELECT MIN(start_date) FROM dag_run")[0][0]
        return (datetime.now(UTC) - datetime.fromisoformat(str(oldest)).replace(tzinfo=UTC)).total_seconds() > 4

    wait_until(patient, timeout=60)
    assert seen[-1]["verdict"] in ("healthy", "slow")
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]
    go.touch()
    wait_until(lambda: cluster.query("SELECT COUNT(*) FROM dag_run WHERE state = 'success'")[0][0] == 3, timeout=40)


def test_a_leak_of_pool_slots_is_counted_away(cluster: Cluster, tmp_path: Path) -> None:
    """apache/airflow#13542: slots that nobody uses count as used, and tasks wait for ever."""
    go = tmp_path / "go"
    scheduler = cluster.start_scheduler()
    with_dags(cluster, "leaky", go=go)
    trigger(cluster, "leaky")
    wait_until(lambda: states(cluster) == ["running"], what=lambda: cluster.log("scheduler"))
    cluster.query("UPDATE slot_pool SET used_slots = 999")
    known = cluster.progress(scheduler.instance_id)
    wait_until(lambda: cluster.progress(scheduler.instance_id) > known + 10, what="it has seen the full pool")
    go.touch()
    wait_until(lambda: states(cluster) == ["success"])
    assert states(cluster, "second") == [None], "no slot seems to be free"
    report = wait_until(lambda: (found := cluster.watchdog(**IMPATIENT))["deeds"] and found, timeout=30)
    assert deeds(report) == [("nudge", False), ("reset", True)], report
    assert "nothing moves" in report["evidence"][0]
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid], "no restart"
    wait_until(lambda: states(cluster, "second") == ["success"])
    (line,) = cluster.query("SELECT extra FROM log WHERE event = 'watchdog'")
    assert "reset" in json.loads(line[0])["deeds"][0]


def test_what_waits_for_an_earlier_run_is_reset_once_and_then_only_told(cluster: Cluster, tmp_path: Path) -> None:
    """apache/airflow#7935, "stuck without a trace": depends_on_past behind a failure looks just like it."""
    go = tmp_path / "go"
    go.touch()
    scheduler = cluster.start_scheduler()
    with_dags(cluster, "past", go=go, task=", depends_on_past=True")
    trigger(cluster, "past")
    wait_until(lambda: states(cluster, "second") == ["success"])
    cluster.query("UPDATE task_instance SET state = 'failed'")
    trigger(cluster, "past")
    wait_until(lambda: None in states(cluster), what=lambda: str(states(cluster)))
    report = wait_until(lambda: (found := cluster.watchdog(**IMPATIENT))["deeds"] and found, timeout=30)
    assert deeds(report) == [("nudge", False), ("reset", False)]
    again = cluster.watchdog(**IMPATIENT)
    assert (again["verdict"], again["deeds"], again["exit_code"]) == ("slow", [], 0)
    assert "depends_on_past" in again["evidence"][0]
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]


def test_attempts_of_a_lost_worker_do_not_stay_queued(cluster: Cluster, tmp_path: Path) -> None:
    """apache/airflow#28206, #28120, #39717, #19699: queued for ever after a worker or broker was lost."""
    go = tmp_path / "go"
    cluster.start_scheduler()
    with_dags(cluster, "lost", go=go)
    trigger(cluster, "lost")
    wait_until(lambda: states(cluster) == ["running"])
    worker = cluster.living("worker")[0]
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: process_started(worker.pid) is None)
    report = cluster.watchdog(**IMPATIENT, OPSKIT__WATCHDOG__COMPONENTS="scheduler,worker")
    assert ("start", True) in deeds(report), report
    wait_until(lambda: states(cluster) == ["failed"], what=lambda: str(states(cluster)))
    assert "worker lost" in cluster.query("SELECT reason FROM task_instance WHERE task_id = 'first'")[0][0]
    assert len(cluster.living("worker")) == 1


def test_of_two_schedulers_the_dead_one_is_seen_and_replaced(make_cluster: Make, databases: Databases) -> None:
    """Airflow's /health looks at the most recent job alone, so that one dead scheduler of two is invisible."""
    url = databases.migrated("mariadb")
    cluster = make_cluster(url)
    older, newer = cluster.start_scheduler(), cluster.start_scheduler()
    os.kill(older.pid, signal.SIGKILL)
    wait_until(lambda: process_started(older.pid) is None)
    report = cluster.watchdog()
    assert (report["verdict"], report["repaired"], deeds(report)) == ("dead", True, [("start", True)])
    living = {one.pid for one in cluster.living("scheduler")}
    assert len(living) == 2 and newer.pid in living
    assert cluster.watchdog()["deeds"] == []
    # Another host is at it: this one waits for its turn.
    os.kill(newer.pid, signal.SIGKILL)
    wait_until(lambda: process_started(newer.pid) is None)
    cluster.query(
        "UPDATE instance SET ended_at = NULL, hostname = 'elsewhere', heartbeat_at = '2999-01-01'"
        " WHERE id = 'the-turn-to-restart'"
    )
    report = cluster.watchdog()
    assert (deeds(report), report["exit_code"]) == ([("start", False)], 4)
    assert "elsewhere" in report["deeds"][0]["outcome"]
    cluster.query("UPDATE instance SET heartbeat_at = '2001-01-01' WHERE id = 'the-turn-to-restart'")
    assert cluster.watchdog()["repaired"], "a turn that has run out holds nobody back"
    cluster.end()
    databases.drop(url)


@pytest.mark.parametrize("kind", ["postgresql", pytest.param("mariadb", marks=pytest.mark.soak)])
def test_a_lock_in_the_database_is_no_reason_for_a_restart(kind: str, make_cluster: Make, databases: Databases) -> None:
    """apache/airflow#13668, #66794 (deadlocks, long locks): the scheduler waits rightly, and who holds it is named."""
    from sqlalchemy import text

    url = databases.migrated(kind)
    cluster = make_cluster(url)
    scheduler = cluster.start_scheduler()
    engine = open_engine(url)
    with engine.connect() as holder, holder.begin() as held:
        holder.execute(text("UPDATE instance SET detail = '{}' WHERE id = :id"), {"id": scheduler.instance_id})
        report = wait_until(lambda: (found := cluster.watchdog())["verdict"] == "stuck" and found, timeout=40)
        assert (report["deeds"], report["exit_code"]) == ([], 4)
        assert "waits for the database" in report["evidence"][0]
        assert "a restart would not end" in " ".join(report["planned"])
        held.rollback()
    engine.dispose()
    wait_until(lambda: cluster.watchdog()["verdict"] == "healthy", timeout=40)
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]
    cluster.end()
    databases.drop(url)


def test_a_migration_that_holds_the_tables_is_an_upgrade(postgres: tuple[Cluster, Proxy]) -> None:
    """A long ALTER TABLE must not be answered with a restart."""
    from sqlalchemy import text

    cluster, _ = postgres
    scheduler = cluster.start_scheduler()
    engine = open_engine(cluster.url)
    with engine.connect() as migration, migration.begin() as under_way:
        migration.execute(text(f"SELECT pg_advisory_xact_lock({schema._POSTGRESQL_LOCK})"))
        migration.execute(text("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE"))
        report = cluster.watchdog()
        assert (report["verdict"], report["deeds"], report["exit_code"]) == ("upgrading", [], 0)
        assert cluster.opskit("watchdog", "--strict", env=cluster.environment, check=False).returncode == 24
        under_way.rollback()
    engine.dispose()
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]


def test_a_heartbeat_that_is_gone_for_minutes_comes_back_without_anyone(cluster: Cluster) -> None:
    """apache/airflow#19192, #17646: the row says it is over, the process lives, and nobody restarts it for days."""
    scheduler = cluster.start_scheduler()
    os.kill(scheduler.pid, signal.SIGSTOP)
    cluster.query("UPDATE instance SET heartbeat_at = '2024-01-01 00:00:00.000000'")
    report = cluster.watchdog()
    assert (report["verdict"], deeds(report), report["repaired"]) == ("stuck", [("resume", True)], True)
    assert "state T" in report["evidence"][0]
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]


def test_outages_of_the_database_never_restart_anything(postgres: tuple[Cluster, Proxy]) -> None:
    """Short ones, one after the other; `soak` has hours of it."""
    outages(*postgres, rounds=2)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_hours_of_outages_never_restart_anything(postgres: tuple[Cluster, Proxy]) -> None:
    outages(*postgres, rounds=2000)


def outages(cluster: Cluster, proxy: Proxy, rounds: int) -> None:
    """apache/airflow#19001, #20644, #13637, #69048: a probe that failed sent schedulers into a crash loop."""
    scheduler = cluster.start_scheduler()
    stop = threading.Event()
    verdicts: set[str] = set()

    def look() -> None:
        while not stop.is_set():
            report: dict[str, Any] = cluster.watchdog()
            assert [deed for deed in report["deeds"] if deed["deed"] in ("restart", "start")] == [], report
            assert report["verdict"] != "blind" or (
                report["exit_code"] == 12 and "unreachable" in report["evidence"][0]
            )
            verdicts.add(report["verdict"])

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(rounds):
            proxy.refuse()
            verdicts.clear()
            wait_until(lambda: "blind" in verdicts, what="blind")
            proxy.accept()
            wait_until(lambda: {"healthy", "slow"} & verdicts, what="sight")
    finally:
        stop.set()
        looker.join()
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]
    assert json.loads((cluster.home / "run" / "watchdog.json").read_text())["restarts"] == []
