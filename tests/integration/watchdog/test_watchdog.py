"""The watchdog against a real scheduler that is killed, frozen or wedged, and against a database that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit.system.daemon import is_alive, process_started, read_pid_files
from opskit.system.locks import locked
from tests.integration.watchdog.cluster import Cluster, deeds
from tests.integration.watchdog.conftest import Make
from tests.proxy import Proxy
from tests.smtp import smtp_server
from tests.waiting import wait_until


def test_a_healthy_scheduler_is_left_alone_on_every_database(metastore_url: str, make_cluster: Make) -> None:
    cluster = make_cluster(metastore_url)
    scheduler = cluster.start_scheduler()
    report = cluster.watchdog("--explain", check=True)
    assert (report["verdict"], report["deeds"], report["exit_code"]) == ("healthy", [], 0)
    assert any(scheduler.instance_id[:8] in rule["rule"] for rule in report["rules"])
    assert [record.pid for record in cluster.living("scheduler")] == [scheduler.pid]
    cluster.end()


def test_a_killed_scheduler_is_started_and_proven(cluster: Cluster) -> None:
    killed = cluster.start_scheduler()
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: process_started(killed.pid) is None)
    report = cluster.watchdog()
    assert (report["verdict"], report["repaired"], report["exit_code"]) == ("dead", True, 0)
    assert deeds(report) == [("start", True)]
    assert len(cluster.living("scheduler")) == 1
    evidence = Path(report["evidence_files"][0]).read_text()
    assert "last log lines" in evidence
    assert killed.instance_id in evidence
    # What the dead one left is gone, and the second run finds nothing to do.
    assert [record.pid for _, record in read_pid_files(cluster.home / "run")] == [
        record.pid for record in cluster.living("scheduler")
    ]
    assert cluster.watchdog(check=True)["verdict"] == "healthy"


def test_a_scheduler_that_is_frozen_again_and_again_is_replaced(cluster: Cluster) -> None:
    scheduler = cluster.start_scheduler()
    stop = threading.Event()

    def freeze() -> None:
        while not stop.wait(0.002):
            with suppress(ProcessLookupError):
                os.kill(scheduler.pid, signal.SIGSTOP)

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        report = cluster.watchdog()
    finally:
        stop.set()
        thread.join()
    assert (report["verdict"], report["repaired"]) == ("stuck", True)
    assert deeds(report)[-1] == ("restart", True)
    assert "SIGKILL" in report["deeds"][-1]["outcome"]
    assert not is_alive(scheduler.pid, scheduler.pid_started)
    assert len(cluster.living("scheduler")) == 1


def test_a_wedged_scheduler_with_a_fresh_pulse_is_replaced(postgres: tuple[Cluster, Proxy]) -> None:
    cluster, proxy = postgres
    scheduler = cluster.start_scheduler()
    proxy.swallow()  # its connection hangs for ever; new ones work
    stop = threading.Event()

    def keep_the_pulse() -> None:
        # As a heartbeat thread would, beside a main loop that hangs.
        while not stop.wait(0.1):
            cluster.query(
                f"UPDATE instance SET heartbeat_at = '{datetime.now(UTC).isoformat()}'"
                f" WHERE id = '{scheduler.instance_id}'"
            )

    thread = threading.Thread(target=keep_the_pulse)
    thread.start()
    try:
        wait_until(lambda: cluster.watchdog("--dry-run")["verdict"] == "stuck", what="stuck")
        plan = cluster.watchdog("--dry-run")
        assert plan["deeds"] == []
        assert plan["exit_code"] == 4
        assert is_alive(scheduler.pid, scheduler.pid_started), "a dry run kills nothing"
        report = cluster.watchdog()
    finally:
        stop.set()
        thread.join()
    assert (report["verdict"], report["repaired"], report["exit_code"]) == ("stuck", True, 0)
    assert "its loop does not turn" in report["evidence"][0]
    assert deeds(report) == [("nudge", False), ("restart", True)]
    evidence = Path(report["evidence_files"][0]).read_text()
    assert "Current thread" in evidence or "most recent call first" in evidence, evidence
    assert "opskit/core/" in evidence, "the stacks show where it hangs"
    assert "socket:" in evidence, "its descriptors are listed"
    assert not is_alive(scheduler.pid, scheduler.pid_started)
    assert len(cluster.living("scheduler")) == 1


def test_a_dead_scheduler_is_not_started_while_the_database_is_away(postgres: tuple[Cluster, Proxy]) -> None:
    cluster, proxy = postgres
    scheduler = cluster.start_scheduler()
    proxy.refuse()
    os.kill(scheduler.pid, signal.SIGKILL)
    wait_until(lambda: process_started(scheduler.pid) is None)
    assert cluster.watchdog()["deeds"] == []
    assert cluster.living("scheduler") == []
    proxy.accept()
    report = cluster.watchdog()
    assert (report["verdict"], report["repaired"]) == ("dead", True)


def test_the_processes_of_a_killed_scheduler_go_with_it_but_a_worker_stays(cluster: Cluster) -> None:
    from opskit.config import load
    from opskit.platforms import find

    # A scheduler with two processes in its group; one of them stands for a worker, because it has a pid file.
    launcher = (
        "import os, subprocess, sys\n"
        "for _ in range(2): print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'opskit', 'scheduler'])"
    )
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", launcher],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    cluster.children.append(child)
    assert child.stdout
    orphan, worker = (int(child.stdout.readline()) for _ in range(2))
    child.stdout.close()
    scheduler = wait_until(lambda: cluster.living("scheduler"), what="a scheduler")[0]
    wait_until(lambda: cluster.progress(scheduler.instance_id) > 1, what="loops")
    started = process_started(worker)
    try:
        record = {"kind": "worker", "instance_id": "w", "pid": worker, "pid_started": started, "argv": ["sleep"]}
        path = cluster.home / "run" / "worker.w.pid.json"
        path.write_text(json.dumps({**record, "started_at": datetime.now(UTC).isoformat(), "unit": ""}))
        os.kill(scheduler.pid, signal.SIGSTOP)
        platform = find(load(environ=cluster.environment))
        component = next(c for c in platform.health.observe(datetime.now(UTC)).components if c.kind == "scheduler")
        sentence = platform.services.stop(component, 0.3)
        assert "1 processes of its own" in sentence
        assert not is_alive(scheduler.pid, scheduler.pid_started)
        assert process_started(orphan) is None
        assert process_started(worker) == started
    finally:
        for pid in (orphan, worker):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_no_second_scheduler_is_started_where_one_lives(cluster: Cluster) -> None:
    from opskit.config import load
    from opskit.errors import GuardRefused
    from opskit.platforms import find

    scheduler = cluster.start_scheduler()
    services = find(load(environ=cluster.environment)).services
    with pytest.raises(GuardRefused, match=str(scheduler.pid)):
        services.start("scheduler", None, 5)


def test_a_supervisor_that_restarts_is_waited_for(cluster: Cluster) -> None:
    cluster.start("standalone")
    first = wait_until(lambda: cluster.living("scheduler"), what=lambda: cluster.log("standalone"))[0]
    wait_until(lambda: cluster.progress(first.instance_id) > 1, what=lambda: cluster.log("standalone"))
    os.kill(first.pid, signal.SIGKILL)
    report = cluster.watchdog()
    assert report["exit_code"] == 0
    assert len(wait_until(lambda: cluster.living("scheduler"))) == 1
    if report["deeds"]:  # else standalone was quicker than the look
        outcome = report["deeds"][0]["outcome"]
        assert "standalone" in outcome or "by itself" in outcome


def test_restarts_are_capped_and_then_it_only_tells(cluster: Cluster) -> None:
    capped = {"OPSKIT__WATCHDOG__MAX_RESTARTS_PER_HOUR": "2"}
    for _ in range(2):
        report = cluster.watchdog(**capped)
        assert report["repaired"]
        scheduler = cluster.living("scheduler")[0]
        os.kill(scheduler.pid, signal.SIGKILL)
        wait_until(lambda: not cluster.living("scheduler"))
    report = cluster.watchdog(**capped)
    assert (report["verdict"], report["exit_code"], report["deeds"]) == ("dead", 4, [])
    assert "2 restarts within the last hour" in " ".join(report["planned"])
    assert cluster.living("scheduler") == []


def test_a_back_off_holds_the_second_restart(cluster: Cluster) -> None:
    slow = {"OPSKIT__WATCHDOG__BACKOFF": "300"}
    assert cluster.watchdog(**slow)["repaired"]
    os.kill(cluster.living("scheduler")[0].pid, signal.SIGKILL)
    wait_until(lambda: not cluster.living("scheduler"))
    report = cluster.watchdog(**slow)
    assert (report["exit_code"], report["deeds"]) == (4, [])
    assert "back-off" in " ".join(report["planned"])


def test_a_start_that_fails_is_not_called_repaired(cluster: Cluster) -> None:
    report = cluster.watchdog(
        OPSKIT__WATCHDOG__RESTART="command",
        OPSKIT__WATCHDOG__RESTART_COMMAND="/bin/false",
        OPSKIT__WATCHDOG__PROVE_WITHIN="1",
    )
    assert (report["verdict"], report["repaired"], report["exit_code"]) == ("dead", False, 4)
    assert "ended with 1" in report["deeds"][0]["outcome"]


def test_a_restart_command_that_lies_is_found_out(cluster: Cluster) -> None:
    report = cluster.watchdog(
        OPSKIT__WATCHDOG__RESTART="command",
        OPSKIT__WATCHDOG__RESTART_COMMAND="/bin/true",
        OPSKIT__WATCHDOG__PROVE_WITHIN="1",
    )
    assert deeds(report) == [("start", False)]
    assert report["exit_code"] == 4


def test_a_paused_watchdog_does_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    said = cluster.opskit("watchdog", "--pause", "--reason", "new disk", env=cluster.environment).stdout
    assert "new disk" in said
    report = cluster.watchdog(check=True)
    assert (report["verdict"], report["deeds"]) == ("paused", [])
    cluster.opskit("watchdog", "--resume", env=cluster.environment)
    assert cluster.watchdog("--dry-run")["verdict"] == "dead"


def test_two_watchdogs_do_not_act_at_once(cluster: Cluster) -> None:
    with locked(cluster.home / "run", "watchdog"):
        done = cluster.opskit("watchdog", env=cluster.environment, check=False)
    assert done.returncode == 11
    assert str(os.getpid()) in done.stderr
    assert cluster.living("scheduler") == []


def test_a_scheduler_that_was_stopped_is_started_unless_told_otherwise(cluster: Cluster) -> None:
    scheduler = cluster.start_scheduler()
    os.kill(scheduler.pid, signal.SIGTERM)
    wait_until(lambda: process_started(scheduler.pid) is None)  # its pid file goes a little earlier
    assert cluster.watchdog("--no-start")["exit_code"] == 4
    assert cluster.living("scheduler") == []
    report = cluster.watchdog()
    assert "was stopped at" in report["evidence"][0]
    assert report["repaired"]


def test_a_metastore_that_is_missing_says_what_to_do(home: Path, opskit: Callable[..., Any]) -> None:
    done = opskit("watchdog", check=False)
    assert done.returncode == 12
    assert done.stdout.startswith("blind")
    assert "opskit db migrate" in done.stdout
    assert not (home / "opskit.db").exists(), "a look creates nothing"


def test_quiet_prints_nothing_while_all_is_well(cluster: Cluster) -> None:
    cluster.start_scheduler()
    done = cluster.opskit("watchdog", "--quiet", env=cluster.environment)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_incident_is_told_once_with_its_evidence_and_its_end(cluster: Cluster) -> None:
    with smtp_server() as mailbox:
        cluster.environment |= {
            "OPSKIT__ALERTS__EMAIL_TO": "ann@example.org",
            "OPSKIT__SMTP__SMTP_HOST": "127.0.0.1",
            "OPSKIT__SMTP__SMTP_PORT": str(mailbox.port),
        }
        no_restart = {"OPSKIT__WATCHDOG__MAX_RESTARTS_PER_HOUR": "0"}
        scheduler = cluster.start_scheduler()
        assert cluster.watchdog()["alert"] == ""
        os.kill(scheduler.pid, signal.SIGKILL)
        wait_until(lambda: not cluster.living("scheduler"))
        assert "ann@example.org" in cluster.watchdog(**no_restart)["alert"]
        assert cluster.watchdog(**no_restart)["alert"] == "", "the same is not told twice"
        cluster.start_scheduler()
        wait_until(lambda: cluster.watchdog(**no_restart)["verdict"] == "healthy")
        cluster.watchdog(**no_restart)
        assert [message["Subject"].split(": ", 1)[1] for message in mailbox.messages] == [
            "the cluster is dead",
            "the cluster is healthy",
        ]
        text = mailbox.messages[0].get_content()
        assert "is gone without a goodbye" in text
        assert "0 restarts within the last hour" in text


def test_a_repaired_incident_is_one_mail_that_names_the_evidence(cluster: Cluster) -> None:
    with smtp_server() as mailbox:
        cluster.environment |= {
            "OPSKIT__ALERTS__EMAIL_TO": "ann@example.org",
            "OPSKIT__SMTP__SMTP_HOST": "127.0.0.1",
            "OPSKIT__SMTP__SMTP_PORT": str(mailbox.port),
        }
        scheduler = cluster.start_scheduler()
        os.kill(scheduler.pid, signal.SIGKILL)
        wait_until(lambda: not cluster.living("scheduler"))
        report = cluster.watchdog()
        cluster.watchdog(check=True)
        (message,) = mailbox.messages
        assert message["Subject"].endswith("the cluster is dead, repaired")
        assert report["evidence_files"][0] in message.get_content()


def test_an_alert_that_could_not_be_sent_is_sent_by_the_next_run(cluster: Cluster) -> None:
    settings = {"OPSKIT__ALERTS__EMAIL_TO": "ann@example.org", "OPSKIT__SMTP__SMTP_HOST": "127.0.0.1"}
    settings["OPSKIT__WATCHDOG__MAX_RESTARTS_PER_HOUR"] = "0"
    assert "failed" in cluster.watchdog(**settings, OPSKIT__SMTP__SMTP_PORT="1")["alert"]
    with smtp_server() as mailbox:
        assert "sent to" in cluster.watchdog(**settings, OPSKIT__SMTP__SMTP_PORT=str(mailbox.port))["alert"]
        assert len(mailbox.messages) == 1


SLEEPER = """
from datetime import datetime
from opskit import DAG
from opskit.operators import BashOperator

