"""The core's health: pid files and /proc for processes, the bare driver for the metastore."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from opskit.config import Config
from opskit.core.metastore import probe, probe_sessions
from opskit.platforms.health import KINDS, Attempts, Backlog, Component, DatabaseView, Observation
from opskit.system.daemon import PidFile, read_pid_files
from opskit.system.processes import process_state, tcp_sockets, wanted_seconds

_LATE_SECONDS = 3.0
"""With a sign of progress as old as this (or as `watchdog.slow_after`), the database is asked what holds it back."""


class CoreHealth:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._timeout = float(config.get("watchdog", "probe_timeout"))
        self._late = min(_LATE_SECONDS, config.get("watchdog", "slow_after"))

    def observe(self, now: datetime) -> Observation:
        config = self._config
        try:
            sight = probe.look(
                config.database_url,
                now,
                overdue=timedelta(seconds=config.get("watchdog", "work_slow_after")),
                lease=timedelta(seconds=config.get("scheduler", "scheduler_health_check_threshold")),
                timeout=self._timeout,
            )
        except probe.ProbeFailed as failure:
            return self.seen(now, self.failed(failure), [])
        return self.seen(now, _database(sight), sight.instances, self._backlogs(sight))

    def glances(self) -> CoreGlances:
        return CoreGlances(self._config, self)

    def seen(
        self, now: datetime, database: DatabaseView, rows: list[probe.InstanceRow], backlogs: tuple[Backlog, ...] = ()
    ) -> Observation:
        """Rows and pid files as one observation."""
        hostname = socket.gethostname()
        files = {record.instance_id: (path, record) for path, record in read_pid_files(self._config.run_folder)}
        components = [
            self._registered(row, files, hostname, now) for row in rows if row.kind.replace("-", "_") in KINDS
        ]
        known = {row.id for row in rows}
        components += [
            _unregistered(path, record, hostname)
            for identifier, (path, record) in files.items()
            if identifier not in known and _kind(record) in KINDS
        ]
        return Observation(now, hostname, database, tuple(components), backlogs)

    def failed(self, failure: probe.ProbeFailed) -> DatabaseView:
        """What a failed look tells; for tables that are locked: whether a migration is the reason."""
        if failure.kind != "locked":
            return DatabaseView(failure.kind, str(failure))
        try:
            who = probe_sessions.migration_under_way(self._config.database_url, self._timeout)
            if who:
                return DatabaseView("migrating", f"{who} changes the schema: {failure}")
            holders = probe_sessions.describe_sessions(self._config.database_url, self._timeout)
        except probe.ProbeFailed as another:
            holders = [f"who holds the lock could not be read: {another}"]
        return DatabaseView("locked", "; ".join([str(failure).splitlines()[0], *holders[:3]]))

    def in_flight(self) -> Attempts:
        from opskit.core.metastore import attempt_fates
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config)
        try:
            with reading(engine) as connection:
                return Attempts(attempt_fates.in_flight(connection))
        finally:
            engine.dispose()

    def lost(self, attempts: Attempts) -> list[str]:
        from opskit.core.metastore import attempt_fates
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config)
        try:
            with reading(engine) as connection:
                return attempt_fates.lost(connection, attempts.keys)
        finally:
            engine.dispose()

    def lock_waits(self) -> list[str]:
        try:
            return probe_sessions.describe_sessions(self._config.database_url, self._timeout)
        except probe.ProbeFailed as failure:
            return [f"could not be read: {failure}"]

    def _registered(
        self, row: probe.InstanceRow, files: dict[str, tuple[Path, PidFile]], hostname: str, now: datetime
    ) -> Component:
        local = row.hostname == hostname and row.home == str(self._config.home)
        path, record = files.get(row.id, (None, None))
        kind = row.kind.replace("-", "_")
        process = process_state(row.pid, row.pid_started) if local else "unknown"
        component = Component(
            kind=kind,
            instance_id=row.id,
            hostname=row.hostname,
            local=local,
            pid=row.pid,
            pid_started=row.pid_started,
            process=process,
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
            progress=row.progress,
            progress_at=row.progress_at,
            ended_at=row.ended_at,
            unit=record.unit if record else "",
            argv=tuple(record.argv) if record else (),
            pid_file=path if local else None,
        )
        if process not in ("running", "blocked") or not KINDS[kind].beats or row.ended_at is not None:
            return component
        late = (now - min(row.heartbeat_at, row.progress_at)).total_seconds() > self._late
        return replace(
            component, cpu_seconds=wanted_seconds(row.pid), held_back=self._held_back(row.pid) if late else ""
        )

    def _held_back(self, pid: int) -> str:
        ports = {one.port for one in tcp_sockets(pid) if not one.listens}
        try:
            return probe_sessions.held_back(self._config.database_url, self._timeout, pid, ports)
        except probe.ProbeFailed as failure:
            return f"what it waits for in the database can't be read ({failure.kind})"

    def _backlogs(self, sight: probe.Sight) -> tuple[Backlog, ...]:
        found = [
            Backlog("due DAGs that no scheduler owns", sight.due_dags.count, sight.due_dags.oldest),
            Backlog("queued DagRuns that do not start", sight.queued_runs.count, sight.queued_runs.oldest),
        ]
        workers = sum(1 for row in sight.instances if row.kind == "worker" and row.ended_at is None)
        slots = max(1, workers) * self._config.get("core", "parallelism")
        if sight.running_tasks < slots:
            # With every slot taken, what is ready waits rightly.
            queued, idle = sight.queued_tasks, sight.idle_dags
            cause = "scheduler" if workers else "no_worker"
            found.append(Backlog("queued task instances that do not start", queued.count, queued.oldest, cause))
            found.append(Backlog("DAGs with runs of which nothing moves", idle.count, idle.oldest, "idle"))
        return tuple(backlog for backlog in found if backlog.count)


class CoreGlances:
    """Keeps a session with the metastore open, and opens another one when it fails."""

    def __init__(self, config: Config, health: CoreHealth) -> None:
        self._config = config
        self._health = health
        self._probe: probe.Probe | None = None

    def glance(self, now: datetime) -> Observation:
        began = time.monotonic()
        try:
            if self._probe is None:
                self._probe = probe.Probe(self._config.database_url, self._config.get("watchdog", "probe_timeout"))
            rows = self._probe.glance(now)
        except probe.ProbeFailed as failure:
            self.close()
            return self._health.seen(now, self._health.failed(failure), [])
        return self._health.seen(now, DatabaseView("ok", seconds=time.monotonic() - began), rows)

    def close(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None


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
