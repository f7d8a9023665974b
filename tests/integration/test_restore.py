"""Restores and drills on SQLite, PostgreSQL and MariaDB: whole ones, and what they leave behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from opskit.core.metastore import tables
from opskit.core.metastore.engine import open_engine, reading
from opskit.errors import GuardRefused, NotFound, OpskitError, VerificationFailed
from opskit.ops import restore as restore_ops
from opskit.ops import restore_kept as kept_ops
from opskit.ops.backup_catalog import find, list_backups
from opskit.ops.drill import NotProven, drill, receipts
from opskit.platforms.receipts import Receipt, seal, unseal
from opskit.system.object_store import ObjectStore
from tests.backup_site import Site, now
from tests.sample_metastore import drop_kept, everything


def reseal(store: ObjectStore, identifier: str, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that lies, with a good seal."""
    document = unseal(b"".join(store.get(f"{identifier}/manifest.json")), "it")
    change(document)
    store.put(f"{identifier}/manifest.json", [seal(document)])
    store.delete(f"{identifier}/drill.json")


def test_a_drill_finds_a_copy_that_differs_from_what_was_counted(site: Site) -> None:
    identifier = site.backup().backup_id
    whole = b"".join(site.store.get(f"{identifier}/manifest.json"))

    def rows(document: dict[str, Any]) -> None:
        document["tables"]["dag_run"]["rows"] += 1

    def content(document: dict[str, Any]) -> None:
        document["tables"]["xcom"]["hash"] = "0" * 32

    def revision(document: dict[str, Any]) -> None:
        document["source"]["revision"] = "0000"

    def table(document: dict[str, Any]) -> None:
        document["tables"]["dag_of_nobody"] = {"rows": 0, "hash": "0"}

    def small_set(document: dict[str, Any]) -> None:
        small = json.loads(b"".join(site.store.get(f"{identifier}/config.json")))
        small["variables"].pop()
        stored = site.store.put(f"{identifier}/config.json", [json.dumps(small).encode()])
        for item in document["objects"]:
            if item["key"] == "config.json":
                item.update(size_bytes=stored.size_bytes, sha256=stored.sha256)
                item.update(plain_size_bytes=stored.size_bytes, plain_sha256=stored.sha256)

    for lie in (rows, content, revision, table, small_set):
        site.store.put(f"{identifier}/manifest.json", [whole])
        reseal(site.store, identifier, lie)
        with pytest.raises(NotProven) as failed:
            drill(site.platform, site.store, find(site.store, identifier), now())
        assert len(failed.value.report.problems) == 1, lie


def test_a_restore_gives_equal_rows(site: Site) -> None:
    if site.url.startswith("postgres"):
        site.write(text("SELECT setval(pg_get_serial_sequence('dag_run', 'id'), 12)"))  # the rows came with their ids
    before = everything(site.url)
    site.backup()
    for table in (tables.task_instance, tables.xcom, tables.variable, tables.connection):
        site.write(table.delete())
    report = site.restore()
    after = everything(site.url)
    untouched = ("dag_run", "xcom", "variable", "connection", "dag_version", "task_attempt", "dag_file", "slot_pool")
    for name in untouched:
        assert after[name] == before[name], name
    finished = [row for row in before["task_instance"] if row["state"] in (None, "success")]
    assert [row for row in after["task_instance"] if row in finished] == finished
    assert len(after["task_instance"]) == len(before["task_instance"])
    assert report.way_back == ("opskit restore undo",) and report.next_backup == ""
    assert [row["event"] for row in after["log"]] == ["restore"]
    # Sequences stand behind the rows that came back.
    with_id = {"dag_id": "d", "run_id": "next", "run_type": "manual", "state": "success", "conf": "{}"}
    dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "queued_at"), now())
    site.write(insert(tables.dag_run).values(**with_id, **dates))


def test_the_restored_schema_is_the_one_that_migrations_make(site: Site, databases: Any) -> None:
    kind = site.platform.metastore.describe().kind
    fresh = shape(databases.migrated(kind))
    site.backup()
    site.restore()
    assert shape(site.url) == fresh


def shape(url: str) -> Any:
    """Tables, columns, keys and indexes of a database."""
    from sqlalchemy import inspect

    engine = open_engine(url)
    try:
        inspector = inspect(engine)
        return {
            table: (
                [{**column, "type": str(column["type"])} for column in inspector.get_columns(table)],
                inspector.get_pk_constraint(table),
                sorted(inspector.get_foreign_keys(table), key=str),
                sorted(inspector.get_indexes(table), key=str),
                sorted(inspector.get_unique_constraints(table), key=str),
            )
            for table in sorted(inspector.get_table_names())
        }
    finally:
        engine.dispose()


