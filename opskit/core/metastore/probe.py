"""Looks at the metastore as cheaply as possible, with hand-written portable SELECTs and without SQLAlchemy.

It says *why* it could not look, because "the database is down" and "the scheduler is down" need different deeds.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.core.metastore.probe_drivers import Database, ProbeFailed, moment_of, open_database

__all__ = [
    "Database",
    "InstanceRow",
    "Probe",
    "ProbeFailed",
    "Sight",
    "Waiting",
    "expected_revision",
    "look",
    "open_database",
]

_MOVING = "'queued', 'running', 'restarting', 'deferred', 'up_for_retry', 'up_for_reschedule'"
MIGRATIONS = Path(__file__).with_name("migrations") / "versions"


@dataclass(frozen=True, slots=True)
class InstanceRow:
    id: str
    kind: str
    hostname: str
    home: str
    pid: int
    pid_started: float
    started_at: datetime
    heartbeat_at: datetime
    progress: int
    progress_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Things that wait for longer than they should: how many, and since when the oldest does."""

    count: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look showed."""

    revision: str
    """Schema revision of the database; empty when Alembic's table is empty."""
    expected_revision: str
    """The newest migration of this installation."""
    seconds: float
    """How long the look took."""
    clock_difference_seconds: float
    """The database's clock minus ours; 0 for SQLite."""
    uptime_seconds: float | None = None
    """Since the server was started; None for SQLite."""
    instances: list[InstanceRow] = field(default_factory=list)
    due_dags: Waiting = field(default_factory=Waiting)
    """DAGs whose `wake_at` has passed and that no live scheduler owns."""
    queued_runs: Waiting = field(default_factory=Waiting)
    """Queued runs of DAGs that are not paused and have no running run."""
    queued_tasks: Waiting = field(default_factory=Waiting)
    running_tasks: int = 0
    idle_dags: Waiting = field(default_factory=Waiting)
    """DAGs with running runs of which nothing is in flight or waits for its time, although a pool has room for it."""


class Probe:
    """A session that looks again and again. Every method raises ProbeFailed; then open another one."""

    def __init__(self, url: str, timeout: float) -> None:
        self._database = open_database(url, timeout)

    def look(self, now: datetime, *, overdue: timedelta, lease: timedelta) -> Sight:
        """One whole look. `overdue`: what waits for less is not counted. `lease`: an older heartbeat holds no lease."""
        database = self._database
        began = time.monotonic()
        revision = _revision(database)
        expected = expected_revision()
        difference, uptime = 0.0, None
        before = datetime.now(UTC)
        if clock := database.clock():
            told, uptime = clock
            difference = (told - before - (datetime.now(UTC) - before) / 2).total_seconds()
        if revision != expected:
            # Columns may be missing or mean something else: nothing more can be said.
            return Sight(revision, expected, time.monotonic() - began, difference, uptime)
        running, queued = _tasks(database, now - overdue)
        return Sight(
            revision,
            expected,
            clock_difference_seconds=difference,
            uptime_seconds=uptime,
            instances=_instances(database, now),
            due_dags=_due_dags(database, now - overdue, now - lease),
            queued_runs=_queued_runs(database, now - overdue),
            queued_tasks=queued,
            idle_dags=_idle_dags(database, now - overdue),
            running_tasks=running,
            seconds=time.monotonic() - began,
        )

    def glance(self, now: datetime) -> list[InstanceRow]:
        """The instances alone: one statement."""
        return _instances(self._database, now)

    def close(self) -> None:
        self._database.close()


def look(url: str, now: datetime, *, overdue: timedelta, lease: timedelta, timeout: float = 3.0) -> Sight:
    """One look of a session of its own."""
    probe = Probe(url, timeout)
    try:
        return probe.look(now, overdue=overdue, lease=lease)
    finally:
        probe.close()


def expected_revision(folder: Path = MIGRATIONS) -> str:
    """The newest migration in the package: the revision that no other one follows. Empty without migrations."""
    found: dict[str, str] = {}
    for path in folder.glob("*.py"):
        values = dict(
            re.findall(r"^(revision|down_revision)\b[^=\n]*=\s*[\"']?([\w.-]+)", path.read_text(), re.MULTILINE)
        )
        if "revision" in values:
            found[values["revision"]] = values.get("down_revision", "None")
    newest = sorted(set(found) - set(found.values()))
    return newest[-1] if newest else ""


