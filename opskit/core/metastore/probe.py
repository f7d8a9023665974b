"""Looks at the metastore as cheaply as possible, with hand-written portable SELECTs and without SQLAlchemy.

It says *why* it could not look, because "the database is down" and "the scheduler is down" need different deeds.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

MIGRATIONS = Path(__file__).with_name("migrations") / "versions"


class ProbeFailed(Exception):
    """The metastore could not be looked at.

    `kind`: unreachable (refused, no route, no such file's folder), timeout, locked, denied (login), absent (no such
    database), no_schema, corrupt, error.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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


class Database(Protocol):
    def query(self, sql: str) -> list[tuple[Any, ...]]: ...
    def clock(self) -> tuple[datetime, float] | None:
        """The server's time and its uptime in seconds; None where there is no server."""
        ...

    def close(self) -> None: ...


def look(url: str, now: datetime, *, overdue: timedelta, lease: timedelta, timeout: float = 3.0) -> Sight:
    """One look. `overdue`: what waits for less is not counted. `lease`: an older heartbeat holds no lease.

    Raises ProbeFailed.
    """
    began = time.monotonic()
    database = open_database(url, timeout)
    try:
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
            running_tasks=running,
            seconds=time.monotonic() - began,
        )
    finally:
        database.close()


def lock_waits(url: str, timeout: float = 3.0) -> list[str]:
    """What each session of this database does and who blocks it, a line each: evidence. Raises ProbeFailed."""
    database = open_database(url, timeout)
    try:
        if url.startswith("sqlite"):
            return []
        if url.startswith("postgres"):
            rows = database.query(
                "SELECT pid, application_name, state, wait_event_type, wait_event, pg_blocking_pids(pid),"
                " now() - xact_start, left(query, 200) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " ORDER BY xact_start NULLS LAST LIMIT 100"
            )
        else:
            rows = database.query(
                "SELECT id, command, time, state, left(info, 200) FROM information_schema.processlist"
                " WHERE db = database() AND id <> connection_id() LIMIT 100"
            )
        return [" | ".join("-" if value is None else str(value) for value in row) for row in rows]
    finally:
        database.close()


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
            started_at=_known(row[6]),
            heartbeat_at=_known(row[7]),
            progress=int(row[8]),
            progress_at=_known(row[9]),
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
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _known(value: Any) -> datetime:
    moment = _time(value)
    assert moment is not None
    return moment


def open_database(url: str, timeout: float) -> Database:
    """A read-only session of up to `timeout` seconds (per statement where there is a server). Raises ProbeFailed."""
    kind = url.split(":", 1)[0].split("+", 1)[0]
    if kind == "sqlite":
        return _Sqlite(url, timeout)
    if kind in ("postgres", "postgresql"):
        return _Postgres(url, timeout)
    if kind in ("mysql", "mariadb"):
        return _Mysql(url, timeout)
    raise ProbeFailed("error", f"{kind} is no database that opskit knows")


class _Sqlite:
    def __init__(self, url: str, timeout: float) -> None:
        import sqlite3

        path = Path(unquote(url.split(":///", 1)[1].split("?", 1)[0]))
        self._errors = sqlite3.Error
        if not path.exists():
            raise ProbeFailed("absent", f"there is no {path}")
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout, isolation_level=None
            )
        except sqlite3.Error as error:
            raise ProbeFailed("unreachable", f"{path}: {error}") from error
        deadline = time.monotonic() + timeout
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql).fetchall()
        except self._errors as error:
            text = str(error)
            for part, kind in (
                ("locked", "locked"),
                ("busy", "locked"),
                ("interrupted", "timeout"),
                ("no such table", "no_schema"),
                ("no such column", "no_schema"),
                ("malformed", "corrupt"),
                ("not a database", "corrupt"),
                ("unable to open", "unreachable"),
                ("disk I/O", "unreachable"),
            ):
                if part in text:
                    raise ProbeFailed(kind, text) from error
            raise ProbeFailed("error", text) from error

    def clock(self) -> None:
        return None

    def close(self) -> None:
        self._connection.close()


class _Postgres:
    def __init__(self, url: str, timeout: float) -> None:
        from opskit.core.metastore import libpq

        self._failure = libpq.LibpqError
        try:
            self._connection = libpq.Connection("postgresql:" + url.split(":", 1)[1], timeout)
        except libpq.LibpqError as error:
            raise ProbeFailed(_connection_failure(str(error)), str(error)) from error
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error
        except ImportError as error:
            raise ProbeFailed("error", str(error)) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return list(self._connection.query(sql))
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error
        except self._failure as error:
            kinds = {
                "42P01": "no_schema",
                "42703": "no_schema",
                "42501": "denied",
                "57014": "timeout",
                "55P03": "locked",
                "": "unreachable",
            }
            sqlstate: str = getattr(error, "sqlstate", "")
            down = "unreachable" if sqlstate.startswith(("57P", "08")) else "error"
            raise ProbeFailed(kinds.get(sqlstate, down), str(error)) from error

    def clock(self) -> tuple[datetime, float]:
        moment, uptime = self.query("SELECT clock_timestamp(), extract(epoch FROM now() - pg_postmaster_start_time())")[
            0
        ]
        return _known(moment), float(uptime)

    def close(self) -> None:
        self._connection.close()


def _connection_failure(text: str) -> str:
    if "timeout" in text:
        return "timeout"
    if "authentication failed" in text or "pg_hba.conf" in text or "no password" in text:
        return "denied"
    if "does not exist" in text:
        return "denied" if 'role "' in text else "absent"
    return "unreachable"


class _Mysql:
    def __init__(self, url: str, timeout: float) -> None:
        try:
            import pymysql
        except ImportError as error:
            raise ProbeFailed("error", "PyMySQL is not installed") from error
        self._failure = pymysql.MySQLError
        parts = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            self._connection = pymysql.connect(
                host=parts.hostname or "localhost",
                port=parts.port or 3306,
                user=unquote(parts.username or "") or None,
                password=unquote(parts.password or ""),
                database=unquote(parts.path.lstrip("/")),
                unix_socket=query.get("unix_socket"),
                ssl_ca=query.get("ssl_ca"),
                charset="utf8mb4",
                connect_timeout=max(1, round(timeout)),
                read_timeout=timeout + 1,
                write_timeout=timeout + 1,
                autocommit=True,
                init_command="SET time_zone = '+00:00'",
            )
        except pymysql.MySQLError as error:
            raise self._failed(error) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        except self._failure as error:
            raise self._failed(error) from error

    @staticmethod
    def _failed(error: Exception) -> ProbeFailed:
        code = error.args[0] if error.args else 0
        text = str(error.args[-1]) if error.args else str(error)
        if "timed out" in text:
            return ProbeFailed("timeout", text)
        kinds = {
            1045: "denied",
            1044: "denied",
            1142: "denied",
            1698: "denied",
            1049: "absent",
            1146: "no_schema",
            1054: "no_schema",
            1205: "locked",
            1969: "timeout",
            3024: "timeout",
        }
        down = "unreachable" if code in (1040, 1053, 1927, 2002, 2003, 2005, 2006, 2013) else "error"
        return ProbeFailed(kinds.get(code, down), text)

    def clock(self) -> tuple[datetime, float]:
        uptime = self.query("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]
        return _known(self.query("SELECT UTC_TIMESTAMP(6)")[0][0]), float(uptime)

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()
