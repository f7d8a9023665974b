"""The operator's backup and restore: the commands as processes, killed at random points."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from opskit import config as settings
from opskit import platforms
from opskit.core.metastore import tables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, transaction
from opskit.ops import restore_kept
from opskit.platforms import Platform
from tests import warm
from tests.conftest import Opskit
from tests.databases import KINDS
from tests.sample_metastore import drop_kept, everything, fill
from tests.waiting import wait_until

KILLS = 3
"""On each of three databases."""
MORE = 10
"""Tries where all came too late: the command may have become faster since its time was taken."""


class Cluster:
    def __init__(self, home: Path, url: str, opskit: Opskit) -> None:
        self.home, self.url, self._opskit = home, url, opskit
        self.environ = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
        fill(url, encrypt=open_cipher(settings.load(home, self.environ)).encrypt, filler_bytes=2_000_000)

    def run(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._opskit(*arguments, env=self.environ, **options)

    def data(self, *arguments: object) -> Any:
        return json.loads(self.run(*arguments, "--output", "json").stdout)

    @property
    def platform(self) -> Platform:
        return platforms.find(settings.load(self.home, self.environ))

    def kill_during(self, delay: float, *arguments: str) -> bool:
        """Start a command and kill it after so many seconds; whether it was still at work then."""
        process = warm.start(*arguments, env={**os.environ, "OPSKIT_HOME": str(self.home), **self.environ})
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL

    def set_era(self, era: str) -> None:
        engine = open_engine(self.url)
        with transaction(engine) as connection:
            connection.execute(update(tables.dag_run).values(note=era))
        engine.dispose()


@pytest.fixture(params=KINDS)
def cluster(home: Path, opskit: Opskit, databases: Any, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    url = databases.migrated(request.param)
    yield Cluster(home, url, opskit)
    drop_kept(url)
    databases.drop(url)


def seconds_of(cluster: Cluster, *arguments: object) -> float:
    started = time.monotonic()
    cluster.run(*arguments)
    return time.monotonic() - started


def kill_backups(cluster: Cluster, kills: int) -> None:
    duration = seconds_of(cluster, "backup")
    killed = 0
    for number in range(kills + MORE):
        if killed and number >= kills:
            break
        began = time.monotonic()
        if cluster.kill_during(random.uniform(0.1, 1.0) * duration, "backup"):
            killed += 1
        else:
            duration = min(duration, time.monotonic() - began)
        listed = cluster.data("backup", "list")
        assert all(item["state"] in ("verified", "unverified") for item in listed), (number, listed)
    assert killed, "no run was killed while it worked"
    assert all(item["ok"] for item in cluster.data("backup", "verify", "--all"))
    last = cluster.data("backup")
    assert last["verified"]
    assert cluster.data("backup", "list")[0]["id"] == last["backup_id"]
    left = [path for path in (cluster.home / "run").glob("scratch/*") if path.is_dir()]
    assert left == []


def test_a_backup_killed_at_random_points_is_never_half_listed_and_the_next_one_succeeds(cluster: Cluster) -> None:
    kill_backups(cluster, KILLS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_killed_backups(cluster: Cluster) -> None:
    kill_backups(cluster, 100)


def kill_restores(cluster: Cluster, kills: int) -> None:
    """Restores, and undos of what they did, are killed: after each, the metastore is whole, and one that was live."""
    cluster.set_era("backup")
    identifier = cluster.data("backup")["backup_id"]
    seconds = {"restore": seconds_of(cluster, "restore", identifier, "--yes")}
    restored = states(cluster)
    seconds["undo"] = seconds_of(cluster, "restore", "undo", "--yes")
    cluster.set_era("live")
    whole = [restored, states(cluster)]
    assert whole[0] != whole[1]
    killed = 0
    for number in range(kills + MORE):
        if killed and number >= kills:
            break
        undo = number % 2 == 1 and bool(restore_kept.status(cluster.platform).kept)
        command = ["restore", "undo"] if undo else ["restore", identifier]
        kind = "undo" if undo else "restore"
        began = time.monotonic()
        if cluster.kill_during(random.uniform(0.3, 1.0) * seconds[kind], *command, "--yes"):
            killed += 1
        else:
            seconds[kind] = min(seconds[kind], time.monotonic() - began)
        now = states(cluster)
        assert now in whole, (number, command)
        if now == restored:
            cluster.set_era(f"live {number}")
            whole.append(states(cluster))
    assert killed, "no run was killed while it worked"
    # The server may need a moment to see that a killed client is gone.
    wait_until(lambda: cluster.run("restore", identifier, "--yes", check=False).returncode == 0, every=0.5)
    assert states(cluster) == restored
    cluster.run("restore", "undo", "--yes")
    assert states(cluster) in whole
    cluster.run("restore", "commit", "--yes")
    assert restore_kept.status(cluster.platform).kept == ()


def states(cluster: Cluster) -> Any:
    """Everything but what a restore itself writes: times, revisions, audit lines."""
    rows = everything(cluster.url)
    volatile = {"end_date", "next_at", "wake_at", "revision", "lease_epoch", "ended_at"}
    return {
        name: [{key: value for key, value in row.items() if key not in volatile} for row in content]
        for name, content in rows.items()
        if name != "log"
    }


def test_a_restore_killed_at_random_points_leaves_the_old_or_the_new_metastore_whole(cluster: Cluster) -> None:
    kill_restores(cluster, 4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_killed_restores(cluster: Cluster) -> None:
    kill_restores(cluster, 100)


def test_the_everyday_commands_and_their_exit_codes(home: Path, opskit: Opskit, databases: Any) -> None:
    cluster = Cluster(home, databases.migrated("sqlite"), opskit)
    empty = cluster.run("restore", "latest", "--yes", check=False)
    assert empty.returncode == 2 and "take one with: opskit backup" in empty.stderr
    dry = cluster.run("backup", "--dry-run")
    assert "would write the whole metastore" in dry.stdout and not (home / "backups").exists()

    taken = cluster.run("backup")
    assert "is verified" in taken.stdout and "drill: restore" in taken.stderr
    [listed] = cluster.data("backup", "list")
    assert listed["state"] == "verified" and listed["drilled_at"]
    assert cluster.run("backup", "verify").returncode == 0
    assert cluster.data("backup", "drill", "latest")["ok"]
    assert cluster.data("backup", "prune", "--dry-run")["removed"] == []

    unasked = cluster.run("restore", "latest", check=False, stdin=subprocess.DEVNULL)
    assert unasked.returncode == 2 and "--yes" in unasked.stderr
    assert cluster.data("restore", "latest", "--plan")["refusals"] == []
    assert "the way back" in cluster.run("restore", "latest", "--yes").stdout

    dump = next((home / "backups").glob("*/metastore.*"))
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    damaged = cluster.run("backup", "verify", "--all", check=False)
    assert damaged.returncode == 14 and "Traceback" not in damaged.stderr
    assert cluster.run("backup", "drill", check=False).returncode == 14
    assert cluster.run("restore", listed["id"], "--yes", check=False).returncode == 16
    assert cluster.run("backup", "--to", "ftp://x", check=False).returncode == 2
    (home / "file").touch()
    assert cluster.run("backup", "--to", home / "file", check=False).returncode == 10


def test_a_backup_that_is_terminated_takes_back_what_it_began(home: Path, opskit: Opskit, databases: Any) -> None:
    cluster = Cluster(home, databases.migrated("sqlite"), opskit)
    cluster.run("backup", "--no-drill")
    before = sorted((home / "backups").rglob("*"))
    # A store that takes no byte: the write into the pipe of another process that does not read blocks.
    environ = {**os.environ, "OPSKIT_HOME": str(home), **cluster.environ, "OPSKIT__BACKUP__COMPRESSION": "0"}
    program = (
        "import time, opskit.system.folder_store as store\n"
        "real = store.FolderStore.put\n"
        "def put(self, key, chunks, **options):\n"
        "    def slow():\n"
        "        for chunk in chunks:\n"
        "            yield chunk\n"
        "            print('at work', flush=True)\n"
        "            time.sleep(60)\n"
        "    return real(self, key, slow(), **options)\n"
        "store.FolderStore.put = put\n"
        "from opskit.cli import main\n"
        "main(['backup', '-q'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"at work\n"
    process.terminate()
    assert process.wait(20) == 143
    process.stdout.close()
    assert sorted((home / "backups").rglob("*")) == before


def test_a_backup_keeps_its_memory_whatever_the_size_of_the_metastore(
    home: Path, opskit: Opskit, databases: Any
) -> None:
    """The peak of a process that backs up and drills 30 MB more is the same within a few MB."""
    cluster = Cluster(home, databases.migrated("sqlite"), opskit)
    program = (
        "import resource, opskit.cli as cli\n"
        "code = cli.run(['backup', '-q'])\n"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak() -> int:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPSKIT_HOME": str(home), **cluster.environ},
            capture_output=True,
            text=True,
            check=True,
        )
        code, kilobytes = done.stdout.splitlines()[-1].split()
        assert code == "0"
        return int(kilobytes)

    small = peak()
    for _ in range(3):
        grow(cluster.url, 10_000_000)
    assert peak() - small < 12_000


def grow(url: str, size: int) -> None:
    from datetime import UTC, datetime

    from sqlalchemy import insert

    engine = open_engine(url)
    with transaction(engine) as connection:
        rows = [
            {"at": datetime.now(UTC), "owner": "x", "event": "filler", "extra": os.urandom(500).hex()}
            for _ in range(size // 1_000)
        ]
        connection.execute(insert(tables.log), rows)
    engine.dispose()