def test_running_state_is_made_consistent_after_a_restore(site: Site) -> None:
    site.backup()
    site.write(update(tables.dag).values(lease_epoch=50))  # claims after the backup
    report = site.restore()
    rows = everything(site.url)
    instances = {row["task_id"]: row for row in rows["task_instance"] if row["dag_run_id"] == 1}
    assert [instances[f"task_{n}"]["state"] for n in range(5)] == [
        None,
        "up_for_retry",  # was queued: tried again, and its retries are all left
        "up_for_retry",  # was running with a retry left
        "failed",  # was running without
        "success",
    ]
    assert instances["task_1"]["max_tries"] == 1 and instances["task_2"]["max_tries"] == 1
    assert "was running when the backup was taken" in instances["task_3"]["reason"]
    assert all(row["lease_owner"] is None and row["lease_epoch"] > 50 for row in rows["dag"])
    assert all(row["revision"] == 4 and row["wake_at"] is not None for row in rows["dag"])
    assert all(row["ended_at"] is not None for row in rows["instance"])
    assert report.changes == {
        "attempts_retried": 2,
        "attempts_failed": 1,
        "instances_ended": 1,
        "dags_released": 3,
        "dags_kept_paused": 0,
    }


def test_an_attempt_whose_result_waits_is_left_to_its_result(small_site: Site) -> None:
    payload = json.dumps({"key": [1, "task_3", -1, 1], "state": "success"})
    small_site.write(insert(tables.attempt_result).values(dag_id="d", worker_id="w", payload=payload, created_at=now()))
    small_site.backup()
    small_site.restore()
    rows = everything(small_site.url)["task_instance"]
    assert [row["state"] for row in rows if row["dag_run_id"] == 1 and row["task_id"] == "task_3"] == ["running"]


def test_backups_still_work_after_a_restore(site: Site) -> None:
    site.backup()
    site.restore()
    assert site.backup().verified


def test_a_restore_is_refused_while_a_scheduler_has_a_fresh_heartbeat(site: Site) -> None:
    site.backup()
    site.write(update(tables.instance).values(heartbeat_at=now(), ended_at=None))
    before = everything(site.url)
    with pytest.raises(GuardRefused, match=r"in use by scheduler \(pid 1 on elsewhere") as refused:
        site.restore()
    assert refused.value.exit_code == 16
    assert everything(site.url) == before


def test_a_restore_is_refused_while_a_process_of_this_home_lives(small_site: Site) -> None:
    from opskit.system.daemon import write_pid_file

    small_site.backup()
    path = write_pid_file(small_site.config.run_folder, "worker", "me", "now")
    with pytest.raises(GuardRefused, match="in use by worker"):
        small_site.restore()
    path.unlink()
    small_site.restore()


def test_a_restore_is_refused_while_somebody_else_is_connected(site: Site) -> None:
    site.backup()
    engine = open_engine(site.url)
    with reading(engine) as connection:
        connection.execute(select(func.count()).select_from(tables.dag)).scalar()
        with pytest.raises(GuardRefused, match="in use"):
            site.restore()
    engine.dispose()
    before = everything(site.url)
    assert len(before["xcom"]) == 60


def test_a_restore_that_comes_back_different_leaves_the_live_metastore_alone(site: Site) -> None:
    identifier = site.backup().backup_id
    reseal(site.store, identifier, lambda document: document["tables"]["dag"].update(rows=9))
    before = everything(site.url)
    with pytest.raises(VerificationFailed, match="came back different"):
        site.restore(identifier)
    assert everything(site.url) == before


def test_a_key_that_can_not_read_the_secrets_is_told_before_anything_happens(site: Site) -> None:
    from cryptography.fernet import Fernet

    identifier = site.backup().backup_id
    (site.home / "fernet.key").write_bytes(Fernet.generate_key())
    before = everything(site.url)
    with pytest.raises(GuardRefused, match="the present Fernet key can't read"):
        site.restore(identifier)
    assert everything(site.url) == before
    with pytest.raises(NotProven, match=r"none of its .* secrets can be decrypted"):
        drill(site.platform, site.store, find(site.store, identifier), now())


def test_a_restore_into_another_database_leaves_the_live_one_alone(
    site: Site, databases: Any, request: pytest.FixtureRequest
) -> None:
    before = everything(site.url)
    site.backup()
    kind = site.platform.metastore.describe().kind
    other = databases.empty(kind)
    site.restore(url=other)
    assert without_audit(everything(site.url)) == without_audit(before)
    assert everything(other)["xcom"] == before["xcom"]
    drop_kept(other)


