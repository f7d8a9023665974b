"""Queries of the doctor: what was lost, what is stranded, how large and how busy the database is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select, text
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import sqlite_path
from opskit.core.metastore.tables import (
    connection as connection_table,
)
from opskit.core.metastore.tables import dag, dag_file, dag_run, instance, pool, task_attempt, task_instance, variable
from opskit.errors import OpskitError

_LOST = ("worker lost%", "heartbeat timeout%")
_SOME = 50
_LONG_TRANSACTION_SECONDS = 600
_LONG_WAIT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Ended:
    """A try that has ended."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    end_date: datetime
    reason: str


def count_ended(connection: Connection, since: datetime) -> int:
    """Tries that ended since then. (Without an index on the times: one pass over what runs since then have.)"""
    total = 0
    for table in (task_instance, task_attempt):
        total += connection.execute(
            select(func.count())
            .select_from(table.join(dag_run, dag_run.c.id == table.c.dag_run_id))
            .where(_recent_runs(since), table.c.end_date >= since, table.c.try_number > 0)
        ).scalar_one()
    return total


def lost_attempts(connection: Connection, since: datetime) -> list[Ended]:
    """Tries that ended since then because a worker or a host was gone; the newest first."""
    found: list[Ended] = []
    for table in (task_instance, task_attempt):
        found += _ended(connection, table, since, or_(*(table.c.reason.like(words) for words in _LOST)))
    return sorted(found, key=lambda item: item.end_date, reverse=True)[:_SOME]


def ended_on(connection: Connection, hostname: str, since: datetime) -> list[Ended]:
    """Tries of this host that ran and ended since then."""
    mine = (task_instance.c.hostname == hostname) & task_instance.c.start_date.is_not(None)
    return _ended(connection, task_instance, since, mine & task_instance.c.state.in_((states.SUCCESS, states.FAILED)))


def _ended(connection: Connection, table: Any, since: datetime, condition: Any) -> list[Ended]:
    rows = connection.execute(
        select(
            dag_run.c.dag_id,
            dag_run.c.run_id,
            table.c.task_id,
            table.c.map_index,
            table.c.try_number,
            table.c.end_date,
            table.c.reason,
        )
        .select_from(table.join(dag_run, dag_run.c.id == table.c.dag_run_id))
        .where(_recent_runs(since), table.c.end_date >= since, condition)
        .order_by(table.c.dag_run_id.desc())
        .limit(_SOME)
    )
    return [Ended(*row[:-1], row.reason or "") for row in rows]


def _recent_runs(since: datetime) -> Any:
    # What ended lately belongs to a run that goes on or ended lately.
    return or_(dag_run.c.end_date.is_(None), dag_run.c.end_date >= since)


def full_pools(connection: Connection) -> list[str]:
    """Pools without a free slot for which a task instance waits."""
    waiting = select(task_instance.c.pool).where(task_instance.c.state == states.SCHEDULED)
    rows = connection.execute(
        select(pool.c.pool).where(pool.c.slots >= 0, pool.c.used_slots >= pool.c.slots, pool.c.pool.in_(waiting))
    )
    return sorted(rows.scalars())


def stranded_runs(connection: Connection, before: datetime) -> list[tuple[str, str]]:
    """Unfinished runs of paused DAGs that were queued before then."""
    rows = connection.execute(
        select(dag_run.c.dag_id, dag_run.c.run_id)
        .join(dag, dag.c.dag_id == dag_run.c.dag_id)
        .where(
            dag.c.is_paused.is_(True),
            dag_run.c.state.in_((states.QUEUED, states.RUNNING)),
            dag_run.c.queued_at < before,
        )
        .order_by(dag_run.c.dag_id, dag_run.c.run_id)
        .limit(_SOME)
    )
    return [(row.dag_id, row.run_id) for row in rows]


def loaded_files(connection: Connection) -> Sequence[Any]:
    """Rows: path, content_hash, parse_seconds, parsed_at, import_error."""
    return connection.execute(
        select(
            dag_file.c.path,
            dag_file.c.content_hash,
            dag_file.c.parse_seconds,
            dag_file.c.parsed_at,
            dag_file.c.import_error,
        ).order_by(dag_file.c.path)
    ).all()


def vanished_dags(connection: Connection) -> list[tuple[str, str]]:
    """DAGs that are not paused, and that their file no longer defines: (dag_id, path)."""
    rows = connection.execute(
        select(dag.c.dag_id, dag.c.fileloc)
        .where(dag.c.is_active.is_(False), dag.c.is_paused.is_(False))
        .order_by(dag.c.dag_id)
    )
    return [(row.dag_id, row.fileloc) for row in rows]


def oldest_ended_run(connection: Connection) -> datetime | None:
    return connection.execute(select(func.min(dag_run.c.end_date))).scalar()


