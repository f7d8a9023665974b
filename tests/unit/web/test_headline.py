"""Whether everything is well, said in one sentence of what was seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.core.metastore.browsing.health import InstanceHealth
from opskit.core.metastore.browsing.home import DagCounts
from opskit.core.metastore.held_dags import Held
from opskit.platforms.watching import LastLook, Pause
from opskit.system.machine import Disk
from opskit.telemetry.reports import KeptReport
from opskit.web.headline import headline, states_in_words
from opskit.web.overview import Backups, Deployment, Operations, Overview, Watchdog, Work

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
GIB = 1 << 30


def ago(**times: float) -> datetime:
    return NOW - timedelta(**times)


def instance(kind: str, state: str = "running", **changes: Any) -> InstanceHealth:
    made = InstanceHealth(kind, kind, "node1", 4711, "1.0", state, ago(days=3), ago(seconds=2), 9, ago(seconds=2), None)
    return replace(made, **changes)


WORK = Work(ago(days=1), (), 0, (), (), 3, (), DagCounts(12, 2), None, 0, None, (), 0)
DRIFT = KeptReport("dags_drift", ago(minutes=40), 2.0, 0, "", "node1", "opskit", {})
OPERATIONS = Operations(
    Backups("/backups", "20260301T023000Z-00000000", ago(minutes=30), ago(minutes=29), ago(minutes=30)),
    (Disk(Path("/"), 100 * GIB, 60 * GIB, 1000, 900, 1),),
    deploys=True,
    drift=DRIFT,
    deployments=(Deployment(ago(hours=5), "ann", "deploy", "git", {"node2": "deployed"}, ""),),
    watchdog=Watchdog(LastLook(ago(seconds=40), "healthy"), None, ()),
)
WELL = Overview(
    NOW,
    "node1",
    ago(days=90),
    [instance("scheduler"), instance("dag_processor"), instance("worker")],
    WORK,
    OPERATIONS,
)


def work(**changes: Any) -> Overview:
    return replace(WELL, work=replace(WORK, **changes))


def operations(**changes: Any) -> Overview:
    return replace(WELL, operations=replace(OPERATIONS, **changes))


def components(*found: InstanceHealth) -> Overview:
    return replace(WELL, components=found)


def test_a_cluster_without_a_fault_is_well() -> None:
    said = headline(WELL)
    assert (said.level, said.sign, said.word, said.sentence) == ("good", "✓", "All well", "Everything is well.")
    assert said.reasons == ()


def test_who_may_not_see_operations_is_told_that_not_all_was_judged() -> None:
    assert headline(replace(WELL, operations=None)).sentence == "Everything that you may see is well."


OTHERS = (instance("dag_processor"), instance("worker"))
CASES = [
    (components(*OTHERS), "bad", "No scheduler runs"),
    (
        components(instance("scheduler", "silent", heartbeat_at=ago(minutes=7)), *OTHERS),
        "bad",
        "No scheduler runs: nothing starts (last seen 7 min ago)",
    ),
    (
        components(instance("scheduler", "stuck", progress_at=ago(minutes=3)), *OTHERS),
        "bad",
        "The scheduler on node1 is alive and has made no progress since 02:57:00 UTC (3 min ago)",
    ),
    (components(instance("scheduler", "slow"), *OTHERS), "warn", "is slow"),
    (components(instance("scheduler"), instance("worker")), "warn", "No DAG processor runs"),
    (components(instance("scheduler"), instance("dag_processor")), "bad", "No worker runs"),
    (
        components(instance("scheduler"), instance("scheduler", "silent", heartbeat_at=ago(hours=2)), *OTHERS),
        "warn",
        "has been silent",
    ),
    (components(instance("scheduler", version="0.9"), *OTHERS), "warn", "different versions: 0.9, 1.0"),
    (work(held=Held(10, "ann", ago(hours=1))), "warn", "10 DAGs stand still: ann paused all of them 1 h ago"),
    (
        work(waiting_runs=2, waiting_since=ago(minutes=9)),
        "bad",
        "2 runs should have begun (the oldest was queued 9 min",
    ),
    (work(failed_runs_count=1), "warn", "1 run failed in the last 24 hours"),
    (work(broken_files_count=3), "warn", "3 DAG files can't be loaded"),
    (operations(backups=Backups("/backups")), "bad", "There is no backup that a restore has proven"),
    (
        operations(backups=replace(OPERATIONS.backups, proven_taken_at=ago(hours=30))),
        "warn",
        "The newest proven backup was taken 30 h ago",
    ),
    (operations(backups=replace(OPERATIONS.backups, proven_taken_at=ago(days=4))), "bad", "taken 4 d ago"),
    (operations(backups=replace(OPERATIONS.backups, newest_problem="disk full")), "warn", "failed: disk full"),
    (operations(disks=(Disk(Path("/"), 100 * GIB, 2 * GIB, 0, 0, 1),)), "bad", "2.1 GB (2%) left"),
    (operations(disks=(Disk(Path("/"), 100 * GIB, 9 * GIB, 0, 0, 1),)), "warn", "9.7 GB (9%) left"),
    (operations(disks=(Disk(Path("/"), 100 * GIB, 90 * GIB, 1000, 10, 1),)), "bad", "10 inodes left"),
    (operations(drift=None), "warn", "Nobody has compared"),
    (operations(drift=replace(DRIFT, exit_code=5, error="node2")), "bad", "differ from what was deployed"),
    (operations(drift=replace(DRIFT, exit_code=13, error="node2 is away")), "warn", "ended with 13"),
    (operations(drift=replace(DRIFT, at=ago(days=2))), "warn", "compared last 2 d ago"),
    (operations(deployments=(replace(OPERATIONS.deployments[0], failed="no"),)), "warn", "deploy of DAG files failed"),
    (operations(watchdog=Watchdog(LastLook(ago(hours=1), "healthy"), None, ())), "warn", "looked last 1 h ago"),
    (
        operations(watchdog=Watchdog(None, Pause("ann", ago(hours=1).isoformat(), None, "new disk"), ())),
        "warn",
        "The watchdog is paused by ann",
    ),
]


@pytest.mark.parametrize(("seen", "level", "text"), CASES, ids=[case[2][:40] for case in CASES])
def test_one_fault_is_the_headline(seen: Overview, level: str, text: str) -> None:
    said = headline(seen)
    assert said.level == level
    assert text in said.sentence
    assert len(said.reasons) == 1


def test_the_worst_comes_first_and_the_rest_is_counted() -> None:
    said = headline(replace(work(failed_runs_count=3, broken_files_count=1), components=OTHERS))
    assert said.level == "bad"
    assert said.sentence == "No scheduler runs: nothing starts, and 2 more things."
    assert [reason.level for reason in said.reasons] == ["bad", "warn", "warn"]


def test_what_is_not_there_yet_is_no_fault_of_a_new_installation() -> None:
    fresh = Operations(
        Backups("/backups"),
        OPERATIONS.disks,
        deploys=False,
        drift=None,
        deployments=(),
        watchdog=Watchdog(None, None, ()),
    )
    assert headline(replace(WELL, operations=fresh, home_since=ago(hours=1))).level == "good"


def test_a_process_that_was_silent_for_days_is_history_when_another_one_lives() -> None:
    old = instance("scheduler", "silent", heartbeat_at=ago(days=3))
    assert headline(components(old, instance("scheduler"), *OTHERS)).level == "good"


def test_processes_that_live_are_counted_by_kind() -> None:
    found = [instance("scheduler"), instance("scheduler", "stuck"), instance("worker"), instance("worker", "ended")]
    assert states_in_words(found) == "2 schedulers, 1 worker"