def test_a_restore_onto_a_machine_without_a_metastore_works(site: Site, databases: Any) -> None:
    before = everything(site.url)
    site.backup()
    databases.drop(site.url)
    databases._made.append(site.url)
    report = site.restore()
    assert everything(site.url)["connection"] == before["connection"]
    assert report.way_back == () and report.kept == ""


@pytest.mark.parametrize("live", ["damaged", "lost"])
def test_a_log_left_by_a_damaged_or_lost_file_is_not_played_into_the_restored_one(small_site: Site, live: str) -> None:
    path = Path(small_site.url.removeprefix("sqlite:///"))
    before = everything(small_site.url)
    small_site.backup()
    # Frames of a later state, in a log that outlives its file.
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("PRAGMA wal_autocheckpoint = 0")
    holder.execute("UPDATE xcom SET value = 'from the log'")
    holder.execute("UPDATE dag_run SET note = 'from the log'")
    log = path.with_name(path.name + "-wal")
    frames = log.read_bytes()
    holder.close()
    assert frames
    if live == "lost":
        path.unlink()
    else:
        path.write_bytes(b"this is no database" * 500)
    log.write_bytes(frames)
    small_site.restore()
    after = everything(small_site.url)
    assert after["xcom"] == before["xcom"] and after["dag_run"] == before["dag_run"]


def test_a_plan_changes_nothing_and_tells_what_forbids_it(site: Site) -> None:
    site.backup()
    site.write(update(tables.instance).values(heartbeat_at=now(), ended_at=None))
    before = everything(site.url)
    planned = restore_ops.plan(site.platform, site.store, find(site.store, "latest"), now())
    assert len(planned.refusals) == 1 and planned.secrets > 10 and planned.expected_seconds
    assert everything(site.url) == before


def test_a_backup_of_another_kind_of_database_is_refused(small_site: Site, databases: Any) -> None:
    small_site.backup()
    with pytest.raises(GuardRefused, match="was taken from sqlite"):
        small_site.restore(url=databases.empty("postgresql"))


