"""`opskit db clean` on the three databases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from opskit import config, platforms
from opskit.core.metastore import audit, space
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_run, task_instance, xcom
from opskit.errors import ConfigError, GuardRefused, LockHeld, MetastoreUnavailable
from opskit.ops import db_clean
from opskit.ops.db_clean_archive import Wanted, query
from opskit.ops.progress import Progress
from opskit.platforms.base import Platform
from opskit.system import encryption
from opskit.system.folder_store import FolderStore
from opskit.system.locks import locked
from tests.metastore_rows import store_dag

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
    assert report.done is not None and report.done.rows == {"dag_run": 5, "task_instance": 5, "xcom": 5}
    again = db_clean.clean(cluster, now=NOW)
    assert again.done is not None and again.done.rows == {}


def test_a_dry_run_counts_what_a_real_one_removes(cluster: Platform) -> None:
    for days in (1, 100, 110, 120):
        add_run(cluster, days)
    dry = db_clean.clean(cluster, now=NOW, dry_run=True)
    assert len(run_ids(cluster)) == 4
    assert dry.plan is not None and dry.done is None
    real = db_clean.clean(cluster, now=NOW)
    assert real.done is not None
    assert {rows.table: rows.rows for rows in dry.plan.rows} == real.done.rows


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
    assert report["done"]["rows"]["dag_run"] == 2
    assert "nothing that ended before" in opskit("db", "clean").stdout


def configured(platform: Platform, monkeypatch: pytest.MonkeyPatch, toml: str) -> Platform:
    (platform.config.home / "opskit.toml").write_text(toml)
    return platforms.find(config.load())


def test_ages_may_differ_by_dag_state_and_table(cluster: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    for dag_id in ("tmp_a", "billing", "other"):
        for days in (20, 110, 500):
            for state in ("success", "failed"):
                add_run(cluster, days + (state == "failed") / 10, state, dag_id=dag_id)
        add_run(cluster, 1, dag_id=dag_id)
    rules = """
    [cleanup]
    max_age_days = 90
    states = {failed = 365}
    tables = {xcom = 10}
    [cleanup.dags]
    "tmp_*" = 7
    billing = {success = 400}
    """
    place = configured(cluster, monkeypatch, rules)
    dry = db_clean.clean(place, now=NOW, dry_run=True)
    report = db_clean.clean(place, now=NOW)
    assert report.done is not None and dry.plan is not None
    # tmp_a: all but the young one; billing: what is older than 400 and 365 days; other: 90 and 365 days.
    assert report.done.rows["dag_run"] == 6 + 2 + 3
    assert report.done.rows["xcom"] == 6 * 3
    planned: dict[str, int] = {}
    for one in dry.plan.rows:
        planned[one.table] = planned.get(one.table, 0) + one.rows
    assert planned == report.done.rows


def test_runs_of_paused_and_backfilling_dags_stay_and_the_plan_says_so(
    cluster: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(cluster.config)
    with transaction(engine) as connection:
        store_dag(connection, "asleep")
        store_dag(connection, "named")
        connection.execute(update(dag).values(is_paused=True))
    for number, dag_id in enumerate(("asleep", "named", "busy")):
        for days in (1, 100, 110):
            add_run(cluster, days + number / 10, dag_id=dag_id)
    add_run(cluster, 0.5, "running", dag_id="busy")
    with transaction(engine) as connection:
        connection.execute(update(dag_run).where(dag_run.c.state == "running").values(run_type="backfill"))
    engine.dispose()
    place = configured(cluster, monkeypatch, "[cleanup.dags]\nnamed = 50\n")
    dry = db_clean.clean(place, now=NOW, dry_run=True)
    assert dry.plan is not None
    assert dry.plan.kept == {"of a paused DAG": 2, "of a DAG with an unfinished backfill": 2}
    report = db_clean.clean(place, now=NOW)
    assert report.done is not None and report.done.rows["dag_run"] == 2
    assert len(run_ids(place)) == 8


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[cleanup.tables]\ntask_instance = 3", "task_instance"),
        ("[cleanup.states]\nrunning = 3", "running"),
        ('[cleanup.dags]\nx = "3 days"', "cleanup.dags.x"),
    ],
)
def test_rules_that_can_not_be_followed_are_refused(home: Path, toml: str, says: str) -> None:
    (home / "opskit.toml").write_text(toml)
    with pytest.raises(ConfigError, match=says):
        db_clean.policy(config.load())


@pytest.mark.parametrize("encrypted", [False, True])
def test_rows_are_archived_and_proven_before_they_go_and_found_again(
    cluster: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encrypted: bool
) -> None:
    identity, recipient = encryption.new_identity()
    recipients = f'archive_recipients = ["{recipient}"]' if encrypted else ""
    place = configured(cluster, monkeypatch, f'[cleanup]\narchive_to = "{tmp_path}/archive"\n{recipients}\n')
    gone = [add_run(cluster, days, dag_id=dag_id) for dag_id, days in (("a", 100), ("a", 110), ("b", 101), ("b", 111))]
    for dag_id in ("a", "b"):
        add_run(cluster, 1, dag_id=dag_id)
    report = db_clean.clean(place, now=NOW)
    assert report.done is not None and report.done.rows == {"dag_run": 4, "task_instance": 4, "xcom": 4}
    (chunk,) = report.archived
    assert {name: one.rows for name, one in chunk.tables.items()} == report.done.rows
    keys = (identity,) if encrypted else ()
    found = query(place.config, Wanted(), identities=keys)
    assert sorted(row["run_id"] for row in found) == sorted(gone)
    (value,) = query(place.config, Wanted("xcom", dag="a", run_id=gone[0]), identities=keys)
    assert (value["value"], value["dag_id"]) == ("1", "a")
    assert query(place.config, Wanted(since=NOW - timedelta(days=105)), identities=keys) != found
    if encrypted:
        with pytest.raises(GuardRefused):
            query(place.config, Wanted())
        stored = b"".join(path.read_bytes() for path in (tmp_path / "archive").rglob("*.age"))
        assert gone[0].encode() not in stored


def test_nothing_goes_that_could_not_be_archived(
    cluster: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = configured(cluster, monkeypatch, f'[cleanup]\narchive_to = "{tmp_path}/archive"\n')
    for days in (1, 100):
        add_run(cluster, days)
    real = FolderStore.get

    def damaged(self: FolderStore, key: str) -> Iterator[bytes]:
        for chunk in real(self, key):
            yield bytes([chunk[0] ^ 1]) + chunk[1:]

    monkeypatch.setattr(FolderStore, "get", damaged)
    report = db_clean.clean(place, now=NOW)
    assert report.done is not None and list(report.done.failed) == ["dag_run"]
    assert report.done.rows == {} and len(run_ids(place)) == 2
    monkeypatch.undo()
    monkeypatch.setenv("OPSKIT_HOME", str(place.config.home))


def test_the_command_reads_the_archive(
    cluster: Platform, tmp_path: Path, opskit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for days in (1, 100, 110):
        add_run(cluster, days)
    environ = {"OPSKIT__CLEANUP__ARCHIVE_TO": str(tmp_path / "archive")}
    assert "archived 6 rows" in opskit("db", "clean", env=environ).stdout
    rows = json.loads(opskit("history", "query", "--dag", "d*", "-o", "json", env=environ).stdout)
    assert len(rows) == 2
    missing = opskit("history", "query", check=False)
    assert (missing.returncode, "archive_to" in missing.stderr) == (2, True)


def test_a_deadline_that_comes_first_is_no_success(
    cluster: Platform, opskit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for days in (1, 100, 110):
        add_run(cluster, days)
    done = opskit("db", "clean", "--deadline", "0s", check=False)
    assert (done.returncode, "the time was up" in done.stderr) == (4, True)
    assert len(run_ids(cluster)) == 3
    assert opskit("db", "clean", "--deadline", "soon", check=False).returncode == 2


def test_one_clean_up_at_a_time_whatever_the_host(cluster: Platform) -> None:
    add_run(cluster, 1)
    engine = open_engine(cluster.config)
    if engine.dialect.name == "sqlite":
        with locked(cluster.config.run_folder, "db-clean"), pytest.raises(LockHeld):
            db_clean.clean(cluster, now=NOW)
    else:
        with space.single_flight(engine), pytest.raises(LockHeld):
            db_clean.clean(cluster, now=NOW)
    engine.dispose()
    assert db_clean.clean(cluster, now=NOW).is_complete
