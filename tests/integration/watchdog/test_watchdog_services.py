"""How the watchdog starts components: other kinds than the scheduler, and through a service manager."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.system import systemd
from opskit.system.daemon import process_started
from tests.integration.watchdog.cluster import Cluster, deeds
from tests.waiting import wait_until

# What systemd says and does, as far as the watchdog asks: the state lies in a file, `restart` starts a scheduler.
SYSTEMCTL = """#!{python}
import json, os, subprocess, sys
state = json.load(open({state!r}))
with open({calls!r}, "a") as calls:
    print(*sys.argv[1:], file=calls)
if sys.argv[1] == "show":
    unit = sys.argv[-1]
    known = state if unit == "opskit-scheduler.service" else {{"LoadState": "not-found"}}
    print(*[f"{{key}}={{value}}" for key, value in known.items()], sep="\\n")
elif sys.argv[1:3] == ["--no-ask-password", "restart"]:
    if state.get("refuse"):
        sys.exit("Interactive authentication required.")
    subprocess.Popen([sys.executable, "-m", "opskit", "scheduler"], start_new_session=True,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
UNIT = {
    "LoadState": "loaded",
    "ActiveState": "failed",
    "SubState": "failed",
    "MainPID": "0",
    "ExecStart": "{ path=/usr/bin/opskit ; argv[]=/usr/bin/opskit scheduler ; }",
    "RestartUSec": "1s 500ms",
}


class Manager:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.json"
        self._calls = folder / "calls"
        self.set()
        script = SYSTEMCTL.format(python=sys.executable, state=str(self._state), calls=str(self._calls))
        for name in ("systemctl", "journalctl"):
            path = folder / name
            path.write_text(script if name == "systemctl" else "#!/bin/sh\necho a line of the journal\n")
            path.chmod(0o755)

    def set(self, **changes: str) -> None:
        self._state.write_text(json.dumps({**UNIT, **changes}))

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def restarted(self) -> bool:
        return any("restart" in call.split() for call in self.calls)


@pytest.fixture
def manager(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = Manager(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield made
    cluster.end()


def kill_scheduler_of_the_unit(cluster: Cluster) -> None:
    scheduler = cluster.start_scheduler()
    path = cluster.home / "run" / f"scheduler.{scheduler.instance_id}.pid.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unit": "opskit-scheduler.service"}))
    os.kill(scheduler.pid, signal.SIGKILL)
    wait_until(lambda: process_started(scheduler.pid) is None)


def test_a_failed_unit_is_started_by_systemd(cluster: Cluster, manager: Manager) -> None:
    kill_scheduler_of_the_unit(cluster)
    report = cluster.watchdog()
    assert report["repaired"]
    assert report["deeds"][0]["outcome"] == "started opskit-scheduler.service"
    assert "reset-failed -- opskit-scheduler.service" in manager.calls
    assert len(cluster.living("scheduler")) == 1
    assert "a line of the journal" in Path(report["evidence_files"][0]).read_text()


def test_a_unit_that_systemd_restarts_by_itself_is_waited_for(cluster: Cluster, manager: Manager) -> None:
    kill_scheduler_of_the_unit(cluster)
    manager.set(ActiveState="activating", SubState="auto-restart")
    starter = threading.Thread(
        target=lambda: (
            wait_until(lambda: (cluster.home / "logs" / "watchdog").exists(), what="the watchdog's deed"),
            cluster.start("scheduler"),
        )
    )
    starter.start()
    try:
        report = cluster.watchdog()
    finally:
        starter.join()
    assert report["repaired"]
    assert "opskit-scheduler.service has started scheduler" in report["deeds"][0]["outcome"]
    assert not manager.restarted()
    assert len(cluster.living("scheduler")) == 1


def test_a_masked_unit_is_not_started(cluster: Cluster, manager: Manager) -> None:
    kill_scheduler_of_the_unit(cluster)
    manager.set(LoadState="masked", UnitFileState="masked", ExecStart="")
    report = cluster.watchdog()
    assert (report["exit_code"], deeds(report)) == (4, [("start", False)])
    assert "masked" in report["deeds"][0]["outcome"]
    assert not manager.restarted()