def test_databases_of_killed_drills_and_restores_are_removed(site: Site) -> None:
    metastore = site.platform.metastore
    with metastore.throwaway() as target:
        left = target.url
    kind = metastore.describe().kind
    if kind == "sqlite":
        folder = site.config.run_folder / "scratch" / "drill-0123"
        folder.mkdir(parents=True)
        (folder / "in-use.lock").touch()
        (folder / "drill.db").write_bytes(b"x")
        site.backup()
        assert not folder.exists()
        return
    engine = open_engine(site.url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = left.rpartition("/")[2].partition("?")[0]
        quote = '"' if kind == "postgresql" else "`"
        connection.exec_driver_sql(f"CREATE DATABASE {quote}{name}{quote}")
        site.backup()
        names = connection.exec_driver_sql(
            "SELECT datname FROM pg_database" if kind == "postgresql" else "SHOW DATABASES"
        ).scalars()
        assert name not in set(names)
    engine.dispose()


def test_a_drill_at_work_is_not_taken_for_a_leftover(site: Site) -> None:
    metastore = site.platform.metastore
    with metastore.throwaway() as first, metastore.throwaway() as second:
        assert first.url != second.url
        if metastore.describe().kind != "sqlite":
            engine = open_engine(first.url)
            with engine.connect() as connection:
                assert connection.exec_driver_sql("SELECT 1").scalar() == 1
            engine.dispose()


def without_audit(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in rows.items() if name != "log"}


# --- undo and commit ---


def test_a_restore_is_undone_redone_and_committed(site: Site) -> None:
    site.backup()
    site.write(update(tables.dag_run).values(note="after the backup"))
    live = everything(site.url)
    report = site.restore()
    restored = everything(site.url)
    assert without_audit(restored) != without_audit(live)
    assert [one.name for one in kept_ops.status(site.platform).kept] == [report.kept]

    undone = kept_ops.undo(site.platform, now())
    assert undone.put_back == report.kept and len(undone.kept) == 1
    assert without_audit(everything(site.url)) == without_audit(live)
    assert [row["event"] for row in everything(site.url)["log"]][-1] == "restore undo"
    kept_ops.undo(site.platform, now())
    assert without_audit(everything(site.url)) == without_audit(restored)

    planned = kept_ops.commit(site.platform, now(), dry_run=True)
    assert len(planned.removed) == 1 and kept_ops.status(site.platform).kept
    assert kept_ops.commit(site.platform, now()).removed == planned.removed
    assert kept_ops.status(site.platform).kept == ()
    assert kept_ops.commit(site.platform, now()).removed == ()
    with pytest.raises(NotFound, match="nothing to undo"):
        kept_ops.undo(site.platform, now())
    assert without_audit(everything(site.url)) == without_audit(restored)


def test_an_undo_is_refused_while_a_scheduler_lives_or_somebody_is_connected(small_site: Site) -> None:
    site = small_site
    site.backup()
    site.restore()
    site.write(update(tables.instance).values(heartbeat_at=now(), ended_at=None))
    before = everything(site.url)
    with pytest.raises(GuardRefused, match="in use by scheduler"):
        kept_ops.undo(site.platform, now())
    site.write(update(tables.instance).values(ended_at=now()))
    engine = open_engine(site.url)
    with reading(engine) as connection:
        connection.execute(select(func.count()).select_from(tables.dag)).scalar()
        with pytest.raises(GuardRefused, match="in use"):
            kept_ops.undo(site.platform, now())
    engine.dispose()
    assert without_audit(everything(site.url))["xcom"] == before["xcom"]
    assert kept_ops.undo(site.platform, now()).put_back


def test_what_a_killed_exchange_leaves_is_not_taken_for_a_kept_metastore(site: Site) -> None:
    kind = site.platform.metastore.describe().kind
    name = site.url.rpartition("/")[2]
    if kind == "sqlite":
        path = Path(site.url.removeprefix("sqlite:///"))
        left = path.with_name(f"{path.name}_before_20200101_000000")
        left.hardlink_to(path)
    elif kind == "mariadb":
        run_on_server(site.url, f"CREATE DATABASE `{name}_before_20200101_000000`")
    assert kept_ops.status(site.platform).kept == ()
    site.backup()
    site.restore()
    assert len(kept_ops.status(site.platform).kept) == 1
    if kind == "sqlite":
        assert not left.exists()


def run_on_server(url: str, statement: str) -> None:
    engine = open_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_dag_that_is_paused_now_stays_so_unless_it_is_told_otherwise(small_site: Site) -> None:
    small_site.backup()
    small_site.write(update(tables.dag).values(is_paused=True))
    report = small_site.restore()
    assert report.changes["dags_kept_paused"] == 2
    assert all(row["is_paused"] for row in everything(small_site.url)["dag"])
    small_site.restore(unpause=True)
    assert [row["is_paused"] for row in everything(small_site.url)["dag"]].count(True) == 1


def test_a_deferred_task_is_tried_again_after_a_restore(small_site: Site) -> None:
    waiting = tables.task_instance.c.task_id == "task_4"
    small_site.write(update(tables.task_instance).where(waiting).values(state="deferred"))
    small_site.backup()
    small_site.restore()
    rows = [row for row in everything(small_site.url)["task_instance"] if row["task_id"] == "task_4"]
    assert {row["state"] for row in rows} == {"up_for_retry"}


def test_no_room_for_a_copy_is_told_before_anything_happens(small_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    small_site.backup()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1, 1, 10))
    with pytest.raises(OpskitError, match="0 MiB free"):
        small_site.restore()
    monkeypatch.undo()
    assert kept_ops.status(small_site.platform).kept == ()


def test_a_plan_counts_the_rows_of_each_table_now_and_then(site: Site) -> None:
    site.backup()
    site.write(tables.xcom.delete().where(tables.xcom.c.dag_run_id == 1))
    planned = restore_ops.plan(site.platform, site.store, find(site.store, "latest"), now())
    counts = {one.table: (one.rows_now, one.rows_then) for one in planned.tables}
    assert counts["xcom"] == (55, 60) and counts["dag_run"] == (12, 12)
    assert "proven by a drill" in planned.proof and "signed" in planned.proof
    assert planned.refusals == ()


# --- receipts ---


def test_a_receipt_that_was_changed_is_found_to_be_forged(small_site: Site) -> None:
    identifier = small_site.backup().backup_id
    platform, store = small_site.platform, small_site.store
    [shown] = receipts(platform, list_backups(store))
    assert (shown.backup_id, shown.ok, shown.genuine) == (identifier, True, True)

    document = unseal(b"".join(store.get(f"{identifier}/drill.json")), "it")
    document["seconds"] = 0.001
    store.put(f"{identifier}/drill.json", [seal(document)])  # a seal anyone can make
    assert list_backups(store)[0].state == "verified"
    assert [one.genuine for one in receipts(platform, list_backups(store))] == [False]
    assert "FORGED" in restore_ops.plan(platform, store, find(store, identifier), now()).proof

    own = Receipt.parse((small_site.home / "receipts" / f"{identifier}.json").read_bytes(), "own")
    assert own.seconds != 0.001 and own.phases.keys() == {"make database", "load", "check", "compare"}