def _revision(database: Database) -> str:
    rows = database.query("SELECT version_num FROM alembic_version")
    return str(rows[0][0]) if rows else ""


def _instances(database: Database, now: datetime) -> list[InstanceRow]:
    rows = database.query(
        "SELECT id, kind, hostname, home, pid, pid_started, started_at, heartbeat_at, progress, progress_at, ended_at"
        f" FROM instance WHERE ended_at IS NULL OR ended_at > {_literal(now - timedelta(hours=1))}"
        " ORDER BY heartbeat_at DESC LIMIT 500"
    )
    return [
        InstanceRow(
            id=str(row[0]),
            kind=str(row[1]),
            hostname=str(row[2]),
            home=str(row[3]),
            pid=int(row[4]),
            pid_started=float(row[5]),
            started_at=moment_of(row[6]),
            heartbeat_at=moment_of(row[7]),
            progress=int(row[8]),
            progress_at=moment_of(row[9]),
            ended_at=_time(row[10]),
        )
        for row in rows
    ]


def _due_dags(database: Database, due_before: datetime, alive_since: datetime) -> Waiting:
    return _waiting(
        database.query(
            "SELECT COUNT(*), MIN(d.wake_at) FROM dag d LEFT JOIN instance i ON i.id = d.lease_owner"
            f" AND i.ended_at IS NULL AND i.heartbeat_at > {_literal(alive_since)}"
            f" WHERE d.wake_at < {_literal(due_before)} AND i.id IS NULL"
        )
    )


def _queued_runs(database: Database, queued_before: datetime) -> Waiting:
    # A run may wait for max_active_runs: only DAGs without any running run tell of a scheduler that does nothing.
    return _waiting(
        database.query(
            "SELECT COUNT(*), MIN(r.queued_at) FROM dag_run r JOIN dag d ON d.dag_id = r.dag_id"
            f" WHERE r.state = 'queued' AND r.queued_at < {_literal(queued_before)} AND d.is_active AND NOT d.is_paused"
            " AND NOT EXISTS (SELECT 1 FROM dag_run o WHERE o.dag_id = r.dag_id AND o.state = 'running')"
        )
    )


def _idle_dags(database: Database, idle_since: datetime) -> Waiting:
    # Counted per DAG: its other runs may use up max_active_tasks, or be what depends_on_past waits for.
    return _waiting(
        database.query(
            "SELECT COUNT(*), MIN(x.since) FROM (SELECT r.dag_id, MAX(COALESCE(t.end_date, r.start_date)) AS since"
            " FROM dag_run r JOIN dag d ON d.dag_id = r.dag_id JOIN task_instance t ON t.dag_run_id = r.id"
            " WHERE r.state = 'running' AND d.is_active AND NOT d.is_paused GROUP BY r.dag_id"
            f" HAVING SUM(CASE WHEN t.state IN ({_MOVING}) THEN 1 ELSE 0 END) = 0"
            " AND SUM(CASE WHEN (t.state IS NULL OR t.state = 'scheduled')"
            " AND t.pool IN (SELECT p.pool FROM slot_pool p WHERE p.slots >"
            " (SELECT COALESCE(SUM(i.pool_slots), 0) FROM task_instance i"
            " WHERE i.pool = p.pool AND i.state IN ('queued', 'running'))) THEN 1 ELSE 0 END) > 0) x"
            f" WHERE x.since < {_literal(idle_since)}"
        )
    )


def _tasks(database: Database, queued_before: datetime) -> tuple[int, Waiting]:
    running = database.query("SELECT COUNT(*) FROM task_instance WHERE state = 'running'")
    queued = database.query(
        "SELECT COUNT(*), MIN(queued_at) FROM task_instance"
        f" WHERE state = 'queued' AND queued_at < {_literal(queued_before)}"
    )
    return int(running[0][0]), _waiting(queued)


def _waiting(rows: list[tuple[Any, ...]]) -> Waiting:
    return Waiting(int(rows[0][0]), _time(rows[0][1]))


def _literal(moment: datetime) -> str:
    # The session's zone is UTC everywhere, and SQLite compares text in just this form.
    return moment.astimezone(UTC).strftime("'%Y-%m-%d %H:%M:%S.%f'")


def _time(value: Any) -> datetime | None:
    return None if value is None else moment_of(value)
