"""What every platform must answer (opskit/platforms/base.py), on each kind of metastore."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit import config as configuration
from opskit import platforms
from opskit.core.metastore import audit
from opskit.core.metastore.crypto import create_key_file
from opskit.core.metastore.engine import open_engine, reading
from opskit.errors import GuardRefused, MetastoreUnavailable
from opskit.platforms import Platform
from opskit.platforms.configuration import Write
from opskit.platforms.retention import RetentionPolicy
from opskit.platforms.secret_keys import StoredSecret

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.fixture(params=["core"])
def platform(request: pytest.FixtureRequest, metastore_url: str, home: Path) -> Platform:
    environment = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": metastore_url}
    return platforms.find(configuration.load(home, environment))


def test_a_cluster_without_processes_is_observed_without_an_error(platform: Platform) -> None:
    seen = platform.health.observe(NOW)
    assert seen.database.state == "ok"
    assert seen.components == ()


def test_folders_are_those_of_the_configuration(platform: Platform, home: Path) -> None:
    assert platform.folders.dags == home / "dags"
    assert platform.folders.logs == home / "logs"
    assert platform.folders.is_log_folder([])
    assert not platform.folders.is_log_folder(["etc", "usr"])
    with platform.folders.log_states() as states:
        assert states.runs("dag_id=d", ["run_id=r"], newest=1)["run_id=r"].state == ""


def test_a_snapshot_describes_tables_with_rows_and_hashes(platform: Platform) -> None:
    with platform.metastore.snapshot() as snapshot:
        tables = snapshot.contents()
    assert tables["slot_pool"].rows == 1
    assert tables["slot_pool"].hash


def test_the_small_set_is_read_planned_and_written_where_it_differs(platform: Platform) -> None:
    metastore = platform.metastore
    wanted = metastore.live_small_set()
    assert [row["pool"] for row in wanted["pools"]] == ["default_pool"]
    assert metastore.plan_small_set(wanted) == []
    wanted["pools"].append({"pool": "other", "slots": 3, "description": None})
    [change] = metastore.plan_small_set(wanted)
    assert (change.kind, change.name, change.action) == ("pool", "other", "create")
    assert metastore.apply_small_set(wanted, NOW) == [change]
    assert metastore.live_small_set() == wanted


def test_only_the_holder_of_the_key_can_sign(platform: Platform, home: Path) -> None:
    metastore = platform.metastore
    assert metastore.sign("test", b"text") == ("", "")  # there is no key, and asking makes none
    assert not (home / "fernet.key").exists()
    create_key_file(home / "fernet.key")
    key, signature = metastore.sign("test", b"text")
    assert metastore.is_signed("test", b"text", key, signature) is True
    assert metastore.is_signed("test", b"other", key, signature) is False
    assert metastore.is_signed("another purpose", b"text", key, signature) is False
    assert metastore.is_signed("test", b"text", "0" * 16, signature) is None


def test_nothing_is_kept_where_nothing_was_restored(platform: Platform) -> None:
    assert platform.metastore.kept() == []
    assert platform.metastore.row_counts()["slot_pool"] == 1


def test_retention_keeps_what_is_young(platform: Platform) -> None:
    assert platform.retention.plan(RetentionPolicy(90.0), NOW).rows == ()
    assert platform.retention.remove(RetentionPolicy(90.0), NOW, batch_size=10).rows == {}


def test_a_dag_file_is_loaded_without_being_stored(platform: Platform, home: Path) -> None:
    (home / "dags" / "good.py").write_text("from opskit import DAG\ndag = DAG('good', schedule=None)\n")
    (home / "dags" / "bad.py").write_text("from opskit import DAG\nraise ValueError('no')\n")
    loaded = {item.path: item for item in platform.dag_files.load(home / "dags", ["good.py", "bad.py"])}
    assert loaded["good.py"].dag_ids == ("good",)
    assert "no" in (loaded["bad.py"].error or "")


def test_an_audit_line_is_found_again(platform: Platform, metastore_url: str) -> None:
    platform.audit.write("tested", NOW, {"what": "the contract"})
    engine = open_engine(metastore_url)
    with reading(engine) as connection:
        lines = audit.read(connection, limit=5)
    engine.dispose()
    assert [(line.event, line.extra) for line in lines] == [("tested", {"what": "the contract"})]


def test_configuration_is_written_as_one_and_read_as_it_was_written(platform: Platform) -> None:
    fields = {"value": "é", "description": None}
    shown: list[object] = []

    def accept(kind: str, name: str, there: object) -> bool:
        shown.append((kind, name, there))
        return name != "refused"

    platform.configuration.write([Write("variables", "a", fields)], accept, NOW, "tested", {})
    assert platform.configuration.read(["variables"]) == {"variables": {"a": fields}}
    with pytest.raises(GuardRefused, match="variables/refused"):
        platform.configuration.write(
            [Write("variables", "a", None), Write("variables", "refused", fields)], accept, NOW, "tested", {}
        )
    assert platform.configuration.read(["variables"]) == {"variables": {"a": fields}}
    assert shown == [("variables", "a", None), ("variables", "a", fields), ("variables", "refused", None)]
    assert platform.configuration.unseal(platform.configuration.seal("x"), "it") == "x"
    assert platform.secret_keys.secrets() == [StoredSecret("variables/a", platform.secret_keys.fingerprints()[0])]


def test_a_metastore_that_is_away_is_said_to_be_so(home: Path) -> None:
    config = configuration.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/none"})
    away = platforms.find(config)
    assert away.health.observe(NOW).database.state == "unreachable"
    with pytest.raises(MetastoreUnavailable):
        away.folders.log_states().__enter__()
    with pytest.raises(MetastoreUnavailable):
        away.retention.plan(RetentionPolicy(1.0), NOW)
