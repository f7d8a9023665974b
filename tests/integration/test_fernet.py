"""The Fernet key is rotated under a cluster that runs; what nobody can read is named, repaired or emptied."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from opskit import config as configuration
from opskit import platforms
from opskit.core.metastore import connections, instances, tables, variables
from opskit.core.metastore.crypto import new_key, open_cipher, read_keys, write_keys
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.errors import ConfigError, GuardRefused, NotFound, UsageError
from opskit.ops import env_apply, fernet
from opskit.ops.env_secrets import open_fingerprints
from opskit.platforms import Platform
from opskit.platforms.configuration import Write
from tests.databases import Databases

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


def _platform(url: str, home: Path, **environment: str) -> Platform:
    home.mkdir(parents=True, exist_ok=True)
    return platforms.find(configuration.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url, **environment}))


def _fill(platform: Platform, count: int) -> None:
    empty = dict.fromkeys(("description", "host", "login", "schema", "port"))
    fields = {**empty, "conn_type": "http", "password": "geheim", "extra": {"token": "geheim"}}
    writes = [Write("connections", f"c{n}", fields) for n in range(count)]
    writes += [Write("variables", f"v{n}", {"value": f"value {n}", "description": None}) for n in range(count)]
    platform.configuration.write(writes, lambda *_: True, NOW, "test", {})


def _rotate(platform: Platform, **options: Any) -> fernet.RotateReport:
    return fernet.rotate(platform, NOW, settle_seconds=0, **options)


@pytest.fixture
def platform(databases: Databases, tmp_path: Path) -> Iterator[Platform]:
    url = databases.migrated("sqlite")
    yield _platform(url, tmp_path / "home")
    databases.drop(url)


@pytest.fixture
def engine(platform: Platform) -> Iterator[Engine]:
    opened = open_engine(platform.config.database_url)
    yield opened
    opened.dispose()


def test_a_rotation_brings_every_secret_under_the_new_key_and_retires_the_old_one(
    metastore_url: str, tmp_path: Path
) -> None:
    platform = _platform(metastore_url, tmp_path / "home")
    _fill(platform, 20)
    engine = open_engine(metastore_url)
    with transaction(engine) as database:
        database.execute(
            tables.variable.update().where(tables.variable.c.key == "v0").values(val="x", is_encrypted=False)
        )
    before, path = platform.configuration.read(), platform.config.home / "fernet.key"
    old = read_keys(path)
    assert fernet.audit(platform).in_the_clear == ("variables/v0",)
    assert len(_rotate(platform, dry_run=True).steps) == 3
    assert read_keys(path) == old
    report = _rotate(platform)
    assert (report.reencrypted, report.still_needed, report.unreadable) == (60, (), ())
    assert platform.configuration.read() == before
    new = read_keys(path)
    assert len(new) == 1 and new != old and path.stat().st_mode & 0o777 == 0o600
    assert read_keys(path.with_name("fernet.key.retired")) == old
    audited = fernet.audit(platform)
    assert audited.proven and audited.counts == {report.newest: 60}
    with reading(engine) as database:
        assert all(row.is_encrypted for row in database.execute(select(tables.variable)))
    engine.dispose()


def test_processes_that_run_meanwhile_read_and_write_through_all_of_it(platform: Platform, engine: Engine) -> None:
    _fill(platform, 4)
    cipher = open_cipher(platform.config)  # as a gateway holds it from its start on
    stop, failed, rounds = threading.Event(), [], []

    def work() -> None:
        try:
            while not stop.is_set():
                for number in range(4):
                    with transaction(engine) as database:
                        variables.set_variable(database, cipher, f"v{number}", f"round {len(rounds)}")
                        connections.get_connection(database, cipher, f"c{number}")
                rounds.append(1)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(3):
            assert _rotate(platform).unreadable == ()
    finally:
        stop.set()
        worker.join()
    assert failed == []
    _rotate(platform)
    assert fernet.audit(platform).proven
    assert cipher.decrypt(open_cipher(platform.config).encrypt("x"), "x") == "x"


@pytest.mark.parametrize("dies_at", ["added", "half", "retired"])
def test_a_rotation_that_was_killed_goes_on_where_it_was(platform: Platform, engine: Engine, dies_at: str) -> None:
    _fill(platform, 5)
    keys, before = platform.secret_keys, platform.configuration.read()
    path = platform.config.home / "fernet.key"
    newest = keys.add(first=True)
    if dies_at != "added":
        with transaction(engine) as database:
            cipher = open_cipher(platform.config)
            variables.set_variable(database, cipher, "v1", "value 1")
    if dies_at == "retired":
        old = read_keys(path)[1]
        keys.reencrypt(100, lambda *_: None)
        with transaction(engine) as database:
            late = type(cipher)([old], "a slow writer")
            variables.set_variable(database, late, "v2", "value 2")
        keys.retire()
        assert fernet.audit(platform).unreadable == ("variables/v2",)
        # The file has one key again: the retired one is enough to go on.
        report = _rotate(platform, stage="finish")
    else:
        report = _rotate(platform)
    assert report.newest == newest
    assert len(read_keys(path)) == 1 and fernet.audit(platform).proven
    assert platform.configuration.read() == before


def test_a_secret_that_no_key_reads_is_named_and_the_old_key_stays(platform: Platform, engine: Engine) -> None:
    _fill(platform, 3)
    with transaction(engine) as database:
        database.execute(tables.connection.update().where(tables.connection.c.conn_id == "c1").values(password="gAAAA"))
    report = _rotate(platform)
    assert report.unreadable == ("connections/c1/password",)
    assert len(report.still_needed) == 1 and report.retired == ()
    audited = fernet.audit(platform)
    assert audited.counts[report.newest] == 8 and audited.outdated == ()
    # Nothing else is hurt by it.
    with reading(engine) as database:
        cipher = open_cipher(platform.config)
        assert connections.get_connection(database, cipher, "c0").password == "geheim"
    assert fernet.repair(platform, NOW, dry_run=True).unreadable == report.unreadable
    with pytest.raises(GuardRefused, match="variables/v1"):
        fernet.repair(platform, NOW, values={"variables/v1": "x"})
    fernet.repair(platform, NOW, values={"connections/c1/password": None})
    done = _rotate(platform)
    assert done.retired != () and fernet.audit(platform).proven


def test_a_lost_key_is_found_again_or_its_secrets_are_given_anew(platform: Platform, tmp_path: Path) -> None:
    _fill(platform, 2)
    path, before = platform.config.home / "fernet.key", platform.configuration.read()
    old = tmp_path / "old.key"
    write_keys(old, read_keys(path))
    write_keys(path, [new_key()])
    assert len(fernet.audit(platform).unreadable) == 6
    with pytest.raises(ConfigError, match="no Fernet key"):
        fernet.repair(platform, NOW, key_files=[tmp_path / "none.key"])
    values = {"connections/c0/password": "new", "connections/c0/extra": '{"a": 1}', "variables/v1": None}
    given = fernet.repair(platform, NOW, values=values)
    assert (len(given.set), given.emptied, len(given.unreadable)) == (2, ("variables/v1",), 3)
    report = fernet.repair(platform, NOW, key_files=[old])
    assert len(report.recovered) == 3 and report.unreadable == ()
    found = platform.configuration.read()
    assert found["connections"]["c0"]["password"] == "new" and found["connections"]["c0"]["extra"] == {"a": 1}
    assert found["variables"]["v1"]["value"] == ""
    assert found["connections"]["c1"] == before["connections"]["c1"]
    with pytest.raises(GuardRefused):
        fernet.repair(platform, NOW, values={"variables/v0": "x"})
    with pytest.raises(NotFound):
        platform.secret_keys.set({"connections/none/password": "x"}, NOW)


def test_what_undo_keeps_follows_the_key(platform: Platform) -> None:
    from opskit.ops import env
    from opskit.ops.env_sources import Access, open_environment

    _fill(platform, 2)
    access = Access(platform)
    file = platform.config.home / "variables.json"
    file.write_text('{"v0": "changed"}')
    made, fingerprints = env.make_plan(access, open_environment(str(file), access), open_environment(".", access), NOW)
    env_apply.apply(platform, made, fingerprints, NOW)
    _rotate(platform)
    (platform.config.home / "fernet.key.retired").unlink()
    env_apply.undo(platform, open_fingerprints(platform.config), NOW)
    assert platform.configuration.read()["variables"]["v0"]["value"] == "value 0"


def test_several_hosts_are_rotated_in_stages(platform: Platform, engine: Engine, tmp_path: Path) -> None:
    _fill(platform, 2)
    now = datetime.now(UTC)
    with transaction(engine) as database:
        instances.register(
            database, instance_id="far", kind="worker", hostname="far", home="/", pid=1, pid_started=1.0, now=now
        )
    with pytest.raises(GuardRefused, match="other hosts use these secrets: far"):
        fernet.rotate(platform, now)
    path = platform.config.home / "fernet.key"
    old = read_keys(path)
    with pytest.raises(UsageError, match="one key"):
        _rotate(platform, stage="promote")
    _rotate(platform, stage="prepare")
    prepared = read_keys(path)
    assert prepared[:1] == old and len(prepared) == 2
    _rotate(platform, stage="prepare")
    assert read_keys(path) == prepared
    _rotate(platform, stage="promote")
    assert read_keys(path) == prepared[::-1]
    report = _rotate(platform, stage="finish")
    assert read_keys(path) == prepared[1:] and report.reencrypted == 6
    assert _rotate(platform, stage="finish").steps == ()


def test_keys_of_a_setting_are_used_and_left_to_people(platform: Platform, tmp_path: Path) -> None:
    _fill(platform, 2)
    old, new = read_keys(platform.config.home / "fernet.key")[0], platform.secret_keys.new()
    url = platform.config.database_url
    one = _platform(url, tmp_path / "home", OPSKIT__CORE__FERNET_KEY=old)
    with pytest.raises(UsageError, match=r"core\.fernet_key"):
        _rotate(one)
    both = _platform(url, tmp_path / "home", OPSKIT__CORE__FERNET_KEY=f"{new},{old}")
    report = _rotate(both)
    assert report.reencrypted == 6 and len(report.still_needed) == 1
    assert fernet.audit(_platform(url, tmp_path / "home", OPSKIT__CORE__FERNET_KEY=new)).proven


def test_a_key_file_of_several_lines_and_commas_is_read(tmp_path: Path) -> None:
    keys = [new_key() for _ in range(3)]
    (tmp_path / "fernet.key").write_text(f"{keys[0]}\n{keys[1]}, {keys[2]}\n")
    assert len(open_cipher(configuration.load(tmp_path, {})).fingerprints) == 3
