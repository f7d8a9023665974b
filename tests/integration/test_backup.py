"""Backup, drill, verify, prune and restore on SQLite, PostgreSQL and MariaDB, into a folder and an S3 API."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from opskit.core.metastore import schema, tables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, transaction
from opskit.errors import GuardRefused, LockHeld, OpskitError
from opskit.ops import backup as ops
from opskit.ops.backup_catalog import Manifest, find, incomplete, list_backups
from opskit.ops.backup_prune import prune
from opskit.ops.drill import NotProven, drill
from opskit.ops.retention import Keep
from opskit.ops.verify import Damaged, verify
from opskit.system import encryption
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore, StoreError
from tests.backup_site import KEEP, Site, make_site, now
from tests.sample_metastore import everything

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
    assert manifest.revision == schema.HEAD
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
    assert len(lines) >= 2  # the dump, and what loads it for the drill
    for line in lines:
        shown = line.replace("--user=opskit", "").replace("opskit_test", "").replace("opskit_drill", "")
        assert password not in shown.replace("opskit-home", "")
    if kind == "postgresql":
        written = [path for path in home.rglob("*") if path.is_file() and b"planted" in path.read_bytes()]
        assert written == []


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
        for _ in range(3):
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


def test_on_mariadb_a_long_statement_in_another_database_does_not_hold_a_backup_up(
    home: Path, databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opskit.core.metastore.copy_mysql._LOCK_SECONDS", 1)
    monkeypatch.setattr("opskit.core.metastore.copy_mysql._SERVER_LOCK_ATTEMPTS", 1)
    site = make_site(home, databases.migrated("mariadb"), "{home}/backups")
    engine = open_engine(databases.empty("mariadb"))
    with engine.connect() as other:
        other.exec_driver_sql("CREATE TABLE busy (id INT PRIMARY KEY)")
        other.exec_driver_sql("LOCK TABLES busy WRITE")  # the lock of the whole server waits for it
        assert site.backup().verified
        other.exec_driver_sql("UNLOCK TABLES")
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


def flip_bytes(site: Site, flips: int) -> None:
    """One byte of one object at a time, in an encrypted backup, each object in its turn; each must be found."""
    site.backup(recipients=[encryption.new_identity()[1]])
    store, generator = site.store, random.Random(5)
    keys = [info.key for info in store.objects()]
    assert len(keys) == 6  # dump, small set, key, record of the key, manifest, receipt
    for number in range(flips):
        mend = damage(store, keys[number % len(keys)], generator)
        with pytest.raises(Damaged):
            verify(store, list_backups(store))
        mend()
    assert verify(store, list_backups(store))[0].ok


def test_one_flipped_byte_in_any_stored_object_is_found(site_anywhere: Site) -> None:
    flip_bytes(site_anywhere, 12)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_of_a_thousand_flipped_bytes_a_thousand_are_found(site_anywhere: Site) -> None:
    flip_bytes(site_anywhere, 1_000)


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


def test_on_mariadb_what_is_counted_while_a_dump_is_loaded_is_what_is_there(home: Path, databases: Any) -> None:
    site = make_site(home, databases.migrated("mariadb"), "{home}/backups")
    for length in (499, 500, 501, 5_000):
        site.write(insert(tables.log).values(at=now(), owner="x", event="y", extra="ä" * length))
    metastore = site.platform.metastore
    with metastore.snapshot() as snapshot:
        with snapshot.dump() as chunks:
            dump = list(chunks)
        expected = snapshot.contents()
        with metastore.throwaway() as target:
            target.load(dump)
            assert {"log", "task_instance", "xcom"} <= target._counted.keys()  # type: ignore[attr-defined]
            engine = open_engine(target.url)
            with transaction(engine) as connection:
                connection.exec_driver_sql("DROP TABLE attempt_result")  # noticed, though it was counted
            assert [table for table in expected if table not in target.contents(snapshot.algorithm)] == [
                "attempt_result"
            ]
            with transaction(engine) as connection:
                connection.exec_driver_sql("UPDATE log SET extra = MD5(extra) WHERE LENGTH(extra) = 10000")
            engine.dispose()
            found = target.contents(snapshot.algorithm)
            assert {table for table in found if found[table] != expected[table]} == {"log"}


SMALL_CHANGES = (
    update(tables.task_instance).where(tables.task_instance.c.task_id == "task_4").values(pid=4711),
    update(tables.dag_run).where(tables.dag_run.c.id == 3).values(note=None),
    update(tables.dag_run).where(tables.dag_run.c.id == 1).values(note=" "),
    update(tables.xcom).where(tables.xcom.c.dag_run_id == 2).values(value="zürich"),
    update(tables.instance).values(pid_started=0.3),
    update(tables.dag).values(next_run_after=datetime(2026, 1, 31, 23, 59, 59, 999_998, tzinfo=UTC)),
    update(tables.variable).values(is_encrypted=False),
    tables.variable.delete().where(tables.variable.c.key == 'v3 it\'s "quoted" `back`'),
)


def test_every_small_change_changes_the_hash_of_its_table(site: Site) -> None:
    def contents() -> dict[str, Any]:
        with site.platform.metastore.snapshot() as snapshot:
            return snapshot.contents()

    before = contents()
    assert contents() == before
    for change in SMALL_CHANGES:
        site.write(change)
        after = contents()
        assert {name for name in after if after[name] != before[name]} == {change.table.name}
        before = after


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


# --- leftovers and retention ---


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
