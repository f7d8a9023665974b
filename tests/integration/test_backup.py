"""Backup, drill, verify, prune and restore on SQLite, PostgreSQL and MariaDB, into a folder and an S3 API."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from opskit import config as settings
from opskit import platforms
from opskit.core.metastore import tables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.errors import GuardRefused, LockHeld, OpskitError, VerificationFailed
from opskit.ops import backup as ops
from opskit.ops import restore as restore_ops
from opskit.ops.backup_catalog import Manifest, find, incomplete, list_backups
from opskit.ops.backup_prune import prune
from opskit.ops.drill import NotProven, drill
from opskit.ops.retention import Keep
from opskit.ops.verify import Damaged, verify
from opskit.platforms import Platform
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore, StoreError
from tests.sample_metastore import drop_kept, everything, fill

KEEP = Keep(7, 4, 6)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Site:
    """An installation with rows in its metastore, and a store for backups."""

    home: Path
    url: str
    environ: dict[str, str]

    @property
    def platform(self) -> Platform:
        return platforms.find(self.config)

    @property
    def config(self) -> settings.Config:
        return settings.load(self.home, self.environ)

    @property
    def store(self) -> ObjectStore:
        return ops.store_of(self.config)

    def backup(self, **options: Any) -> ops.BackupReport:
        return ops.take_backup(self.platform, self.store, options.pop("at", now()), keep=KEEP, **options)

    def restore(self, wanted: str = "latest", **options: Any) -> restore_ops.RestoreReport:
        return restore_ops.restore(self.platform, self.store, find(self.store, wanted), now(), **options)

    def write(self, statement: Any) -> None:
        engine = open_engine(self.url)
        try:
            with transaction(engine) as connection:
                connection.execute(statement)
        finally:
            engine.dispose()


def make_site(home: Path, url: str, to: str, endpoint_url: str = "", **more: str) -> Site:
    environ = {
        "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url,
        "OPSKIT__BACKUP__TO": to,
        "OPSKIT__BACKUP__ENDPOINT_URL": endpoint_url,
        "OPSKIT__BACKUP__PART_SIZE": "5",
        **more,
    }
    site = Site(home, url, environ)
    fill(url, encrypt=open_cipher(site.config).encrypt)
    return site


@pytest.fixture
def site(home: Path, metastore_url: str) -> Iterator[Site]:
    yield make_site(home, metastore_url, "{home}/backups")
    drop_kept(metastore_url)


@pytest.fixture(params=["folder", "s3"])
def site_anywhere(home: Path, metastore_url: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """On each kind of database, with a store of each kind."""
    if request.param == "folder":
        yield make_site(home, metastore_url, "{home}/backups")
    else:
        s3 = request.getfixturevalue("s3")
        yield make_site(home, metastore_url, f"s3://{s3.make_bucket()}/deep/prefix", s3.endpoint_url)
    drop_kept(metastore_url)


@pytest.fixture
def small_site(home: Path, databases: Any) -> Site:
    """On SQLite, for what does not depend on the database."""
    return make_site(home, databases.migrated("sqlite"), "{home}/backups")


def without_audit(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in rows.items() if name != "log"}


# --- taking and proving ---


def test_a_backup_is_proven_and_can_be_read_again(site_anywhere: Site) -> None:
    site = site_anywhere
    report = site.backup()
    assert report.verified and report.drill is not None and report.drill.ok
    assert report.drill.secrets_read > 10
    [listed] = list_backups(site.store)
    assert (listed.id, listed.state) == (report.backup_id, "verified")
    assert [one.ok for one in verify(site.store, [listed])] == [True]
    manifest = listed.usable()
    assert manifest.revision == "0001"
    assert manifest.tables["xcom"].rows == 12 * 5
    assert manifest.fernet_key_fingerprints == (open_cipher(site.config).fingerprint,)
    assert manifest.hash_text
    assert incomplete(site.store) == {} and site.store.stale_uploads() == []


def test_nothing_readable_of_a_secret_or_the_key_is_stored(site: Site) -> None:
    report = site.backup()
    [backup] = list_backups(site.store)
    manifest = b"".join(site.store.get(f"{report.backup_id}/manifest.json"))
    small = b"".join(site.store.get(f"{report.backup_id}/config.json"))
    key = (site.home / "fernet.key").read_bytes().strip()
    for content in (manifest, small):
        assert b"secret-" not in content and key not in content
    assert "opskit:opskit" not in manifest.decode()
    assert backup.usable().secrets > 10


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_the_password_of_the_database_is_not_on_a_command_line_nor_on_the_disk(
    home: Path, databases: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = databases.migrated(kind)
    if kind == "postgresql":
        url = url.replace("postgres@", "postgres:planted@")  # the server trusts everyone
    password = "planted" if kind == "postgresql" else "opskit"
    spied = tmp_path / "arguments"
    for name in ("pg_dump", "pg_restore", "mariadb-dump", "mariadb"):
        real = shutil.which(name)
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {spied}\nexec {real} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("opskit.system.programs._ELSEWHERE", {})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    make_site(home, url, "{home}/backups").backup()
    lines = [line for line in spied.read_text().splitlines() if line != "--version"]
    assert len(lines) == 2
    for line in lines:
        shown = line.replace("--user=opskit", "").replace("opskit_test", "").replace("opskit_drill", "")
        assert password not in shown.replace("opskit-home", "")
    if kind == "postgresql":
        written = [path for path in home.rglob("*") if path.is_file() and b"planted" in path.read_bytes()]
        assert written == []


def test_the_small_set_alone_is_backed_up_proven_and_restored(site: Site) -> None:
    before = everything(site.url)
    report = site.backup(tier="config")
    assert report.verified
    site.write(update(tables.connection).values(host="changed"))
    site.write(tables.variable.delete())
    site.write(update(tables.dag).values(is_paused=True))
    site.write(insert(tables.pool).values(pool="new", slots=3, used_slots=1))
    changes = site.restore(report.backup_id).changes
    after = everything(site.url)
    assert after["connection"] == before["connection"]
    assert after["variable"] == before["variable"]
    assert [row["is_paused"] for row in after["dag"]] == [row["is_paused"] for row in before["dag"]]
    assert {row["pool"] for row in after["slot_pool"]} == {"default_pool", "new"}  # nothing is deleted
    assert changes["variables"] == len(before["variable"]) and changes["pools"] == 0
    assert site.restore(report.backup_id).changes == {"connections": 0, "variables": 0, "pools": 0, "pauses": 0}


def test_a_dry_run_writes_nothing(site: Site) -> None:
    before = everything(site.url)
    report = site.backup(dry_run=True)
    assert report.backup_id == "" and len(report.planned) == 2
    assert list(site.store.objects()) == []
    assert everything(site.url) == before


def test_what_is_written_while_a_backup_runs_is_in_it_wholly_or_not_at_all(site: Site) -> None:
    """A writer moves units between two tables; every snapshot holds the same sum, and dump and counts agree."""
    stop = threading.Event()

    def write() -> None:
        engine = open_engine(site.url)
        number = 0
        while not stop.is_set():
            number += 1
            with transaction(engine) as connection:
                connection.execute(insert(tables.log).values(at=now(), owner="w", event="pair", extra=str(number)))
                connection.execute(
                    insert(tables.attempt_result).values(
                        dag_id=str(number), worker_id="w", payload='{"key": [0, "", -1, 0]}', created_at=now()
                    )
                )
        engine.dispose()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            report = site.backup()
            manifest = find(site.store, report.backup_id).usable()
            pairs = manifest.tables["attempt_result"].rows
            others = manifest.tables["log"].rows - pairs
            assert report.verified
            assert 0 <= others <= 10  # our own audit lines
    finally:
        stop.set()
        writer.join()
    assert manifest.tables["attempt_result"].rows > 0


def test_on_mariadb_a_user_without_the_right_to_lock_the_server_can_back_up(home: Path, databases: Any) -> None:
    url = databases.migrated("mariadb")
    server, _, name = url.rpartition("/")
    user = f"opskit_{os.getpid()}"
    engine = open_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
        admin.exec_driver_sql(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'pw'")
        try:
            for where in (f"`{name}`", "`opskit\\_drill\\_%%`"):
                admin.exec_driver_sql(f"GRANT ALL ON {where}.* TO {user}@'127.0.0.1'")
            weak = f"{server.replace('opskit:opskit', f'{user}:pw')}/{name}"
            assert make_site(home, weak, "{home}/backups").backup().verified
        finally:
            admin.exec_driver_sql(f"DROP USER {user}@'127.0.0.1'")
    engine.dispose()


def test_a_second_backup_at_the_same_time_is_refused(small_site: Site) -> None:
    with locked(small_site.config.run_folder, "backup"), pytest.raises(LockHeld):
        small_site.backup()
    assert list(small_site.store.objects()) == []


def test_a_metastore_that_is_not_there_leaves_nothing_in_the_store(small_site: Site) -> None:
    Path(small_site.url.removeprefix("sqlite:///")).unlink()
    with pytest.raises(OpskitError) as failed:
        small_site.backup()
    assert failed.value.exit_code == 12
    assert list(small_site.store.objects()) == []


def test_a_store_that_fails_in_the_middle_leaves_nothing_listed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    store = site.store
    put = store.put

    def failing(key: str, *arguments: Any, **options: Any) -> Any:
        if key.endswith("config.json"):
            raise StoreError("the network is gone")
        return put(key, *arguments, **options)

    monkeypatch.setattr(store, "put", failing)
    with pytest.raises(StoreError):
        ops.take_backup(site.platform, store, now(), keep=KEEP)
    assert list(store.objects()) == []


def test_a_dump_program_that_fails_is_an_error_and_no_backup(
    home: Path, databases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(home, databases.migrated("postgresql"), "{home}/backups")
    fake = tmp_path / "pg_dump"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 99.1" && exit\n'
        "head -c 3000000 /dev/zero; echo 'the disk is on fire' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path('/usr/bin')}:/bin")
    with pytest.raises(OpskitError, match="pg_dump ended with 1: the disk is on fire"):
        site.backup()
    assert list(site.store.objects()) == []


def test_a_client_older_than_the_server_is_refused_before_it_starts(
    home: Path, databases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(home, databases.migrated("postgresql"), "{home}/backups")
    fake = tmp_path / "pg_dump"
    fake.write_text('#!/bin/sh\necho "pg_dump (PostgreSQL) 9.6.1"\n')
    fake.chmod(0o755)
    monkeypatch.setattr("opskit.system.programs._candidates", lambda names: [str(fake)])
    with pytest.raises(OpskitError, match="older than the PostgreSQL server") as refused:
        site.backup()
    assert refused.value.exit_code == 10


# --- damage ---


def damage(store: ObjectStore, key: str, generator: random.Random) -> Callable[[], None]:
    """Flip one byte of an object; how to mend it."""
    content = b"".join(store.get(key))
    position = generator.randrange(len(content))
    damaged = bytearray(content)
    damaged[position] ^= generator.randrange(1, 256)
    store.put(key, [bytes(damaged)])

    def mend() -> None:
        store.put(key, [content])

    return mend


def test_one_flipped_byte_in_any_stored_object_is_found(site_anywhere: Site) -> None:
    site = site_anywhere
    site.backup()
    store, generator = site.store, random.Random(5)
    keys = [info.key for info in store.objects()]
    assert len(keys) == 4  # dump, small set, manifest, receipt
    for _ in range(10):
        for key in keys:
            mend = damage(store, key, generator)
            with pytest.raises(Damaged):
                verify(store, list_backups(store))
            mend()
    assert verify(store, list_backups(store))[0].ok


def test_a_missing_and_a_foreign_object_are_found(small_site: Site) -> None:
    identifier = small_site.backup().backup_id
    store = small_site.store
    store.put(f"{identifier}/more", [b""])
    with pytest.raises(Damaged, match="does not belong"):
        verify(store, list_backups(store))
    store.delete(f"{identifier}/more")
    store.delete(f"{identifier}/config.json")
    with pytest.raises(Damaged, match="missing"):
        verify(store, list_backups(store))


def test_a_drill_of_a_damaged_backup_fails_and_leaves_its_verdict(site: Site) -> None:
    identifier = site.backup().backup_id
    [dump] = [info.key for info in site.store.objects() if "/metastore." in info.key]
    damage(site.store, dump, random.Random(1))
    with pytest.raises(NotProven):
        drill(site.platform, site.store, find(site.store, identifier), now())
    assert find(site.store, identifier).state == "failed"
    with pytest.raises(GuardRefused, match="its last drill failed"):
        site.restore(identifier)


def reseal(store: ObjectStore, identifier: str, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest that lies, with a good seal."""
    from opskit.ops.backup_catalog import seal, unseal

    document = unseal(b"".join(store.get(f"{identifier}/manifest.json")), "it")
    change(document)
    store.put(f"{identifier}/manifest.json", [seal(document)])
    store.delete(f"{identifier}/drill.json")


