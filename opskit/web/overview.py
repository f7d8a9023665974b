"""What the home page and `/opskit/v1/overview` are made of: one look at metastore, run folder and disks.

Nothing here runs a process or waits for another host. Parts that a person may not see are left out (None).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.core.metastore import held_dags
from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.browsing import health, home
from opskit.core.metastore.browsing.health import InstanceHealth
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.held_dags import Held
from opskit.errors import LockHeld
from opskit.platforms import watching
from opskit.platforms.receipts import kept_in, time_of
from opskit.system.machine import Disk, disk_of
from opskit.telemetry import reports
from opskit.telemetry.reports import KeptReport
from opskit.web import wellbeing
from opskit.web.identity import READ, Who
from opskit.web.store import Store

DAY = timedelta(days=1)
_SHOWN_RUNS, _SHOWN_FAILED, _SHOWN_NEXT = 8, 10, 6
_ORDER = ("scheduler", "worker", "dag_processor", "webserver")
_LOOKED_AT = 40
_DISK_SECONDS = 0.5
_measuring = threading.Lock()
_asked: dict[Path, Future[Disk]] = {}
"""Runs among whose task instances the failed ones are looked for."""


@dataclass(frozen=True, slots=True)
class Work:
    """What failed, what runs, what comes; of the DAGs that the person may see."""

    since: datetime
    failed_runs: Sequence[home.RunLine]
    failed_runs_count: int
    failed_tasks: Sequence[home.TaskLine]
    active_runs: Sequence[home.RunLine]
    active_runs_count: int
    upcoming: Sequence[home.Upcoming]
    dags: home.DagCounts
    held: Held | None
    """DAGs that were paused all at once."""
    waiting_runs: int
    """Runs that should have begun long ago."""
    waiting_since: datetime | None
    broken_files: Sequence[home.BrokenFile] | None
    broken_files_count: int


@dataclass(frozen=True, slots=True)
class Backups:
    """By the audit log and the receipts that this installation keeps; the store itself is not asked."""

    where: str
    proven_id: str = ""
    proven_taken_at: datetime | None = None
    """When the newest proven backup was taken; None: none was ever proven."""
    proven_at: datetime | None = None
    newest_taken_at: datetime | None = None
    newest_problem: str = ""
    """Of the newest attempt to take one; empty: it went well."""


@dataclass(frozen=True, slots=True)
class Deployment:
    at: datetime
    by: str
    action: str
    source: str
    hosts: Mapping[str, str]
    """Host → state and release."""
    failed: str


@dataclass(frozen=True, slots=True)
class Watchdog:
    last: watching.LastLook | None
    pause: watching.Pause | None
    """One that holds now."""
    changes: Sequence[watching.VerdictChange]


@dataclass(frozen=True, slots=True)
class Operations:
    """What only people see who may read Operations."""

    backups: Backups
    disks: Sequence[Disk]
    deploys: bool
    """DAG files are deployed to hosts from here."""
    drift: KeptReport | None
    deployments: Sequence[Deployment]
    watchdog: Watchdog


@dataclass(frozen=True, slots=True)
class Overview:
    """One look."""

    at: datetime
    hostname: str
    """Of the webserver: disks, drift and watchdog are this host's."""
    home_since: datetime
    components: Sequence[InstanceHealth]
    work: Work | None = None
    operations: Operations | None = None


def look(store: Store, who: Who, now: datetime) -> Overview:
    """MetastoreUnavailable when it can't be read. A fixed number of indexed statements."""
    config = store.config
    with store.reading() as connection:
        components = sorted(health.instances(connection, now, wellbeing.limits(config)), key=_place)
        work = _work(connection, config, who, now) if who.can(READ, "DAG Runs") else None
        lines = home.newest_lines(connection, ("backup", "deploy-dag"), 8) if who.can(READ, "Operations") else None
    return Overview(
        now,
        socket.gethostname(),
        _made_at(config.home, now),
        components,
        work,
        None if lines is None else _operations(config, lines, now),
    )


def _place(one: InstanceHealth) -> tuple[bool, int, str, datetime]:
    """What is not well comes first, then what is needed most."""
    order = _ORDER.index(one.kind) if one.kind in _ORDER else len(_ORDER)
    return one.state == "running", order, one.hostname, one.started_at


