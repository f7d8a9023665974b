"""The doctor on a real metastore and OPSKIT_HOME: planted faults are found, a healthy cluster is left in peace."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from opskit import config as settings
from opskit import platforms
from opskit.core.metastore import diagnosis, runs
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_file, dag_run, instance, pool, task_instance, variable
from opskit.ops.doctor import Report, examine
from opskit.platforms.watching import Pause, read_pause
from opskit.system.daemon import process_started
from opskit.telemetry import metrics
from tests.conftest import Opskit
from tests.metastore_rows import start_run, store_dag
from tests.waiting import wait_until


@pytest.fixture
def engine(metastore_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", metastore_url)
    engine = open_engine(metastore_url)
    yield engine
    engine.dispose()
    metrics.take()


def add_instance(connection: Connection, home: Path, kind: str, *, pid: int, version: str = "1") -> None:
    now = datetime.now(UTC)
    connection.execute(
        insert(instance).values(
            id=f"{kind}-{pid}-{version}",
            kind=kind,
            hostname=socket.gethostname(),
            home=str(home),
            pid=pid,
            pid_started=process_started(pid) if pid == os.getpid() else 1.0,
            version=version,
            started_at=now,
            heartbeat_at=now,
            progress=5,
            progress_at=now,
            detail="{}",
        )
    )


def examined() -> Report:
    return examine(platforms.find(settings.load()), datetime.now(UTC))


def verdicts(report: Report) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in report.findings if finding.verdict != "ok"}


def test_a_cluster_that_works_gives_no_alarm(engine: Engine, home: Path) -> None:
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        for kind in ("scheduler", "dag_processor", "worker"):
            add_instance(connection, home, kind, pid=os.getpid())
        store_dag(connection, "one", now)
        start_run(connection, "one", now, {"a": "running", "b": None, "c": None})
    report = examined()
    assert set(verdicts(report).values()) <= {"advice"}, report
    assert report.exit_code == 0


def test_planted_faults_are_found(engine: Engine, home: Path) -> None:
    now = datetime.now(UTC)
    old = now - timedelta(days=200)
    (home / "opskit.toml").write_text('[deploy.groups]\nworkers = ["w1"]\n')
    (home / "fernet.key").write_text("A" * 43 + "=\n")
    (home / "fernet.key").chmod(0o644)
    os.utime(home / "fernet.key", (old.timestamp(), old.timestamp()))
    (home / "dags" / "left.py").write_text("# a DAG file without its DAG\n")
    stale = [("dags_drift", 5.0), ("permissions_fix", 3.0), ("watchdog", 0.0), ("db_clean", 12.0)]
    for verb, code in stale:
        at = (now - timedelta(hours=2)).timestamp()
        samples = {f"opskit_{verb}_last_run_timestamp_seconds": at, f"opskit_{verb}_exit_code": code}
        metrics.write(
            home / "metrics" / f"opskit_{verb}.prom", {name: {name: value} for name, value in samples.items()}
        )
    (home / "run").mkdir()
    pause = Pause("ann", old.isoformat(), None, "the old work")
    (home / "run" / "paused").write_text(json.dumps(asdict(pause)))
    assert read_pause(home / "run") == pause
    with transaction(engine) as connection:
        add_instance(connection, home, "scheduler", pid=2**22 - 3)
        add_instance(connection, home, "worker", pid=os.getpid(), version="0.9")
        for dag_id in ("old", "stranded", "left", "lost", "waits"):
            store_dag(connection, dag_id, now)
        start_run(connection, "old", old, {"a": "success", "b": "success", "c": "success"}, state="success")
        stranded = start_run(connection, "stranded", old, {"a": None, "b": None, "c": None})
        connection.execute(update(dag_run).where(dag_run.c.id == stranded.id).values(queued_at=old))
        connection.execute(update(dag).where(dag.c.dag_id == "stranded").values(is_paused=True))
        connection.execute(update(dag).where(dag.c.dag_id == "left").values(is_active=False))
        start_run(connection, "lost", now, {"a": "success", "b": "failed", "c": "failed"}, state="failed")
        connection.execute(
            update(task_instance).where(task_instance.c.state == "failed").values(reason="worker lost: w")
        )
        connection.execute(update(task_instance).values(hostname=socket.gethostname()))
        runs.trigger(connection, "waits", old)
        connection.execute(update(dag_run).where(dag_run.c.dag_id == "waits").values(queued_at=old))
        connection.execute(update(pool).values(used_slots=pool.c.slots))
        connection.execute(update(dag_file).where(dag_file.c.path == "lost.py").values(import_error="SyntaxError: no"))
        connection.execute(insert(variable).values(key="v", val="not a token", is_encrypted=True))
        home_rows = connection.execute(select(instance.c.home)).scalars().all()
    assert set(home_rows) == {str(home)}
    found = verdicts(examined())
    assert set(found) >= {
        *("stuck-tasks", "idle-scheduler", "lost-attempts", "metastore-size", "upgrade", "disk", "backup", "same-code"),
        *("fresh-dags", "vanished-dags", "maintenance", "alerts", "metrics", "logs", "secrets", "watchdog"),
    }
    assert {found[name] for name in ("idle-scheduler", "backup", "same-code", "secrets")} == {"critical"}


def test_sessions_that_wait_for_a_lock_are_named(
    engine: Engine, metastore_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if metastore_url.startswith("sqlite"):
        pytest.skip("SQLite has no sessions to look at")
    monkeypatch.setattr(diagnosis, "_LONG_WAIT_SECONDS", -1)
    monkeypatch.setattr(diagnosis, "_LONG_TRANSACTION_SECONDS", -1)
    locked, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction(engine) as connection:
            connection.execute(update(pool).values(slots=1))
            locked.set()
            release.wait(30)

    def wait() -> None:
        with transaction(engine) as connection:
            connection.execute(update(pool).values(slots=2))

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    threads[0].start()
    assert locked.wait(20)
    threads[1].start()
    try:

        def waits() -> list[str]:
            with reading(engine) as connection:
                return diagnosis.long_lock_waits(connection)

        # InnoDB answers from a copy as long as somebody has asked within 0.1 s.
        assert len(wait_until(waits, every=0.25, what="a session that waits for a lock")) == 1
        with reading(engine) as connection:
            assert len(diagnosis.long_transactions(connection)) >= 1
            used, limit = diagnosis.connection_counts(connection)
            assert used is not None
            assert limit is not None
            assert 3 <= used <= limit
            assert (diagnosis.size_bytes(connection) or 0) > 10_000
            assert connection.execute(text("SELECT 1")).scalar() == 1
    finally:
        release.set()
        for thread in threads:
            thread.join()


def test_what_does_not_answer_is_left_out(engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hang(*_: object) -> None:
        never.wait(60)

    monkeypatch.setattr("opskit.platforms.core.diagnosis.CoreDiagnosis.store", hang)
    try:
        report = examine(platforms.find(settings.load()), datetime.now(UTC), seconds=2.0)
    finally:
        never.set()
    unknown = {finding.name: finding.evidence for finding in report.findings if finding.verdict == "unknown"}
    assert set(unknown) == {"metastore-size", "connections", "locks"}
    assert "no answer" in unknown["locks"][0]


def test_the_command_answers_while_the_database_is_away(opskit: Opskit, home: Path) -> None:
    # The TEST-NET address swallows everything: whoever waits for it, waits long.
    away = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": "postgresql://opskit@192.0.2.1/opskit"}
    done = opskit("doctor", "--output", "json", env=away, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 4
    by_name = {finding["name"]: finding for finding in report["findings"]}
    assert by_name["connections"]["verdict"] == "unknown"
    assert by_name["alerts"]["verdict"] == "advice"