@pytest.mark.parametrize("lie", ["rows", "hash", "revision", "table", "small set"])
def test_a_drill_finds_a_copy_that_differs_from_what_was_counted(site: Site, lie: str) -> None:
    identifier = site.backup().backup_id

    def change(document: dict[str, Any]) -> None:
        if lie == "rows":
            document["tables"]["dag_run"]["rows"] += 1
        elif lie == "hash":
            document["tables"]["xcom"]["hash"] = "0" * 32
        elif lie == "revision":
            document["source"]["revision"] = "0000"
        elif lie == "table":
            document["tables"]["dag_of_nobody"] = {"rows": 0, "hash": "0"}
        else:
            small = json.loads(b"".join(site.store.get(f"{identifier}/config.json")))
            small["variables"].pop()
            stored = site.store.put(f"{identifier}/config.json", [json.dumps(small).encode()])
            for item in document["objects"]:
                if item["key"] == "config.json":
                    item.update(size_bytes=stored.size_bytes, sha256=stored.sha256)

    reseal(site.store, identifier, change)
    with pytest.raises(NotProven) as failed:
        drill(site.platform, site.store, find(site.store, identifier), now())
    assert len(failed.value.report.problems) == 1


@pytest.mark.parametrize(
    "change",
    [
        update(tables.task_instance).where(tables.task_instance.c.task_id == "task_4").values(pid=4711),
        update(tables.dag_run).where(tables.dag_run.c.id == 3).values(note=None),
        update(tables.dag_run).where(tables.dag_run.c.id == 1).values(note=" "),
        update(tables.xcom).where(tables.xcom.c.dag_run_id == 2).values(value="zürich"),
        update(tables.instance).values(pid_started=0.3),
        update(tables.dag).values(next_run_after=datetime(2026, 1, 31, 23, 59, 59, 999_998, tzinfo=UTC)),
        update(tables.variable).values(is_encrypted=False),
        tables.variable.delete().where(tables.variable.c.key == 'v3 it\'s "quoted" `back`'),
    ],
)
def test_every_small_change_changes_the_hash_of_its_table(site: Site, change: Any) -> None:
    def contents() -> dict[str, Any]:
        with site.platform.metastore.snapshot() as snapshot:
            return snapshot.contents()

    before = contents()
    assert contents() == before
    site.write(change)
    after = contents()
    assert {name for name in after if after[name] != before[name]} == {change.table.name}


