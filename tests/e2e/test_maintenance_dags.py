"""The maintenance DAGs and the examples: they load, and each does its work in a real cluster's processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit import config, platforms
from opskit.telemetry.task_logs import log_path

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]
FOLDER = Path(__file__).resolve().parents[2] / "maintenance_dags"
DAG_IDS = sorted(path.stem for path in FOLDER.rglob("*.py"))


@pytest.fixture
def cluster(home: Path, opskit: Opskit) -> Opskit:
    """The command, with a metastore and the maintenance DAGs in its DAG folder."""
    shutil.copytree(FOLDER, home / "dags", dirs_exist_ok=True)
    opskit("db", "migrate")
    return opskit


def test_each_file_defines_the_dag_of_its_name(home: Path) -> None:
    paths = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.py"))
    loaded = platforms.find(config.load()).dag_files.load(FOLDER, paths)
    assert [file.error for file in loaded] == [None] * len(paths)
    assert sorted(dag_id for file in loaded for dag_id in file.dag_ids) == DAG_IDS


def test_each_has_an_owner_and_a_verb() -> None:
    for path in FOLDER.glob("*.py"):
        text = path.read_text()
        assert text.count("-m opskit ") == 1, path
        assert '"owner": "opskit"' in text, path


def test_log_cleanup_removes_old_logs(cluster: Opskit, home: Path) -> None:
    at = (datetime.now(UTC) - timedelta(days=60)).timestamp()
    old = home / "logs" / log_path("d", "r", "t", -1, 1)
    young = home / "logs" / log_path("d", "r2", "t", -1, 1)
    for path in (old, young):
        path.parent.mkdir(parents=True)
        path.write_text("line\n")
    os.utime(old, (at, at))
    cluster("dags", "test", "log_cleanup")
    assert (old.exists(), young.exists()) == (False, True)


def test_metastore_backup_leaves_a_proven_backup(cluster: Opskit) -> None:
    cluster("dags", "test", "metastore_backup")
    cluster("dags", "test", "variable_connection_backup")
    [taken] = json.loads(cluster("backup", "list", "--output", "json").stdout)
    assert (taken["tier"], taken["state"]) == ("full", "verified")
    [captured] = json.loads(cluster("restore", "--tier", "config", "--list", "--output", "json").stdout)
    assert captured["last_seen"]


def test_permission_repair_closes_the_key(cluster: Opskit, home: Path) -> None:
    (home / "fernet.key").touch()
    (home / "fernet.key").chmod(0o644)
    cluster("dags", "test", "permission_repair")
    assert (home / "fernet.key").stat().st_mode & 0o777 == 0o600


def test_metastore_cleanup_ends_well(cluster: Opskit) -> None:
    cluster("dags", "test", "metastore_cleanup")


def test_distribution_without_a_repository_explains_itself(cluster: Opskit) -> None:
    done = cluster("dags", "test", "dag_distribution")
    assert "set git_url or source_url in [deploy]" in done.stdout + done.stderr


def test_the_examples_run(cluster: Opskit) -> None:
    cluster("dags", "test", "example_basics")
    cluster("dags", "test", "example_sensor")