def test_a_refusal_of_systemd_is_told_in_its_words(cluster: Cluster, manager: Manager) -> None:
    kill_scheduler_of_the_unit(cluster)
    manager.set(refuse="yes")
    report = cluster.watchdog()
    assert report["exit_code"] == 4
    assert "Interactive authentication required" in report["deeds"][0]["outcome"]
    assert cluster.living("scheduler") == []


def test_a_unit_of_somebody_else_is_never_restarted(cluster: Cluster, manager: Manager) -> None:
    # A scheduler that cron's watchdog started belongs to cron's control group.
    kill_scheduler_of_the_unit(cluster)
    manager.set(ExecStart="{ path=/usr/sbin/cron ; argv[]=/usr/sbin/cron -f ; }")
    report = cluster.watchdog()
    assert report["repaired"]
    assert "opskit scheduler" in report["deeds"][0]["outcome"]
    assert not manager.restarted()


@pytest.mark.parametrize("kind", ["worker", "dag-processor"])
def test_other_components_are_started_again_once_they_have_run_here(cluster: Cluster, kind: str) -> None:
    everything = {"OPSKIT__WATCHDOG__COMPONENTS": "scheduler,dag_processor,worker"}
    cluster.start_scheduler()
    assert cluster.watchdog(**everything)["verdict"] == "healthy", "what never ran here is not missed"
    name = kind.replace("-", "_")
    cluster.start(kind)
    first = wait_until(lambda: cluster.living(name), what=lambda: cluster.log(kind))[0]
    wait_until(lambda: cluster.watchdog("--dry-run", **everything)["verdict"] == "healthy")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not cluster.living(name))
    report = cluster.watchdog(**everything)
    assert (report["verdict"], report["repaired"]) == ("dead", True)
    assert [record.pid != first.pid for record in cluster.living(name)] == [True]


def test_a_frozen_worker_is_only_resumed(cluster: Cluster) -> None:
    cluster.start_scheduler()
    cluster.start("worker")
    worker = wait_until(lambda: cluster.living("worker"), what=lambda: cluster.log("worker"))[0]
    os.kill(worker.pid, signal.SIGSTOP)
    report = cluster.watchdog(OPSKIT__WATCHDOG__COMPONENTS="scheduler,worker")
    assert ("resume", True) in deeds(report)
    assert [record.pid for record in cluster.living("worker")] == [worker.pid]


def test_a_standalone_that_was_killed_comes_back_as_a_whole(cluster: Cluster) -> None:
    cluster.start("standalone")
    first = wait_until(lambda: cluster.living("scheduler"), what=lambda: cluster.log("standalone"))[0]
    wait_until(lambda: cluster.progress(first.instance_id) > 1, what=lambda: cluster.log("standalone"))
    worker = wait_until(lambda: cluster.living("worker"))[0]
    standalone = cluster.living("standalone")[0]
    os.kill(standalone.pid, signal.SIGKILL)
    # Scheduler and DAG processor go with it; the worker stays with its attempts.
    wait_until(lambda: not cluster.living("scheduler"))
    report = cluster.watchdog(OPSKIT__WATCHDOG__COMPONENTS="scheduler,dag_processor,worker")
    assert report["repaired"], json.dumps(report, indent=1)
    assert "standalone" in report["deeds"][0]["outcome"]
    assert len(cluster.living("standalone")) == len(cluster.living("scheduler")) == 1
    assert [record.pid for record in cluster.living("worker")] == [worker.pid]


@pytest.mark.parametrize(
    ("text", "seconds"), [("1min 30s", 90.0), ("100ms", 0.1), ("5s", 5.0), ("2h", 7200.0), ("infinity", 0.0), ("", 0.0)]
)
def test_times_of_systemd_are_understood(text: str, seconds: float) -> None:
    assert systemd._seconds(text) == pytest.approx(seconds)


def test_without_systemd_every_unit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state: Any = systemd.unit_state("opskit-scheduler.service")
    assert (state.load, state.active, state.runs("opskit")) == ("", False, False)
    assert systemd.journal("opskit-scheduler.service", 5) == []