def _work(connection: Connection, config: Config, who: Who, now: datetime) -> Work:
    since, dag_ids = now - DAY, who.readable_dags()
    failed, failed_count = home.failed_runs(connection, since, _SHOWN_FAILED, dag_ids)
    active, active_count = home.active_runs(connection, _LOOKED_AT, dag_ids)
    numbers = [run.number for run in (*failed, *active)]
    tasks = home.failed_tasks(connection, numbers, since, _SHOWN_FAILED) if who.can(READ, "Task Instances") else []
    overdue = now - timedelta(seconds=float(config.get("watchdog", "work_slow_after")))
    waiting, waiting_since = home.waiting_runs(connection, overdue, dag_ids)
    broken: tuple[Sequence[home.BrokenFile] | None, int] = (None, 0)
    if who.can(READ, "ImportError"):
        broken = home.broken_files(connection, 5)
    return Work(
        since,
        failed,
        failed_count,
        tasks,
        active[:_SHOWN_RUNS],
        active_count,
        home.upcoming(connection, _SHOWN_NEXT, dag_ids),
        home.dag_counts(connection, dag_ids),
        held_dags.held(connection),
        waiting,
        waiting_since,
        *broken,
    )


def _operations(config: Config, lines: Sequence[AuditLine], now: datetime) -> Operations:
    drift = reports.kept(config.home, "dags_drift", 1)
    deployments = deployments_of(lines)
    return Operations(
        backups_of(config, lines),
        _disks(config),
        bool(config.get("deploy", "groups")) or bool(deployments),
        drift[0] if drift else None,
        deployments[:3],
        watchdog_of(config, now, 5),
    )


def backups_of(config: Config, lines: Sequence[AuditLine]) -> Backups:
    """The newest proven backup, by audit lines and receipts: after a restore or a move one of them may be missing."""
    proven = {one.backup_id: one.drilled_at for one in kept_in(config.home) if one.ok}
    newest: AuditLine | None = None
    for line in lines:
        if line.event != "backup":
            continue
        newest = newest or line
        backup_id = str(line.extra.get("backup_id") or "")
        if line.extra.get("verified") and backup_id:
            proven.setdefault(backup_id, line.at)
    best = max((one for one in proven if time_of(one)), default="")
    newest_id = str(newest.extra.get("backup_id") or "") if newest else ""
    problem = str(newest.extra.get("error") or "") if newest else ""
    # One that came to nothing has left no audit line.
    for run in reports.kept(config.home, "backup", 1):
        if run.exit_code not in (0, LockHeld.exit_code) and (newest is None or run.at > newest.at):
            problem = problem or run.error or f"it ended with exit code {run.exit_code}"
    return Backups(
        str(config.get("backup", "to")),
        best,
        time_of(best),
        proven.get(best),
        (time_of(newest_id) or newest.at) if newest else None,
        problem,
    )


def deployments_of(lines: Sequence[AuditLine]) -> list[Deployment]:
    """Deployments, rollbacks and repairs among audit lines."""
    return [
        Deployment(
            line.at,
            str(line.extra.get("by") or line.owner),
            str(line.extra.get("action") or "deploy"),
            str(line.extra.get("source") or ""),
            _texts(line.extra.get("hosts")),
            str(line.extra.get("failed") or ""),
        )
        for line in lines
        if line.event == "deploy-dag"
    ]


def watchdog_of(config: Config, now: datetime, limit: int) -> Watchdog:
    """What the watchdog of this host left."""
    pause = watching.read_pause(config.run_folder)
    return Watchdog(
        watching.last_look(config.run_folder),
        pause if pause and pause.active(now) else None,
        watching.read_changes(config.run_folder, limit),
    )


def _disks(config: Config) -> list[Disk]:
    found: dict[int, Disk] = {}
    for folder in (config.home, config.logs_folder, config.dags_folder):
        disk = _measured(folder)
        if disk is not None:
            found.setdefault(disk.device, disk)
    return list(found.values())


def _measured(folder: Path) -> Disk | None:
    """The disk of a folder; None when it can't be read. A mount that hangs holds up one thread, and no page: the doctor
    tells of it."""
    with _measuring:
        asked, seconds = _asked.get(folder), 0.01
        if asked is None or asked.done():
            seconds = _DISK_SECONDS
            asked = _asked[folder] = Future()
            threading.Thread(target=_measure, args=(folder, asked), name="disk", daemon=True).start()
    try:
        return asked.result(seconds)
    except (OSError, TimeoutError):
        return None


def _measure(folder: Path, answer: Future[Disk]) -> None:
    try:
        answer.set_result(disk_of(folder))
    except OSError as error:
        answer.set_exception(error)


def _made_at(folder: Path, now: datetime) -> datetime:
    """When OPSKIT_HOME was made, as far as the file system tells: a new one has not had the time for everything."""
    oldest = now.timestamp()
    for name in ("fernet.key", "opskit.toml", "receipts", "dags"):
        try:
            oldest = min(oldest, os.stat(folder / name).st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(oldest, UTC)


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, Mapping) else {}
