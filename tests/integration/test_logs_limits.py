"""`opskit logs clean` where room is short, where files are open, and on the layouts that Airflow leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import config, platforms
from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.tables import dag_run, task_instance
from opskit.ops import logs
from opskit.ops.logs_decide import AGE, MAX_SIZE
from opskit.ops.logs_policy import Wishes
from opskit.platforms.base import Platform
from opskit.system import open_files, trees
from opskit.telemetry.task_logs import log_path
from tests.databases import Databases

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def cluster(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    (home / "logs").mkdir()
    yield platforms.find(config.load())
    databases.drop(url)


def write(home: Path, path: str, days: float, size: int = 5) -> Path:
    file = home / "logs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    at = (NOW - days * DAY).timestamp()
    os.utime(file, (at, at))
    return file


def clean(platform: Platform, dry_run: bool = False, force: bool = True, **wishes: Any) -> logs.LogsReport:
    return logs.clean(platform, now=NOW, wishes=Wishes(**wishes), dry_run=dry_run, force=force)


def add_run(url: str, run_id: str, state: str, tasks: dict[str, str], number: int) -> None:
    at = NOW - 100 * DAY + number * DAY
    dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "queued_at"), at)
    engine = open_engine(url)
    with transaction(engine) as connection:
        values = {"dag_id": "d", "run_id": run_id, "run_type": "scheduled", "state": state, **dates}
        key = connection.execute(dag_run.insert().values(**values)).inserted_primary_key[0]
        for task_id, task_state in tasks.items():
            connection.execute(task_instance.insert().values(dag_run_id=key, task_id=task_id, state=task_state))
    engine.dispose()


def test_failures_stay_longer_than_successes_and_the_newest_run_stays(cluster: Platform, home: Path) -> None:
    url = cluster.config.database_url
    add_run(url, "failed", "failed", {"t": "success"}, 1)
    add_run(url, "mixed", "success", {"bad": "failed", "good": "success"}, 2)
    add_run(url, "newest", "success", {"t": "success"}, 3)
    kept = [
        write(home, log_path("d", "failed", "t", -1, 1), 60),
        write(home, log_path("d", "mixed", "bad", -1, 1), 60),
        write(home, log_path("d", "newest", "t", -1, 1), 400),
    ]
    gone = [
        write(home, log_path("d", "mixed", "good", -1, 1), 60),
        write(home, log_path("d", "unknown", "t", -1, 1), 60),
        write(home, log_path("d", "failed", "t", -1, 2), 91),
    ]
    report = clean(cluster)
    assert [path.exists() for path in kept] == [True] * 3
    assert [path.exists() for path in gone] == [False] * 3
    assert report.removed == {AGE: 3}
    assert report.kept == {"of a newest run": 1, "young": 2}


def test_the_oldest_go_until_the_logs_fit_and_no_more(cluster: Platform, home: Path) -> None:
    files = [
        write(home, log_path(f"d{number % 4}", f"r{number}", "t", -1, 1), 2 + number / 2, 64 << 10)
        for number in range(40)
    ]
    total = clean(cluster, dry_run=True, max_size="1T").disk_bytes
    wanted = total // 2
    dry = clean(cluster, dry_run=True, max_size=str(wanted))
    report = clean(cluster, max_size=str(wanted))
    left = [number for number, file in enumerate(files) if file.exists()]
    assert left == list(range(len(left))), "a younger one went before an older one"
    (target,) = report.targets
    assert target.reached
    assert wanted - target.after < 70 << 10, "more went than was needed"
    assert report.removed == dry.removed == {MAX_SIZE: 40 - len(left)}
    again = clean(cluster, max_size=str(wanted))
    assert (again.removed_logs, again.targets[0].reached) == (0, True)


def test_a_limit_never_takes_what_is_younger_than_the_floor(cluster: Platform, home: Path) -> None:
    young = write(home, log_path("d", "r", "t", -1, 1), 0.5)
    write(home, log_path("d", "r", "t", -1, 2), 2)
    report = clean(cluster, max_size="0")
    assert young.exists()
    assert [target.reached for target in report.missed] == [False]
    assert report.removed_logs == 1


def test_the_layouts_of_airflow_are_known(cluster: Platform, home: Path) -> None:
    gone = [
        write(home, "dag_id=a/run_id=r/task_id=t/attempt=1.log.trigger.12.log", 60),
        write(home, "b/task/2025-01-01T00:00:00+00:00/1.log", 60),
        write(home, "scheduler/2025-01-01/folder/x.py.log", 60),
        write(home, "dag_processor/2025-01-01/dags-folder/x.py.log", 60),
        write(home, "dag_processor_manager/dag_processor_manager.log.3", 60),
        write(home, "scheduler.log.2.gz", 60),
        write(home, "airflow-worker.err-20250101", 60),
    ]
    kept = [
        write(home, "b/task/notes/1.log", 60),
        write(home, "letters/2025-01-01/1.log", 60),
        write(home, "dag_processor_manager/dag_processor_manager.log", 1.5),
        write(home, "scheduler/2026-01-01/x.py.log", 2),
        write(home, "README", 60),
    ]
    links = home / "logs" / "scheduler", home / "logs" / "dag_processor"
    (links[0] / "latest").symlink_to("2026-01-01")
    (links[1] / "latest").symlink_to(links[1] / "2025-01-01")
    report = clean(cluster)
    assert [str(path) for path in gone if path.exists()] == []
    assert [str(path) for path in kept if not path.exists()] == []
    assert (links[0] / "latest").is_symlink()
    assert not (links[1] / "latest").is_symlink()
    assert sorted(os.listdir(home / "logs" / "scheduler")) == ["2026-01-01", "latest"]
    assert os.listdir(home / "logs" / "dag_processor") == []
    assert report.removed_links == 1
    assert sorted(os.listdir(home / "logs" / "b" / "task")) == ["notes"]


def test_a_daemon_log_that_is_open_is_emptied_and_keeps_its_name(cluster: Platform, home: Path) -> None:
    held = write(home, "scheduler.log", 60)
    closed = write(home, "scheduler.log.1", 60)
    attempt = write(home, log_path("d", "orphan", "t", -1, 1), 60)
    with held.open("a") as writer, attempt.open("a"):
        report = clean(cluster)
        writer.write("next\n")
    assert held.read_text() == "next\n"
    assert not closed.exists()
    assert attempt.exists(), "a process that nobody knows of writes to it"
    assert (report.truncated_logs, report.removed_logs) == (1, 1)
    assert report.kept["open in a process"] == 1
    folder = os.open(home / "logs", os.O_RDONLY)
    assert open_files.is_open(folder, "scheduler.log") is False
    os.close(folder)


def test_the_first_clean_up_of_a_folder_is_dry(cluster: Platform, home: Path) -> None:
    old = write(home, log_path("d", "r", "t", -1, 1), 60)
    first = logs.clean(cluster, now=NOW, force=True)
    assert (first.dry_run, first.first_use, first.removed_logs, old.exists()) == (True, True, 1, True)
    second = logs.clean(cluster, now=NOW, force=True)
    assert (second.dry_run, second.removed_logs, old.exists()) == (False, 1, False)


def test_a_wrong_clock_shows_in_a_sample_of_a_large_tree(
    cluster: Platform, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opskit.ops.logs_walk.SAMPLE_AFTER", 10)
    for number in range(400):
        write(home, log_path("d", f"r{number}", "t", -1, 1), 2)
    with pytest.raises(logs.GuardRefused, match="logs would go"):
        logs.clean(cluster, now=NOW + 100 * DAY, dry_run=False)
    assert clean(cluster, dry_run=True).logs == 400
    for number in range(0, 400, 16):
        write(home, log_path("d", f"r{number}", "t", -1, 1), 60)
    assert clean(cluster, dry_run=True, force=False).removed_logs == 25


BOUND = """
import os, subprocess, sys
home, precious = sys.argv[1:3]
subprocess.run(["mount", "--bind", precious, f"{home}/logs/dag_id=d/run_id=bound"], check=True)
from datetime import UTC, datetime
from opskit import config, platforms
from opskit.ops import logs
from opskit.system import trees
if sys.argv[3] == "older":
    trees._has_openat2 = False
