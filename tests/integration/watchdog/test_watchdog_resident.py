"""The watchdog that stays, beside a real scheduler that hangs, dies or freezes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from opskit.system.daemon import is_alive, process_started
from tests.integration.watchdog.cluster import Cluster, deeds
from tests.proxy import Proxy
from tests.waiting import wait_until


class Resident:
    def __init__(self, cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
        self.cluster = cluster
        self.process = process

    def reports(self) -> list[dict[str, Any]]:
        text = (self.cluster.home / "logs" / "resident.log").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line[0] == "{"]

    def wait_for(self, what: str, *, deeds_done: bool = False) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for report in self.reports():
                if report["verdict"] == what and (report["deeds"] or not deeds_done):
                    return report
            assert self.process.poll() is None, self.cluster.log("resident")
            return None

        report = wait_until(found, timeout=60, what=lambda: f"{what}: {self.cluster.log('resident')}")
        assert report is not None
        return report


@contextmanager
def resident(cluster: Cluster, **settings: str) -> Iterator[Resident]:
    (cluster.home / "logs").mkdir(exist_ok=True)
    with open(cluster.home / "logs" / "resident.log", "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "opskit", "watchdog", "--resident", "--output", "json"],
            env={**os.environ, **cluster.environment, **settings},
            stdout=output,
            stderr=output,
        )
    try:
        found = Resident(cluster, process)
        found.wait_for("healthy")
        yield found
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_stopped_frozen_killed_and_wedged_scheduler_is_found_by_the_one_that_stays(
    postgres: tuple[Cluster, Proxy],
) -> None:
    cluster, proxy = postgres
    cluster.environment |= {"OPSKIT__WATCHDOG__STUCK_AFTER": "30", "OPSKIT__WATCHDOG__SLOW_AFTER": "20"}
    first = cluster.start_scheduler()
    # The scheduler reaches the database through a proxy that can fail, the watchdog does not.
    with resident(cluster, OPSKIT__DATABASE__SQL_ALCHEMY_CONN=cluster.url) as watchdog:
        os.kill(first.pid, signal.SIGSTOP)
        report = watchdog.wait_for("stuck")
        assert deeds(report) == [("resume", True)]
        # Cron's watchdog beside it is no trouble.
        assert cluster.watchdog()["verdict"] in ("healthy", "slow")

        seen = len(watchdog.reports())
        proxy.swallow()  # its connection hangs for ever
        hung_at = datetime.now(UTC)
        report = wait_until(
            lambda: next((one for one in watchdog.reports()[seen:] if one["deeds"]), None),
            timeout=90,
            what=lambda: cluster.log("resident"),
        )
        print("found after", datetime.fromisoformat(report["checked_at"]) - hung_at, "repaired in", report["seconds"])
        assert deeds(report) == [("restart", True)], report
        assert "does not get on" in report["evidence"][0]
        assert not is_alive(first.pid, first.pid_started)
        (second,) = cluster.living("scheduler")
        wait_until(lambda: cluster.progress(second.instance_id) > 1)

        os.kill(second.pid, signal.SIGKILL)
        report = watchdog.wait_for("dead", deeds_done=True)
        assert (deeds(report), report["repaired"]) == ([("start", True)], True)
    assert cluster.query("SELECT COUNT(*) FROM log WHERE event = 'watchdog'")[0][0] >= 3
    assert (cluster.home / "metrics" / "opskit_watchdog.prom").exists()


def test_one_stays_and_does_not_race_with_a_stop_by_hand(cluster: Cluster) -> None:
    scheduler = cluster.start_scheduler()
    with resident(cluster) as watchdog:
        second = cluster.opskit("watchdog", "--resident", env=cluster.environment, check=False)
        assert second.returncode == 11
        assert str(watchdog.process.pid) in second.stderr
        os.kill(scheduler.pid, signal.SIGTERM)
        wait_until(lambda: process_started(scheduler.pid) is None)
        report = watchdog.wait_for("dead", deeds_done=True)
        age = [row for row in report["evidence"] if "was stopped at" in row]
        assert age, report
        (row,) = cluster.query(f"SELECT ended_at FROM instance WHERE id = '{scheduler.instance_id}'")
        assert row is not None
        assert deeds(report) == [("start", True)]
