"""`opskit chaos` against a real scheduler: it measures, loses nothing, and undoes what it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from opskit.system.processes import process_state
from tests.integration.watchdog.cluster import Cluster
from tests.proxy import Proxy
from tests.waiting import wait_until


def chaos(cluster: Cluster, *arguments: str, code: int = 0, **settings: str) -> Any:
    done = cluster.opskit("chaos", "--output", "json", *arguments, env={**cluster.environment, **settings}, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr


def test_every_experiment_is_listed_and_production_is_spared(cluster: Cluster) -> None:
    assert "kill-scheduler" in [row["experiment"] for row in chaos(cluster, "list")]
    prod = {"OPSKIT__ENV__NAME": "prod"}
    assert "this is prod" in chaos(cluster, "kill-scheduler", code=16, **prod)
    assert "is dead" in chaos(cluster, "kill-scheduler", code=16), "nothing runs: there is nothing to learn"
    assert "no experiment" in chaos(cluster, "kill-all", code=2)
    scheduler = cluster.start_scheduler()
    report = chaos(cluster, "kill-scheduler", "--dry-run", "--yes-really", "prod", **prod)
    assert str(scheduler.pid) in report["plan"]
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]


def test_a_killed_and_a_frozen_scheduler_are_measured(cluster: Cluster) -> None:
    first = cluster.start_scheduler()
    killed = chaos(cluster, "kill-scheduler", "--repair", "--within", "60")
    assert (killed["passed"], killed["lost"], killed["restarts"]) == (True, [], 1)
    assert 0 <= killed["detected_seconds"] <= killed["recovered_seconds"]
    (second,) = cluster.living("scheduler")
    assert second.pid != first.pid
    frozen = chaos(cluster, "freeze-scheduler", "--repair", "--within", "60")
    assert (frozen["passed"], frozen["restarts"], frozen["undone"]) == (True, 0, "SIGCONT was sent")
    events = cluster.query("SELECT COUNT(*) FROM log WHERE event = 'chaos'")
    assert events[0][0] == 4, "the begin and the end of each"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_frozen_runs_again_when_the_game_is_broken_off(cluster: Cluster, number: signal.Signals) -> None:
    scheduler = cluster.start_scheduler()
    # A shell's background job ignores SIGINT, and so would this one where the tests run in one.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from opskit.cli import main; main()"
    )
    game = subprocess.Popen(
        [sys.executable, "-c", code, "chaos", "freeze-scheduler"],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: process_state(scheduler.pid, scheduler.pid_started) == "frozen", what="frozen")
        game.send_signal(number)
        assert game.wait(20) == 128 + number
        assert process_state(scheduler.pid, scheduler.pid_started) == "running"
    finally:
        game.kill()
        game.wait()


def test_a_locked_metastore_restarts_nothing(postgres: tuple[Cluster, Proxy]) -> None:
    cluster, _ = postgres
    scheduler = cluster.start_scheduler()
    report = chaos(cluster, "block-database", "--repair", "--hold", "4", "--within", "60")
    assert (report["passed"], report["restarts"], report["lost"]) == (True, 0, [])
    assert "blind" in report["verdicts"]
    assert [one.pid for one in cluster.living("scheduler")] == [scheduler.pid]
