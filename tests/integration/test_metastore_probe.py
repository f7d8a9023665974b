"""The probe looks at real databases, and knows why when it can't."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from opskit.core.metastore import probe, probe_sessions, schema
from opskit.core.metastore import tables as t
from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.probe import ProbeFailed, Sight, Waiting
from tests.databases import Databases
from tests.waiting import wait_until

NOW = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def look(url: str, timeout: float = 3.0) -> Sight:
    return probe.look(url, NOW, overdue=timedelta(seconds=60), lease=timedelta(seconds=15), timeout=timeout)


def fill(url: str, *rows: tuple[Any, dict[str, Any]]) -> None:
    engine = open_engine(url)
    try:
        with transaction(engine) as connection:
            for table, values in rows:
                connection.execute(insert(table).values(values))
    finally:
        engine.dispose()


def instance(name: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    values = {
        "id": name,
        "kind": "scheduler",
        "hostname": "here",
        "home": "/srv/opskit",
        "pid": 5,
        "pid_started": 7.25,
        "version": "1",
        "started_at": ago(500),
        "heartbeat_at": ago(1.5),
        "progress": 9,
        "progress_at": ago(2),
        "detail": "{}",
    }
    return t.instance, {**values, **changes}


def dag(name: str, **changes: Any) -> tuple[Any, dict[str, Any]]:
    values = {"dag_id": name, "fileloc": "a.py", "is_paused": False, "is_active": True, "version_hash": "h"}
    return t.dag, {**values, **changes}


def run(number: int, dag_id: str, state: str, queued_at: datetime) -> tuple[Any, dict[str, Any]]:
    date = NOW - timedelta(days=number)
    values = {
        "id": number,
        "dag_id": dag_id,
        "run_id": f"r{number}",
        "run_type": "manual",
        "state": state,
        "logical_date": date,
        "data_interval_start": date,
        "data_interval_end": date,
        "conf": "{}",
        "queued_at": queued_at,
    }
    return t.dag_run, values


def task(
    run_id: int, name: str, state: str | None, queued_at: datetime | None, **more: Any
) -> tuple[Any, dict[str, Any]]:
    return t.task_instance, {"dag_run_id": run_id, "task_id": name, "state": state, "queued_at": queued_at, **more}


def test_the_expected_revision_is_the_newest_migration() -> None:
    assert probe.expected_revision() == schema.HEAD


def test_the_newest_migration_is_the_one_that_none_follows(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text('revision: str = "0001"\ndown_revision: str | None = None\n')
    (tmp_path / "a.py").write_text("revision = '0002'\ndown_revision = '0001'\n")
    assert probe.expected_revision(tmp_path) == "0002"


def test_a_look_shows_every_instance_with_its_times(metastore_url: str) -> None:
    fill(
        metastore_url,
        instance("alive"),
        instance("ended", ended_at=ago(100), heartbeat_at=ago(100)),
        instance("long ago", ended_at=ago(9000), heartbeat_at=ago(9000)),
        instance("silent for days", heartbeat_at=ago(300_000)),
    )
    sight = look(metastore_url)
    assert sight.revision == sight.expected_revision == schema.HEAD
    assert [row.id for row in sight.instances] == ["alive", "ended", "silent for days"]
    alive = sight.instances[0]
    assert (alive.heartbeat_at, alive.progress_at, alive.started_at) == (ago(1.5), ago(2), ago(500))
    assert (alive.pid, alive.pid_started, alive.progress, alive.ended_at) == (5, 7.25, 9, None)
    assert sight.instances[1].ended_at == ago(100)


def test_due_dags_count_when_no_live_scheduler_owns_them(metastore_url: str) -> None:
    fill(
        metastore_url,
        instance("alive"),
        instance("silent", heartbeat_at=ago(30)),
        instance("ended", ended_at=ago(5)),
        dag("nobody's", wake_at=ago(100)),
        dag("of a silent one", wake_at=ago(200), lease_owner="silent"),
        dag("of an ended one", wake_at=ago(90), lease_owner="ended"),
        dag("owned", wake_at=ago(1000), lease_owner="alive"),
        dag("due a moment ago", wake_at=ago(5)),
        dag("not due", wake_at=ago(-50)),
        dag("never", wake_at=None),
    )
    assert look(metastore_url).due_dags == Waiting(3, ago(200))


def test_queued_runs_count_when_their_dag_could_start_them(metastore_url: str) -> None:
    fill(
        metastore_url,
        dag("free"),
        dag("paused", is_paused=True),
        dag("gone", is_active=False),
        dag("busy"),
        run(1, "free", "queued", ago(100)),
        run(2, "free", "queued", ago(30)),
        run(3, "paused", "queued", ago(100)),
        run(4, "gone", "queued", ago(100)),
        run(5, "busy", "queued", ago(100)),
        run(6, "busy", "running", ago(200)),
        run(7, "free", "success", ago(300)),
    )
    assert look(metastore_url).queued_runs == Waiting(1, ago(100))


def test_queued_and_running_task_instances_count(metastore_url: str) -> None:
    fill(
        metastore_url,
        dag("d"),
        run(1, "d", "running", ago(500)),
        task(1, "a", "queued", ago(400)),
        task(1, "b", "queued", ago(10)),
        task(1, "c", "running", ago(450)),
        task(1, "e", None, None),
        task(1, "f", "success", ago(500)),
    )
    sight = look(metastore_url)
    assert (sight.queued_tasks, sight.running_tasks) == (Waiting(1, ago(400)), 1)


def test_an_empty_metastore_waits_for_nothing(metastore_url: str) -> None:
    sight = look(metastore_url)
    assert (sight.instances, sight.due_dags, sight.queued_runs) == ([], Waiting(), Waiting())


def test_the_clock_of_the_server_is_compared_with_ours(metastore_url: str) -> None:
    sight = look(metastore_url)
    assert abs(sight.clock_difference_seconds) < 2, "the test server runs on this machine"
    if metastore_url.startswith("sqlite"):
        assert sight.uptime_seconds is None
    else:
        assert sight.uptime_seconds is not None
        assert sight.uptime_seconds > 0


def test_a_look_changes_nothing_and_needs_no_orm(metastore_url: str) -> None:
    code = (
        "import sys; from datetime import UTC, datetime, timedelta; from opskit.core.metastore import probe;"
        "probe.look(sys.argv[1], datetime.now(UTC), overdue=timedelta(1), lease=timedelta(1));"
        "print([m for m in ('sqlalchemy', 'alembic', 'psycopg', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, metastore_url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_database_without_tables_has_no_schema(database_url: str) -> None:
    with pytest.raises(ProbeFailed) as caught:
        look(database_url)
    assert caught.value.kind == ("absent" if database_url.startswith("sqlite") else "no_schema")


def test_a_database_with_another_schema_shows_its_revision(metastore_url: str) -> None:
    engine = open_engine(metastore_url)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    engine.dispose()
    assert look(metastore_url).revision == "0000"


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb"])
def test_a_server_that_is_down_is_unreachable(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ProbeFailed) as caught:
        look(f"{kind}://someone:secret@127.0.0.1:{port}/x")
    assert caught.value.kind == "unreachable"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_that_takes_connections_but_never_answers_times_out(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ProbeFailed) as caught:
        look(f"{kind}://someone:secret@127.0.0.1:{silent.getsockname()[1]}/x", timeout=1.0)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_database_that_does_not_exist_is_absent_or_denied(kind: str, databases: Databases) -> None:
    url = databases.empty(kind)
    databases.drop(url)
    with pytest.raises(ProbeFailed) as caught:
        look(url)
    assert caught.value.kind in ("absent", "denied")


def test_a_wrong_password_is_denied(mariadb_url: str) -> None:
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(mariadb_url)
    wrong = urlunsplit(parts._replace(netloc=f"opskit:wrong@{parts.hostname}:{parts.port}"))
    with pytest.raises(ProbeFailed) as caught:
        look(wrong)
    assert caught.value.kind == "denied"


def test_a_table_that_someone_locks_is_told_from_a_database_that_is_down(databases: Databases) -> None:
    import psycopg

    url = databases.migrated("postgresql")
    try:
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(ProbeFailed) as caught:
                look(url, timeout=1.0)
            assert probe_sessions.migration_under_way(url, 1.0) == ""
            holder.execute("SELECT pg_advisory_lock(%s)", [schema._POSTGRESQL_LOCK])
            assert probe_sessions.migration_under_way(url, 1.0) == f"session {holder.info.backend_pid}"
            holder.rollback()
        assert caught.value.kind == "locked"
        assert look(url).revision == schema.HEAD
    finally:
        databases.drop(url)


@pytest.fixture
def sqlite_url(databases: Databases) -> Iterator[str]:
    url = databases.migrated("sqlite")
    yield url
    databases.drop(url)


def test_a_writer_does_not_hinder_a_look_at_sqlite(sqlite_url: str) -> None:
    fill(sqlite_url, instance("alive"))
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE instance SET progress = 77")
        assert look(sqlite_url).instances[0].progress == 9
        writer.execute("ROLLBACK")
    writer.close()


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(os.urandom(8192))
    with pytest.raises(ProbeFailed) as caught:
        look(f"sqlite:///{path}")
    assert caught.value.kind == "corrupt"


def waiting_session(engine: Any, statement: str) -> tuple[Any, threading.Thread]:
    """A session whose statement waits for a lock; it ends with the lock."""
    connection = engine.raw_connection()

    def run() -> None:
        with connection.cursor() as cursor, suppress(Exception):
            cursor.execute(statement)

    thread = threading.Thread(target=run)
    thread.start()
    return connection, thread


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_who_holds_a_process_back_in_the_database_is_named(kind: str, databases: Databases) -> None:
    url = databases.migrated(kind)
    fill(url, dag("d"))
    engine = open_engine(url)
    try:
        with engine.connect() as holder, holder.begin() as held:
            holder.execute(text("UPDATE dag SET owners = 'ann'"))
            assert probe_sessions.held_back(url, 2.0, 1, set()) == "", "nobody waits"
            connection, thread = waiting_session(engine, "UPDATE dag SET owners = 'bob'")
            raw = connection.driver_connection
            sock = socket.socket(fileno=os.dup(raw.fileno() if kind == "postgresql" else raw._sock.fileno()))
            port = sock.getsockname()[1]
            sock.close()
            found = wait_until(lambda: probe_sessions.held_back(url, 2.0, 1, {port}), what="the lock is seen")
            assert "bob" in found
            assert ("held by session" in found) or (kind == "mariadb" and "waits for the database" in found)
            assert any("bob" in line for line in probe_sessions.describe_sessions(url, 2.0))
            held.rollback()
        thread.join()
        connection.close()
    finally:
        engine.dispose()
        databases.drop(url)


def test_the_writer_of_a_sqlite_metastore_is_named(sqlite_url: str) -> None:
    assert probe_sessions.held_back(sqlite_url, 1.0, 1, set()) == ""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('PRAGMA journal_mode = WAL'); c.execute('BEGIN IMMEDIATE'); print('held', flush=True); input()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, sqlite_url.removeprefix("sqlite:///")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert writer.stdout and writer.stdout.readline() == "held\n"
        assert f"pid {writer.pid} (" in probe_sessions.held_back(sqlite_url, 1.0, 1, set())
        assert probe_sessions.held_back(sqlite_url, 1.0, writer.pid, set()) == "", "its own lock holds nobody back"
    finally:
        writer.communicate("\n")


def test_dags_of_which_nothing_moves_count_unless_a_pool_or_a_time_holds_them(metastore_url: str) -> None:
    fill(
        metastore_url,
        (t.pool, {"pool": "full", "slots": 1, "used_slots": 1}),
        (t.pool, {"pool": "leaked", "slots": 5, "used_slots": 5}),
        *[dag(name) for name in ("idle", "busy", "holder", "saturated", "retrying", "leak")],
        dag("paused", is_paused=True),
        *[
            run(number, name, "running", ago(900))
            for number, name in enumerate(("idle", "busy", "holder", "saturated", "retrying", "leak", "paused"), 1)
        ],
        task(1, "done", "success", ago(800), end_date=ago(700)),
        task(1, "next", None, None),
        task(2, "works", "running", ago(800)),
        task(2, "next", None, None),
        task(3, "works", "running", ago(800), pool="full"),
        task(4, "done", "success", ago(800), end_date=ago(700)),
        task(4, "next", None, None, pool="full"),
        task(5, "again", "up_for_retry", ago(800), end_date=ago(700)),
        task(5, "next", None, None),
        task(6, "done", "success", ago(800), end_date=ago(600)),
        task(6, "next", None, None, pool="leaked"),
        task(7, "done", "success", ago(800), end_date=ago(700)),
        task(7, "next", None, None),
    )
    assert look(metastore_url).idle_dags == Waiting(2, ago(700)), "idle and leak; not the DAG behind a full pool"