with DAG("sleeper", schedule=None, start_date=datetime(2024, 1, 1), is_paused_upon_creation=False):
    BashOperator(
        task_id="sleep",
        bash_command="echo begun >> {marks}; while [ ! -e {go} ]; do sleep 0.1; done; echo done >> {marks}",
    )
"""


def test_running_attempts_survive_all_of_it(cluster: Cluster, tmp_path: Path) -> None:
    marks, go = tmp_path / "marks", tmp_path / "go"
    (cluster.home / "dags" / "sleeper.py").write_text(SLEEPER.format(marks=marks, go=go))
    cluster.start("worker")
    cluster.start("dag-processor")
    first = cluster.start_scheduler()
    wait_until(
        lambda: cluster.query("SELECT 1 FROM dag WHERE dag_id = 'sleeper'"), what=lambda: cluster.log("dag-processor")
    )
    cluster.opskit("dags", "trigger", "sleeper", env=cluster.environment)
    wait_until(marks.exists, what=lambda: cluster.log("worker") + cluster.log("scheduler"))
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: process_started(first.pid) is None)
    assert cluster.watchdog()["repaired"]
    second = cluster.living("scheduler")[0]
    os.kill(second.pid, signal.SIGSTOP)
    assert cluster.watchdog()["repaired"]
    go.touch()
    wait_until(
        lambda: cluster.query("SELECT 1 FROM dag_run WHERE state = 'success'"),
        what=lambda: f"{cluster.query('SELECT * FROM task_instance')} {cluster.log('scheduler')}",
    )
    assert marks.read_text() == "begun\ndone\n", "the attempt ran once, and to its end"
    assert cluster.query("SELECT try_number FROM task_instance") == [(1,)]
