"""Encrypted backups to an S3 API, with the commands as processes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Opskit
from tests.e2e.test_backup import Cluster, kill_backups


@pytest.fixture
def cluster(home: Path, opskit: Opskit, databases: Any, s3: Any, tmp_path: Path) -> Cluster:
    """On SQLite; the machine has a public key only, the secret half lies elsewhere."""
    cluster = Cluster(home, databases.migrated("sqlite"), opskit)
    made = cluster.data("keys", "new", "--out", tmp_path / "identity.txt")
    cluster.environ |= {
        "OPSKIT__BACKUP__TO": f"s3://{s3.make_bucket()}/backups",
        "OPSKIT__BACKUP__ENDPOINT_URL": s3.endpoint_url,
        "OPSKIT__BACKUP__PART_SIZE": "5",
        "OPSKIT__BACKUP__COMPRESSION": "0",  # two parts
        "OPSKIT__BACKUP__RECIPIENTS": made["recipient"],
    }
    return cluster


def test_an_encrypted_backup_to_s3_killed_at_random_points_is_never_half_listed(cluster: Cluster) -> None:
    kill_backups(cluster, 4)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_a_hundred_killed_encrypted_backups_to_s3(cluster: Cluster) -> None:
    kill_backups(cluster, 100)


def test_the_commands_of_keys_and_their_exit_codes(cluster: Cluster, tmp_path: Path) -> None:
    taken = cluster.data("backup")
    assert taken["verified"] and len(taken["recipients"]) == 1
    assert [key["state"] for key in cluster.data("keys", "list")] == ["listed"]
    closed = cluster.run("backup", "drill", check=False)
    assert closed.returncode == 16 and "no identity was given" in closed.stderr
    assert cluster.data("backup", "drill", "--identity", tmp_path / "identity.txt")["ok"]

    shown = cluster.run("keys", "new").stdout.split()
    recipient, identity = shown[3], shown[4]
    rotated = cluster.data("keys", "rotate", "--identity", tmp_path / "identity.txt", "--to", recipient)
    assert [report["state"] for report in rotated] == ["replaced"]
    failed = cluster.run(
        "keys", "rotate", "--identity", tmp_path / "identity.txt", check=False, stdin=subprocess.DEVNULL
    )
    assert failed.returncode == 3 and "none of the given identities" in failed.stderr
    (tmp_path / "new.txt").write_text(identity)
    (tmp_path / "new.txt").chmod(0o600)
    assert cluster.data("backup", "drill", "--identity", tmp_path / "new.txt")["ok"]
    assert cluster.run("backup", "--recipient", "age1nobody", check=False).returncode == 10
