"""The core's health: pid files and /proc for processes, the bare driver for the metastore."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from pathlib import Path

from opskit.config import Config
from opskit.core.metastore import probe, probe_sessions
from opskit.platforms.health import Backlog, Component, DatabaseView, Observation
from opskit.system.daemon import PidFile, read_pid_files
from opskit.system.processes import process_state

WATCHED = ("scheduler", "dag_processor", "worker", "standalone")


class CoreHealth:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._timeout = float(config.get("watchdog", "probe_timeout"))

    def observe(self, now: datetime) -> Observation:
        config = self._config
        hostname = socket.gethostname()
        files = {record.instance_id: (path, record) for path, record in read_pid_files(config.run_folder)}
        try:
            sight = probe.look(
                config.database_url,
                now,
                overdue=timedelta(seconds=config.get("watchdog", "work_slow_after")),
                lease=timedelta(seconds=config.get("scheduler", "scheduler_health_check_threshold")),
                timeout=config.get("watchdog", "probe_timeout"),
            )
        except probe.ProbeFailed as failure:
            database = DatabaseView(failure.kind, str(failure))
            rows: list[probe.InstanceRow] = []
            backlogs: tuple[Backlog, ...] = ()
        else:
            database = _database(sight)
            rows = sight.instances
            backlogs = self._backlogs(sight)
        components = [self._registered(row, files, hostname) for row in rows if row.kind in WATCHED]
        known = {row.id for row in rows}
        components += [
            _unregistered(path, record, hostname)
            for identifier, (path, record) in files.items()
            if identifier not in known and _kind(record) in WATCHED
        ]
        return Observation(now, hostname, database, tuple(components), backlogs)

    def lock_waits(self) -> list[str]:
        try:
            return probe_sessions.describe_sessions(self._config.database_url, self._timeout)
        except probe.ProbeFailed as failure:
            return [f"could not be read: {failure}"]

    def _registered(self, row: probe.InstanceRow, files: dict[str, tuple[Path, PidFile]], hostname: str) -> Component:
        local = row.hostname == hostname and row.home == str(self._config.home)
        path, record = files.get(row.id, (None, None))
        return Component(
            kind=row.kind.replace("-", "_"),
            instance_id=row.id,
            hostname=row.hostname,
            local=local,
            pid=row.pid,
            pid_started=row.pid_started,
            process=process_state(row.pid, row.pid_started) if local else "unknown",
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            progress=row.progress,
            progress_at=row.progress_at,
            ended_at=row.ended_at,
            unit=record.unit if record else "",
            argv=tuple(record.argv) if record else (),
            pid_file=path if local else None,
        )

    def _backlogs(self, sight: probe.Sight) -> tuple[Backlog, ...]:
        found = [
            Backlog("due DAGs that no scheduler owns", sight.due_dags.count, sight.due_dags.oldest),
            Backlog("queued DagRuns that do not start", sight.queued_runs.count, sight.queued_runs.oldest),
        ]
        workers = sum(1 for row in sight.instances if row.kind == "worker" and row.ended_at is None)
        slots = max(1, workers) * self._config.get("core", "parallelism")
        if sight.running_tasks < slots:
            # With every slot taken, a queued task instance waits rightly.
            queued = sight.queued_tasks
            found.append(Backlog("queued task instances that do not start", queued.count, queued.oldest))
        return tuple(backlog for backlog in found if backlog.count)


def _database(sight: probe.Sight) -> DatabaseView:
    state, message = "ok", ""
    if sight.revision != sight.expected_revision:
        # Revisions have numbers as names, so the order of text is the order of time.
        older = sight.revision < sight.expected_revision
        state = "schema_older" if older else "schema_newer"
        message = f"schema {sight.revision or '(none)'}, this opskit needs {sight.expected_revision or '(none)'}"
    return DatabaseView(state, message, sight.seconds, sight.clock_difference_seconds, sight.uptime_seconds)


def _unregistered(path: Path, record: PidFile, hostname: str) -> Component:
    return Component(
        kind=_kind(record),
        instance_id=record.instance_id,
        hostname=hostname,
        local=True,
        pid=record.pid,
        pid_started=record.pid_started,
        process=process_state(record.pid, record.pid_started),
        started_at=datetime.fromisoformat(record.started_at),
        unit=record.unit,
        argv=tuple(record.argv),
        pid_file=path,
    )


def _kind(record: PidFile) -> str:
    return record.kind.replace("-", "_")