def living_versions(connection: Connection, alive_since: datetime) -> list[tuple[str, str]]:
    """(kind on host, version) of each living instance."""
    rows = connection.execute(
        select(instance.c.kind, instance.c.hostname, instance.c.version)
        .where(instance.c.ended_at.is_(None), instance.c.heartbeat_at >= alive_since)
        .order_by(instance.c.kind, instance.c.hostname)
    )
    return [(f"{row.kind} on {row.hostname}", row.version) for row in rows]


def undecipherable(connection: Connection, cipher: Cipher) -> list[str]:
    """Connections and variables with a secret that no key of the cipher can read."""
    connections = connection.execute(
        select(connection_table.c.conn_id, connection_table.c.password, connection_table.c.extra).where(
            connection_table.c.is_encrypted.is_(True)
        )
    )
    found = [
        f"connection {row.conn_id}"
        for row in connections
        if not (_readable(cipher, row.password) and _readable(cipher, row.extra))
    ]
    variables = connection.execute(select(variable.c.key, variable.c.val).where(variable.c.is_encrypted.is_(True)))
    found += [f"variable {row.key}" for row in variables if not _readable(cipher, row.val)]
    return sorted(found)


def _readable(cipher: Cipher, token: str | None) -> bool:
    if not token:
        return True
    try:
        cipher.decrypt(token, "")
    except OpskitError:
        return False
    return True


def size_bytes(connection: Connection) -> int | None:
    """Of the database on disk."""
    kind = connection.dialect.name
    if kind == "sqlite":
        path = sqlite_path(connection.engine.url)
        files = () if path is None else (path, Path(f"{path}-wal"))
        return sum(file.stat().st_size for file in files if file.exists()) or None
    query = (
        "SELECT pg_database_size(current_database())"
        if kind == "postgresql"
        else "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    found = connection.execute(text(query)).scalar()
    return None if found is None else int(found)


def connection_counts(connection: Connection) -> tuple[int | None, int | None]:
    """Connections to the server, and how many it allows. None for a database without a server, or where it does not
    tell us."""
    kind = connection.dialect.name
    if kind == "sqlite":
        return None, None
    if kind == "postgresql":
        row = connection.execute(
            text(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
                " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            )
        ).one()
        return int(row[0]), int(row[1])
    status = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Threads_connected'")).first()
    limit = connection.execute(text("SELECT @@max_connections")).scalar_one()
    return (None if status is None else int(status[1])), int(limit)


def long_transactions(connection: Connection) -> list[str]:
    """Sessions whose transaction is open for more than ten minutes. Of other users' sessions only what the server
    shows."""
    kind = connection.dialect.name
    if kind == "postgresql":
        rows = connection.execute(
            text(
                "SELECT pid, application_name, state, extract(epoch FROM now() - xact_start)::int AS seconds"
                " FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() AND xact_start < now() - make_interval(secs => :long)"
                " ORDER BY xact_start"
            ),
            {"long": _LONG_TRANSACTION_SECONDS},
        )
        return [f"{row.application_name or 'a session'} (pid {row.pid}), {row.state}, {row.seconds} s" for row in rows]
    if kind == "sqlite":
        return []
    rows = connection.execute(
        text(
            "SELECT trx_mysql_thread_id AS id, trx_state AS state,"
            " TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds FROM information_schema.innodb_trx"
            " WHERE trx_mysql_thread_id <> CONNECTION_ID()"
            " AND trx_started < NOW() - INTERVAL :long SECOND ORDER BY trx_started"
        ),
        {"long": _LONG_TRANSACTION_SECONDS},
    )
    return [f"session {row.id}, {row.state}, {row.seconds} s" for row in rows]


def long_lock_waits(connection: Connection) -> list[str]:
    """Sessions that have waited for a lock for more than five seconds, and who holds it where the server tells."""
    kind = connection.dialect.name
    if kind == "postgresql":
        rows = connection.execute(
            text(
                "SELECT pid, application_name, extract(epoch FROM now() - state_change)::int AS seconds,"
                " array_to_string(pg_blocking_pids(pid), ', ') AS blockers FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                " AND state_change < now() - make_interval(secs => :long)"
            ),
            {"long": _LONG_WAIT_SECONDS},
        )
        return [
            f"{row.application_name or 'a session'} (pid {row.pid}) waits for pid {row.blockers}, {row.seconds} s"
            for row in rows
        ]
    if kind == "sqlite":
        return []
    rows = connection.execute(
        text(
            "SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_wait_started, NOW()) AS seconds"
            " FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            " AND trx_wait_started < NOW() - INTERVAL :long SECOND"
        ),
        {"long": _LONG_WAIT_SECONDS},
    )
    return [f"session {row.id} waits, {row.seconds} s" for row in rows]
