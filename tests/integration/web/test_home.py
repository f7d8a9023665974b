"""The first page over the real metastore, and the pause of all DAGs by it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, insert, update

from opskit.core.metastore import audit, dags, instances
from opskit.core.metastore.engine import Engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_file, instance, task_instance
from opskit.telemetry import reports
from opskit.telemetry.reports import KeptReport
from opskit.web import topics
from opskit.web.identity import ROLES, Who
from opskit.web.overview import look
from opskit.web.store import Store
from tests.databases import Databases
from tests.metastore_rows import start_run, store_dag
from tests.operations_site import OperationsSite, operations_site


@pytest.fixture
def site(home: Path, metastore_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsSite]:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", metastore_url)
    with operations_site(home) as made:
        fill(made.engine)
        yield made


@pytest.fixture
def quick_site(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsSite]:
    """On SQLite: for what does not depend on the database."""
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", databases.migrated("sqlite"))
    with operations_site(home) as made:
        fill(made.engine)
        yield made


def fill(engine: Engine) -> None:
    """Two DAGs that run and one that is paused; a failed run, a running one, a broken file, a scheduler, a worker."""
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        for dag_id in ("orders", "reports", "paused"):
            store_dag(connection, dag_id, now)
        dags.set_paused(connection, ["paused"], True, now)
        connection.execute(update(dag).where(dag.c.dag_id == "reports").values(next_run_after=now + timedelta(hours=2)))
        failed = {"a": "success", "b": "failed", "c": "upstream_failed"}
        start_run(connection, "orders", now - timedelta(hours=3), failed, state="failed")
        connection.execute(
            update(task_instance).where(task_instance.c.state == "failed").values(reason="worker lost: w")
        )
        start_run(connection, "orders", now - timedelta(days=3), failed, state="failed")
        start_run(connection, "reports", now - timedelta(minutes=5), {"a": "running"}, state="running")
        broken = {"path": "bad.py", "path_hash": "0", "content_hash": "0", "parsed_at": now, "parse_seconds": 0.1}
        connection.execute(insert(dag_file).values(**broken, import_error="Traceback\nImportError: no module <b>x</b>"))
        for kind in ("scheduler", "worker", "dag_processor"):
            start(connection, kind, now)
        backup = {"backup_id": "20260301T023000Z-0a1b2c3d", "verified": True}
        audit.write(connection, "backup", now - timedelta(hours=1), extra=backup)


def start(connection: instances.Connection, kind: str, now: datetime) -> None:
    instances.register(
        connection, instance_id=kind, kind=kind, hostname="node1", home="/", pid=1, pid_started=0.0, now=now
    )


def text_of(page: str) -> str:
    """What one reads: notices and the page itself."""
    body = re.sub(r"<[^>]+>", " ", page[page.index('id="flash"') : page.index("</main>")])
    return re.sub(r"\s+([.,)]|\s)", r"\1", re.sub(r"\s+", " ", html.unescape(body)))


def test_one_look_shows_what_failed_what_runs_and_what_is_broken(site: OperationsSite) -> None:
    with site.as_role("Admin") as client:
        page = client.get("/")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "Cluster home" in text
    assert "✕ Act now The newest proven backup was taken" in text
    assert "1 run failed in the last 24 hours" in text
    assert "1 DAG file can't be loaded" in text
    assert "ImportError: no module &lt;b&gt;x&lt;/b&gt;" in page.text
    assert "worker lost: w" in text
    assert page.text.count("/tasks/b?tab=log") == 1  # the cause, and not what only waited for it
    assert "1 scheduler, 1 worker" in text
    assert "Next runs reports in 1" in text
    assert "<script" in page.text
    assert " style=" not in page.text
    assert 'data-live-topic="home"' in page.text
    assert len(page.content) < 200_000


def test_when_the_last_scheduler_falls_silent_the_page_says_so_first(quick_site: OperationsSite) -> None:
    before = datetime.now(UTC) - timedelta(minutes=7)
    shown = fingerprint(quick_site.engine)
    assert fingerprint(quick_site.engine) == shown
    with transaction(quick_site.engine) as connection:
        connection.execute(update(instance).where(instance.c.id == "scheduler").values(heartbeat_at=before))
    assert fingerprint(quick_site.engine) != shown  # open pages look again, although only time has passed
    with quick_site.as_role("Viewer") as client:
        text = text_of(client.get("/").text)
    assert "✕ Act now No scheduler runs: nothing starts (last seen 7 min ago), and 2 more things." in text
    assert "backup" not in text.lower()
    assert "Pause all" not in text


def fingerprint(engine: Engine) -> str:
    home = topics.read("home")
    with reading(engine) as connection:
        return topics.fingerprints(connection, [home])[home]


def test_the_page_asks_the_metastore_as_often_for_many_runs_as_for_few(quick_site: OperationsSite) -> None:
    store, who = Store(quick_site.config, quick_site.engine), Who("ann", ("Admin",), ROLES["Admin"])
    few = statements(quick_site.engine, store, who)
    with transaction(quick_site.engine) as connection:
        for number in range(30):
            at = datetime.now(UTC) - timedelta(minutes=number)
            start_run(connection, "orders", at, {"a": "failed"}, state="failed" if number % 2 else "running")
    assert statements(quick_site.engine, store, who) == few <= 16


def statements(engine: Engine, store: Store, who: Who) -> int:
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        look(store, who, datetime.now(UTC))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(seen)


def test_pausing_all_and_resuming_by_the_page_leaves_the_dags_as_they_were(site: OperationsSite) -> None:
    with site.as_role("User") as client:
        assert "3 DAGs, 1 paused" in text_of(client.get("/").text)
        text = text_of(client.post("/pause-all").text)
        assert "2 DAGs paused. What runs goes on to its end; nothing new starts." in text
        assert "2 DAGs stand still: user paused all of them" in text
        assert paused(site.engine) == ["orders", "paused", "reports"]
        text = text_of(client.post("/resume-all").text)
        assert "2 DAGs resumed: those that ran before, and no other." in text
        assert paused(site.engine) == ["paused"]
        again = client.post("/resume-all")
    assert again.status_code == 400
    assert "no DAGs were paused all at once" in again.text
    with reading(site.engine) as connection:
        lines = audit.read(connection, event="dags pause")
    assert [(line.owner, line.extra) for line in lines] == [
        ("user", {"by": "web", "all": True, "count": 2, "dags": ["orders", "reports"]})
    ]


def test_who_may_not_edit_dags_can_not_pause_them_all(quick_site: OperationsSite) -> None:
    with quick_site.as_role("Viewer") as client:
        assert client.post("/pause-all").status_code == 403
        assert client.post("/resume-all").status_code == 403
    assert paused(quick_site.engine) == ["paused"]


def paused(engine: Engine) -> list[str]:
    with reading(engine) as connection:
        return [one.dag_id for one in dags.list_dags(connection, paused=True)]


def test_a_backup_that_came_to_nothing_is_named_although_an_older_one_is_proven(quick_site: OperationsSite) -> None:
    now = datetime.now(UTC)
    with transaction(quick_site.engine) as connection:
        taken = {"backup_id": f"{now:%Y%m%dT%H%M%SZ}-0a1b2c3d", "verified": True}
        audit.write(connection, "backup", now - timedelta(minutes=5), extra=taken)
    full = KeptReport("backup", now, 1.0, 13, "the store is full", "node1", "opskit", None)
    reports.keep(quick_site.home, full)
    with quick_site.as_role("Op") as client:
        text = text_of(client.get("/").text)
    assert "The newest backup failed: the store is full" in text
    assert "newest proven backup was taken" not in text
