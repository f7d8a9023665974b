"""`opskit logs clean` on real trees, some of them hostile, with a real metastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import config, platforms
from opskit.core.metastore import audit
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.core.metastore.tables import dag_run, task_instance
from opskit.errors import GuardRefused, LockHeld, MetastoreUnavailable, UsageError
from opskit.ops import logs
from opskit.ops.logs_decide import Chooser
from opskit.ops.logs_policy import Wishes
from opskit.platforms.base import Platform
from opskit.system.locks import locked
from opskit.telemetry.task_logs import log_path
from tests.databases import Databases

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=40)
YOUNG = NOW - timedelta(days=20)


@pytest.fixture
def cluster(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    (home / "logs").mkdir()
    yield platforms.find(config.load())
    databases.drop(url)


def clean(platform: Platform, now: datetime = NOW, **options: Any) -> logs.LogsReport:
    """A real clean-up, where a test does not say otherwise."""
    wishes = Wishes(**{key: options.pop(key) for key in list(options) if key in Wishes.__dataclass_fields__})
    return logs.clean(platform, now=now, wishes=wishes, dry_run=options.pop("dry_run", False), **options)


def write(home: Path, path: str, at: datetime, text: str = "line\n") -> Path:
    file = home / "logs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (at.timestamp(), at.timestamp()))
    return file


def add_run(url: str, run_id: str, state: str, tasks: dict[str, str | None], map_index: int = -1) -> None:
    engine = open_engine(url)
    with transaction(engine) as connection:
        values = {"dag_id": "d", "run_id": run_id, "run_type": "manual", "state": state, "queued_at": OLD}
        count = connection.exec_driver_sql("SELECT count(*) FROM dag_run").scalar_one()
        dates = dict.fromkeys(
            ("logical_date", "data_interval_start", "data_interval_end"), OLD + timedelta(seconds=count)
        )
        number = connection.execute(dag_run.insert().values(**values, **dates)).inserted_primary_key[0]
        for task_id, task_state in tasks.items():
            connection.execute(
                task_instance.insert().values(dag_run_id=number, task_id=task_id, map_index=map_index, state=task_state)
            )
    engine.dispose()


def test_old_logs_go_and_leave_no_empty_directory(cluster: Platform, home: Path) -> None:
    old = write(home, log_path("d", "old", "t", -1, 1), OLD)
    mapped = write(home, log_path("d", "old", "m", 7, 2), OLD)
    young = write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    report = clean(cluster, now=NOW)
    assert not old.exists()
    assert not mapped.exists()
    assert young.exists()
    assert sorted(path.name for path in (home / "logs" / "dag_id=d").iterdir()) == ["run_id=new"]
    assert (report.logs, report.removed_logs, report.removed_directories) == (3, 2, 4)
    assert (report.size_bytes, report.removed_bytes) == (15, 10)
    assert report.kept == {"young": 1}


def test_a_second_run_removes_nothing(cluster: Platform, home: Path) -> None:
    write(home, log_path("d", "old", "t", -1, 1), OLD)
    write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    assert clean(cluster, now=NOW).removed_logs == 1
    again = clean(cluster, now=NOW)
    assert (again.removed_logs, again.removed_directories, again.logs) == (0, 0, 1)


def test_a_dry_run_says_the_same_and_removes_nothing(cluster: Platform, home: Path) -> None:
    for number in range(5):
        write(home, log_path("d", f"run{number}", "t", -1, 1), OLD)
        write(home, log_path("e", f"run{number}", "t", number, 1), OLD if number else YOUNG)
    write(home, "dag_id=d/run_id=run1/notes.txt", OLD)
    (home / "logs/dag_id=x/run_id=abandoned").mkdir(parents=True)
    os.utime(home / "logs/dag_id=x/run_id=abandoned", (OLD.timestamp(), OLD.timestamp()))
    before = sorted((home / "logs").rglob("*"))
    dry = clean(cluster, now=NOW, dry_run=True)
    assert sorted((home / "logs").rglob("*")) == before
    real = clean(cluster, now=NOW)
    assert (dry.removed_logs, dry.removed_bytes, dry.removed_directories) == (
        real.removed_logs,
        real.removed_bytes,
        real.removed_directories,
    )
    assert dry.kept == real.kept
    assert (home / "logs/dag_id=d/run_id=run1/notes.txt").exists()


HELD = ("queued", "running", "up_for_retry", "up_for_reschedule", "deferred", "restarting")
RUN_IDS = ("manual__2026-01-01T00:00:00+00:00", "odd/100 %\\'", "%41", "é" * 120)


def test_a_log_in_use_stays_on_every_database(home: Path, metastore_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", metastore_url)
    monkeypatch.setenv("OPSKIT__LOGS__KEEP_RUNS", "0")
    held, ended = [], []
    for run_id in RUN_IDS:
        add_run(metastore_url, run_id, "running", {**{state: state for state in HELD}, "ended": "success"})
        held += [write(home, log_path("d", run_id, state, -1, 2), OLD) for state in HELD]
        ended.append(write(home, log_path("d", run_id, "ended", -1, 1), OLD))
    add_run(metastore_url, "mapped", "running", {"held": "running"}, map_index=3)
    held.append(write(home, log_path("d", "mapped", "held", 3, 4), OLD))
    ended.append(write(home, log_path("d", "mapped", "held", 4, 1), OLD))
    report = clean(platforms.find(config.load()))
    assert [path for path in held if not path.exists()] == []
    assert [path for path in ended if path.exists()] == []
    assert report.kept == {"in use": len(held)}


def test_the_directory_of_a_run_that_has_not_ended_stays(cluster: Platform, home: Path) -> None:
    add_run(cluster.config.database_url, "r", "running", {"t": None})
    write(home, log_path("d", "r", "t", -1, 1), OLD)
    write(home, log_path("d", "other", "t", -1, 1), YOUNG)
    clean(cluster, now=NOW)
    assert [path.name for path in (home / "logs/dag_id=d/run_id=r").parent.iterdir() if "=r" in path.name] == [
        "run_id=r"
    ]


def test_nothing_goes_while_nobody_knows_what_is_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", "postgresql://nobody@127.0.0.1:1/none")
    old = write(home, log_path("d", "old", "t", -1, 1), OLD)
    with pytest.raises(MetastoreUnavailable):
        clean(platforms.find(config.load()), now=NOW)
    assert old.exists()


def test_links_and_other_files_stay(cluster: Platform, home: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    outside = write(precious, log_path("d", "r", "t", -1, 1), OLD)
    write(home, log_path("d", "old", "t", -1, 1), OLD)
    write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    folder = home / "logs" / "dag_id=d" / "run_id=old" / "task_id=t"
    (folder / "attempt=2.log").symlink_to(outside)
    os.link(outside, folder / "not-a-log")
    (home / "logs" / "dag_id=link").symlink_to(precious / "logs" / "dag_id=d")
    os.mkfifo(folder / "attempt=3.log")
    for name in ("attempt=2.log", "attempt=3.log"):
        os.utime(folder / name, (OLD.timestamp(), OLD.timestamp()), follow_symlinks=False)
    report = clean(cluster, now=NOW)
    assert outside.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["attempt=2.log", "attempt=3.log", "not-a-log"]
    assert report.removed_logs == 1
    assert report.kept == {"no regular file": 3, "no log": 1, "young": 1}


def test_a_folder_that_holds_no_task_logs_is_refused(cluster: Platform, home: Path) -> None:
    (home / "logs" / "letters").mkdir()
    with pytest.raises(GuardRefused, match="holds no task logs"):
        clean(cluster, now=NOW)


@pytest.mark.parametrize("folder", ["/", "/etc", "/var/log"])
def test_a_protected_folder_is_refused(cluster: Platform, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setenv("OPSKIT__LOGGING__BASE_LOG_FOLDER", folder)
    with pytest.raises(GuardRefused, match="protected"):
        clean(platforms.find(config.load()), now=NOW)


def test_a_missing_folder_is_no_success(cluster: Platform, home: Path) -> None:
    (home / "logs").rmdir()
    with pytest.raises(UsageError, match="no directory"):
        clean(cluster, now=NOW)


def test_a_wrong_clock_removes_nothing(cluster: Platform, home: Path) -> None:
    files = [write(home, log_path("d", f"r{number}", "t", -1, 1), NOW) for number in range(50)]
    with pytest.raises(GuardRefused, match="50 of 50 logs would go"):
        clean(cluster, now=NOW + timedelta(days=3650))
    with pytest.raises(GuardRefused, match="in the future"):
        clean(cluster, now=NOW - timedelta(days=1), max_age_days=0, keep_days=0)
    assert all(file.exists() for file in files)
    assert clean(cluster, now=NOW + timedelta(days=3650), force=True).removed_logs == 50


def test_two_at_once_are_refused(cluster: Platform) -> None:
    with locked(cluster.config.run_folder, "logs"), pytest.raises(LockHeld):
        clean(cluster, now=NOW)


def test_what_was_removed_is_in_the_audit_log(cluster: Platform, home: Path) -> None:
    write(home, log_path("d", "old", "t", -1, 1), OLD)
    write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    clean(cluster, now=NOW)
    engine = open_engine(cluster.config)
    with reading(engine) as connection:
        (line,) = audit.read(connection, event="logs clean")
    engine.dispose()
    assert line.extra["logs"] == 1


def test_a_log_that_is_written_during_the_clean_up_stays(
    cluster: Platform, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(home, log_path("d", "old", "t", -1, 1), OLD)
    write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    look = Chooser.why

    def look_and_write(chooser: Chooser, *rest: Any) -> str:
        why = look(chooser, *rest)
        file.write_text("still at it\n")
        return why

    monkeypatch.setattr(Chooser, "why", look_and_write)
    report = clean(cluster, now=NOW)
    assert file.read_text() == "still at it\n"
    assert report.removed_logs == 0


def test_the_command_reports_in_json_and_by_its_exit_code(
    cluster: Platform, home: Path, opskit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    write(home, log_path("d", "old", "t", -1, 1), OLD)
    write(home, log_path("d", "new", "t", -1, 1), YOUNG)
    dry = json.loads(opskit("logs", "clean", "--dry-run", "--output", "json").stdout)
    assert (dry["dry_run"], dry["removed_logs"], dry["logs"]) == (True, 1, 2)
    done = opskit("logs", "clean", "--yes")
    assert "removed 1 of 2 logs" in done.stdout
    assert "kept 1: young" in done.stdout
    refused = opskit("logs", "clean", "--max-age-days", "0", "--keep-days", "0", check=False)
    assert refused.returncode == 16
    assert "more than 95 %" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_memory_does_not_grow_with_the_tree(cluster: Platform, home: Path) -> None:
    program = """
import resource, sys
from datetime import UTC, datetime
from opskit import config, platforms
from opskit.ops import logs
platform = platforms.find(config.load())
logs.clean(platform, now=datetime.now(UTC), dry_run=True, force=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak_kib() -> int:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return int(done.stdout)

    write(home, log_path("d", "r", "t", -1, 1), OLD)
    small = peak_kib()
    for run in range(100):
        for task in range(60):
            write(home, log_path("d", f"run{run}", f"task{task}", -1, 1), OLD, "")
    assert peak_kib() < small + 4096
