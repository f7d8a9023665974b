"""The doctor's judgements, each on plain facts: a healthy cluster gives none, one fault gives exactly its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import config as settings
from opskit.ops.doctor import judge
from opskit.ops.doctor_checks import CHECKS
from opskit.ops.doctor_facts import Backups, Cluster, Facts, Files, LastRun, Process, Units
from opskit.ops.watchdog_rules import Decision
from opskit.platforms.diagnosis import DagFile, LostAttempt, Store, Work
from opskit.platforms.health import Backlog, DatabaseView, Observation
from opskit.platforms.watching import Pause
from opskit.system.machine import Disk

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GIB = 1 << 30
RUN = LastRun(NOW - timedelta(seconds=30), NOW - timedelta(seconds=30), 0)


def configuration(tmp_path: Path, **environ: str) -> settings.Config:
    return settings.load(tmp_path, {"OPSKIT__ALERTS__EMAIL_TO": "ops@example.com", **environ})


def healthy(tmp_path: Path) -> Facts:
    observation = Observation(NOW, "w1", DatabaseView("ok"))
    return Facts(
        now=NOW,
        config=configuration(tmp_path),
        ram_bytes=16 * GIB,
        runs={"watchdog": RUN, "logs_clean": RUN, "db_clean": RUN, "dags_drift": RUN},
        cluster=Cluster(observation, Decision("healthy", ()), 0, None),
        work=Work(500, (), (), (), (DagFile("a.py", "0", 0.1, NOW, None),), (), ()),
        store=Store(GIB, NOW - timedelta(days=89), 20, 100, (), (), (("scheduler on w1", "1"), ("worker on w1", "1"))),
        undecipherable=(),
        backups=Backups("/backups", 7, NOW - timedelta(hours=10), "verified"),
        files=Files((Disk(tmp_path, 100 * GIB, 50 * GIB, 1000, 900, 1),), (), (), (), NOW - timedelta(days=300)),
        processes=(Process("scheduler", 50 << 20),),
        units=Units(True, ("opskit.target",)),
    )


def test_a_healthy_cluster_gives_no_alarm(tmp_path: Path) -> None:
    report = judge(healthy(tmp_path))
    assert [finding for finding in report.findings if finding.verdict != "ok"] == []
    assert report.exit_code == 0
    assert [finding.number for finding in report.findings] == list(range(1, 21))


def test_a_new_and_empty_installation_gives_advice_at_most(tmp_path: Path) -> None:
    facts = healthy(tmp_path)
    facts = replace(
        facts,
        config=settings.load(tmp_path, {}),
        runs={},
        backups=Backups("/backups", 0, None),
        store=Store(None, None, None, None, (), (), ()),
        files=replace(part(facts.files), home_since=NOW - timedelta(minutes=5)),
        units=Units(False),
    )
    report = judge(facts)
    assert {finding.name: finding.verdict for finding in report.findings if finding.verdict != "ok"} == {
        "backup": "advice",
        "alerts": "advice",
    }
    assert report.exit_code == 0


def part(found: Any) -> Any:
    assert found is not None
    return found


def with_part(name: str, **changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **{name: replace(getattr(facts, name), **changes)})


def with_observation(**changes: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        cluster = part(facts.cluster)
        return replace(facts, cluster=replace(cluster, observation=replace(cluster.observation, **changes)))

    return change


def with_run(verb: str, run: LastRun | None) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        runs = {name: found for name, found in facts.runs.items() if name != verb}
        return replace(facts, runs=runs if run is None else {**runs, verb: run})

    return change


def with_hosts(facts: Facts) -> Facts:
    groups = 'workers = ["w1"]'
    config = settings.load(facts.config.home, {"OPSKIT__ALERTS__EMAIL_TO": "a@b", "OPSKIT__DEPLOY__GROUPS": groups})
    return replace(facts, config=config, runs={**facts.runs, "dags_drift": LastRun(NOW, NOW, 5)})


def long_ago(**ago: float) -> datetime:
    return NOW - timedelta(**ago)


FAULTS: list[tuple[str, str, Callable[[Facts], Facts]]] = [
    ("stuck-tasks", "critical", with_observation(backlogs=(Backlog("queued DagRuns", 3, long_ago(hours=1)),))),
    ("stuck-tasks", "warning", with_observation(backlogs=(Backlog("queued DagRuns", 3, long_ago(seconds=90)),))),
    ("stuck-tasks", "advice", with_part("work", full_pools=("small",))),
    ("idle-scheduler", "critical", with_part("cluster", decision=Decision("stuck", ("no progress for 60 s",)))),
    ("idle-scheduler", "critical", with_part("cluster", decision=Decision("dead", ("it is gone",)))),
    ("idle-scheduler", "warning", with_part("cluster", decision=Decision("slow", ("no progress for 20 s",)))),
    ("lost-attempts", "warning", with_part("work", lost=(LostAttempt("d", "t", NOW, "worker lost: x"),) * 9)),
    ("lost-attempts", "advice", with_part("work", lost=(LostAttempt("d", "t", NOW, "worker lost: x"),))),
    ("metastore-size", "warning", with_part("store", size_bytes=30 * GIB)),
    (
        "metastore-size",
        "warning",
        lambda facts: with_run("db_clean", None)(with_part("store", oldest_ended=long_ago(days=120))(facts)),
    ),
    ("upgrade", "critical", with_observation(database=DatabaseView("schema_older", "schema 0001"))),
    ("upgrade", "warning", with_part("store", versions=(("scheduler on w1", "1"), ("worker on w2", "2")))),
    ("disk", "critical", with_part("files", disks=(Disk(Path("/x"), 100 * GIB, GIB, 0, 0, 1),))),
    ("disk", "critical", with_part("files", disks=(Disk(Path("/x"), 100 * GIB, 50 * GIB, 1000, 10, 1),))),
    ("disk", "warning", with_part("files", disks=(Disk(Path("/x"), 100 * GIB, 8 * GIB, 0, 0, 1),))),
    ("disk", "warning", with_run("logs_clean", LastRun(long_ago(days=20), long_ago(days=20), 0))),
    ("backup", "critical", with_part("backups", newest_verified=None)),
    ("backup", "critical", with_part("backups", newest_verified=long_ago(days=4))),
    ("backup", "warning", with_part("backups", newest_verified=long_ago(hours=30))),
    ("backup", "warning", with_part("backups", newest_state="damaged")),
    ("backup", "warning", with_part("backups", newest_verified=NOW + timedelta(hours=5))),
    ("same-code", "critical", with_hosts),
    ("fresh-dags", "warning", with_part("work", files=(DagFile("a.py", "0", 0.1, NOW, "Traceback\nSyntaxError: x"),))),
    ("fresh-dags", "warning", with_part("work", files=(DagFile("a.py", "0", 25.0, NOW, None),))),
    ("fresh-dags", "warning", with_part("files", changed=("a.py",))),
    ("vanished-dags", "warning", with_part("work", vanished=(("gone", "gone.py"),))),
    ("memory", "critical", lambda facts: replace(facts, processes=(Process("scheduler", 5 * GIB),))),
    ("memory", "warning", lambda facts: replace(facts, processes=(Process("scheduler", 2 * GIB),))),
    ("connections", "critical", with_part("store", connections=97)),
    ("connections", "warning", with_part("store", connections=85)),
    ("locks", "warning", with_part("store", lock_waits=("session 1 waits",))),
    ("locks", "warning", with_part("store", long_transactions=("session 1",))),
    ("maintenance", "warning", with_part("cluster", pause=Pause("ann", long_ago(days=2).isoformat(), None, "work"))),
    ("maintenance", "warning", with_part("work", stranded_runs=(("d", "r"),))),
    ("alerts", "advice", lambda facts: replace(facts, config=settings.load(facts.config.home, {}))),
    ("metrics", "warning", with_run("permissions_fix", LastRun(NOW, None, 3))),
    ("logs", "warning", with_part("files", missing_logs=("d.t of r",))),
    ("secrets", "critical", lambda facts: replace(facts, undecipherable=("variable x",))),
    ("secrets", "critical", with_part("files", exposed=("fernet.key (mode 0644) can be read by everybody",))),
    ("watchdog", "warning", with_run("watchdog", None)),
    ("watchdog", "warning", with_run("watchdog", LastRun(long_ago(minutes=15), long_ago(minutes=15), 0))),
    ("watchdog", "warning", with_part("cluster", restarts_last_hour=3)),
    ("units", "warning", with_part("units", differing=("opskit-scheduler.service",))),
    ("units", "advice", with_part("units", installed=())),
]


@pytest.mark.parametrize(
    ("name", "verdict", "fault"), FAULTS, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(FAULTS)]
)
def test_a_fault_is_found_and_nothing_else(
    name: str, verdict: str, fault: Callable[[Facts], Facts], tmp_path: Path
) -> None:
    report = judge(fault(healthy(tmp_path)))
    found = [finding for finding in report.findings if finding.verdict != "ok"]
    assert [(finding.name, finding.verdict) for finding in found] == [(name, verdict)]
    assert found[0].evidence
    assert found[0].fix
    assert report.exit_code == (0 if verdict == "advice" else 4)


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {name for name, *_ in FAULTS} == {check.name for check in CHECKS}


def test_what_could_not_be_seen_is_unknown_and_says_why(tmp_path: Path) -> None:
    facts = replace(healthy(tmp_path), store=None, unseen={"store": "the metastore is not available"})
    unknown = [finding for finding in judge(facts).findings if finding.verdict == "unknown"]
    assert [finding.name for finding in unknown] == ["metastore-size", "connections", "locks"]
    assert all("the metastore is not available" in finding.evidence[0] for finding in unknown)
    assert judge(facts).exit_code == 4


def test_a_watchdog_pause_that_ends_by_itself_is_no_fault(tmp_path: Path) -> None:
    pause = Pause("ann", long_ago(days=2).isoformat(), (NOW + timedelta(hours=1)).isoformat(), "work")
    assert judge(with_part("cluster", pause=pause)(healthy(tmp_path))).exit_code == 0
