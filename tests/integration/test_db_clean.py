"""`opskit db clean` on the three databases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from opskit import config, platforms
from opskit.core.metastore import audit
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.core.metastore.tables import dag_run, task_instance, xcom
from opskit.errors import MetastoreUnavailable
from opskit.ops import db_clean
from opskit.ops.progress import Progress
from opskit.platforms.base import Platform

NOW = datetime.now(UTC)


@pytest.fixture
def cluster(home: object, metastore_url: str, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", metastore_url)
    return platforms.find(config.load())


def add_run(platform: Platform, days_ago: float, state: str = "success", dag_id: str = "d") -> str:
    """A run that ended so long ago, with one task instance and one XCom; its run_id."""
    at = NOW - timedelta(days=days_ago)
    run_id = f"manual__{at.isoformat()}"
    dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "queued_at"), at)
    engine = open_engine(platform.config)
    with transaction(engine) as connection:
        number = connection.execute(
            dag_run.insert().values(
                dag_id=dag_id,
                run_id=run_id,
                run_type="manual",
                state=state,
                end_date=at if state in ("success", "failed") else None,
                **dates,
            )
        ).inserted_primary_key[0]
        connection.execute(task_instance.insert().values(dag_run_id=number, task_id="t", map_index=-1, state=state))
        connection.execute(
            xcom.insert().values(
                dag_run_id=number, task_id="t", map_index=-1, key="return_value", value="1", created_at=at
            )
        )
    engine.dispose()
    return run_id


def run_ids(platform: Platform) -> set[str]:
    engine = open_engine(platform.config)
    with reading(engine) as connection:
        found = set(connection.execute(select(dag_run.c.run_id)).scalars())
        children = len(connection.execute(select(xcom)).all()), len(connection.execute(select(task_instance)).all())
    engine.dispose()
    assert children == (len(found), len(found))
    return found


def test_old_runs_go_with_all_that_is_theirs(cluster: Platform) -> None:
    for days in (100, 110, 120, 130, 140):
        add_run(cluster, days)
    young = {add_run(cluster, 80), add_run(cluster, 1)}
    report = db_clean.clean(cluster, now=NOW, batch_size=2)
    assert run_ids(cluster) == young
    assert report.removed == {"dag_run": 5, "task_instance": 5, "xcom": 5}
    again = db_clean.clean(cluster, now=NOW)
    assert (again.planned, again.removed) == ((), {})


def test_a_dry_run_counts_what_a_real_one_removes(cluster: Platform) -> None:
    for days in (1, 100, 110, 120):
        add_run(cluster, days)
    dry = db_clean.clean(cluster, now=NOW, dry_run=True)
    assert len(run_ids(cluster)) == 4
    assert dry.removed == {}
    real = db_clean.clean(cluster, now=NOW)
    assert {rows.table: rows.rows for rows in dry.planned} == real.removed


def test_unfinished_runs_and_the_newest_run_of_a_dag_stay(cluster: Platform) -> None:
    kept = {add_run(cluster, 300, "running"), add_run(cluster, 200), add_run(cluster, 500, "failed", dag_id="rare")}
    add_run(cluster, 400)  # the one before an unfinished run may be asked for by depends_on_past
    add_run(cluster, 450)
    db_clean.clean(cluster, now=NOW)
    assert kept < run_ids(cluster)
    assert len(run_ids(cluster)) == 4


def test_progress_and_an_audit_line_are_given(cluster: Platform) -> None:
    for days in (1, 100, 110, 120):
        add_run(cluster, days)
    told: list[Progress] = []
    db_clean.clean(cluster, now=NOW, batch_size=1, on_progress=told.append)
    assert [word.done for word in told][:3] == [3, 6, 9]
    assert {word.total for word in told} == {9}
    engine = open_engine(cluster.config)
    with reading(engine) as connection:
        (line,) = audit.read(connection, event="db clean")
    engine.dispose()
    assert line.extra["dag_run"] == 3


def test_a_metastore_without_tables_is_no_success(
    home: object, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", database_url)
    with pytest.raises(MetastoreUnavailable):
        db_clean.clean(platforms.find(config.load()), now=NOW)


def test_the_command_plans_and_removes(
    cluster: Platform, opskit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for days in (1, 100, 110):
        add_run(cluster, days)
    assert "nothing was removed: this is a dry run" in opskit("db", "clean", "--dry-run").stdout
    report = json.loads(opskit("db", "clean", "--output", "json").stdout)
    assert report["removed"]["dag_run"] == 2
    assert "nothing that ended before" in opskit("db", "clean").stdout