# --- restore ---


def test_a_restore_gives_equal_rows(site_anywhere: Site) -> None:
    site = site_anywhere
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
    assert report.way_back
    assert [row["event"] for row in after["log"]] == ["restore"]


def test_the_restored_schema_is_the_one_that_migrations_make(site: Site, databases: Any) -> None:
    kind = site.platform.metastore.describe().kind
    fresh = shape(databases.migrated(kind))
    site.backup()
    site.restore()
    assert shape(site.url) == fresh
    site.write(tables.dag_run.delete().where(tables.dag_run.c.id == 2))
    rows = everything(site.url)
    assert not [row for name in ("task_instance", "xcom") for row in rows[name] if row["dag_run_id"] == 2]


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


def test_a_store_that_does_not_let_go_is_a_warning_and_the_backup_stands(
    small_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_site.backup(at=now() - timedelta(days=2))
    for path in (small_site.home / "backups").rglob("*.json"):
        old = (now() - timedelta(days=2)).timestamp()
        os.utime(path, (old, old))
    store = small_site.store

    def refuse(key: str) -> None:
        raise StoreError("AccessDenied")

    monkeypatch.setattr(store, "delete", refuse)
    report = ops.take_backup(small_site.platform, store, now(), keep=Keep(0, 0, 0))
    assert report.verified and report.warnings == ("old backups were not removed: AccessDenied",)
    assert len(list_backups(store)) == 2
    monkeypatch.undo()
    assert len(prune(small_site.platform, small_site.store, now(), keep=Keep(0, 0, 0)).removed) == 1


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
    assert report.way_back == ()


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


# --- leftovers and retention ---


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


def test_old_backups_go_after_a_proof_and_never_the_last_verified(small_site: Site) -> None:
    first = small_site.backup(at=now() - timedelta(hours=3)).backup_id
    for manifest in small_site.home.glob("backups/*/manifest.json"):
        assert Manifest.parse(manifest.read_bytes(), "m").id == first
    report = prune(small_site.platform, small_site.store, now(), keep=Keep(0, 0, 0))
    assert report.removed == () and [d.keep for d in report.decisions] == [True]


def test_debris_of_killed_backups_goes_after_a_day(small_site: Site) -> None:
    store = small_site.store
    store.put("20200101T000000Z-00000000/metastore.sqlite.gz", [b"half"])
    (small_site.home / "backups" / "20200101T000000Z-00000000" / ".part-0123-x").write_bytes(b"")
    fresh = prune(small_site.platform, store, now(), keep=KEEP)
    assert fresh.debris == ()
    later = now() + timedelta(hours=25)
    planned = prune(small_site.platform, store, later, keep=KEEP, dry_run=True)
    assert len(planned.debris) == 2 and len(list(store.objects())) == 1
    assert prune(small_site.platform, store, later, keep=KEEP).debris == planned.debris
    assert list(store.objects()) == [] and store.stale_uploads() == []