report = logs.clean(platforms.find(config.load()), now=datetime.now(UTC), dry_run=False, force=True)
print([obstacle.path for obstacle in report.obstacles], report.removed_logs)
"""
FULL = """
import json, os, subprocess, sys, time
home = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,nr_inodes=6000", "none", f"{home}/logs"], check=True)
at = time.time()
try:
    for number in range(10_000):
        folder = f"{home}/logs/dag_id=d{number % 7}/run_id=r{number}/task_id=t"
        os.makedirs(folder)
        with open(f"{folder}/attempt=1.log", "wb") as file:
            file.write(b"x" * 12_000)
        age = 86400 * (29 - number / 400)
        os.utime(f"{folder}/attempt=1.log", (at - age, at - age))
except OSError as error:
    print(error.errno, file=sys.stderr)
free = os.statvfs(f"{home}/logs")
command = [sys.executable, "-m", "opskit", "logs", "clean", "--yes", "--force", "-o", "json", *sys.argv[2:]]
done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
after = os.statvfs(f"{home}/logs")
print(json.dumps({"code": done.returncode, "report": json.loads(done.stdout),
                  "free": [free.f_bavail, after.f_bavail], "blocks": after.f_blocks,
                  "inodes": [free.f_favail, after.f_favail], "files": after.f_files}))
"""


def in_namespace(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program where it may mount, and nobody else sees it."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a mount namespace")
    return subprocess.run(
        [*command, sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("kernel", ["present", "older"])
def test_a_bind_mount_of_the_same_disk_is_not_entered(
    cluster: Platform, home: Path, tmp_path: Path, kernel: str
) -> None:
    precious = write(tmp_path / "elsewhere", "task_id=t/attempt=1.log", 60)
    write(home, log_path("d", "bound", "hidden", -1, 1), 60)
    write(home, log_path("d", "old", "t", -1, 1), 60)
    done = in_namespace(BOUND, str(home), str(precious.parents[1]), kernel)
    assert precious.exists()
    assert done.stdout == "['dag_id=d/run_id=bound'] 1\n"


@pytest.mark.parametrize("limit", ["--min-free", "--min-free-inodes"])
def test_a_full_disk_is_brought_to_its_target(cluster: Platform, home: Path, limit: str) -> None:
    shown = json.loads(in_namespace(FULL, str(home), limit, "25%").stdout)
    assert shown["code"] == 0
    free, whole = (shown["free"], shown["blocks"]) if limit == "--min-free" else (shown["inodes"], shown["files"])
    assert free[0] < 0.2 * whole
    assert 0.25 * whole <= free[1] < 0.3 * whole, "it went past the target"
    assert shown["report"]["targets"][0]["reached"]


def test_a_target_that_can_not_be_met_ends_with_4(cluster: Platform, home: Path) -> None:
    shown = json.loads(in_namespace(FULL, str(home), "--min-free", "99%", "--keep-days", "25").stdout)
    assert shown["code"] == 4
    assert shown["report"]["kept"]["young"] > 0


def test_a_child_is_opened_likewise_on_kernels_without_openat2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    root = os.open(tmp_path, os.O_RDONLY)
    for known in (None, False):
        monkeypatch.setattr(trees, "_has_openat2", known)
        os.close(trees.open_child(root, "a"))
        with pytest.raises(OSError, match="link"):
            trees.open_child(root, "link")
        with pytest.raises(FileNotFoundError):
            trees.open_child(root, "b")
    os.close(root)
