"""`opskit logs clean` against `find -delete` and a `find … -exec rm` per file, on equal trees in the same run.

    scripts/bench/logs.py [--files N] [--folder FOLDER] [--repeat N]

The tree: a directory for each log and each run, nine of ten logs expired, a SQLite metastore that knows all of them.
`-exec rm` is measured on a tenth of the files at most, and its figures are multiplied.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TASKS = 10
RUNS = 200
DAY = 86400.0
OPSKIT = """
import sys
from opskit import cli
code = cli.run(sys.argv[1:])
status = open("/proc/self/status").read()
print("peak", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""
"""The peak is that of the program alone: ru_maxrss also counts the process that it was forked from."""


@dataclass(frozen=True)
class Cost:
    wall: float
    user: float
    system: float
    peak_mib: float = 0.0

    @property
    def cpu(self) -> float:
        return self.user + self.system

    def times(self, factor: float) -> Cost:
        return Cost(self.wall * factor, self.user * factor, self.system * factor)

    def __str__(self) -> str:
        peak = f", peak {self.peak_mib:.0f} MiB" if self.peak_mib else ""
        return f"{self.wall:.1f} s, CPU {self.cpu:.1f} s ({self.user:.1f} + {self.system:.1f}){peak}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--folder", default="/var/tmp", help="on the disk that is to be measured")
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="opskit-bench-logs-", dir=arguments.folder))
    try:
        for _ in range(arguments.repeat):
            measure(place, arguments.files)
        grow(place)
    finally:
        shutil.rmtree(place)
    return 0


def measure(place: Path, files: int) -> None:
    expired = ["-type", "f", "-mtime", "+30"]
    empty = ["find", "logs", "-mindepth", "1", "-type", "d", "-empty", "-delete"]
    sample = min(files, max(2_000, files // 10))
    costs = {}

    home = make(place / "ours", files)
    costs["opskit"] = run([sys.executable, "-c", OPSKIT, "logs", "clean", "--yes"], home)
    left = count(home)
    shutil.rmtree(home)

    home = make(place / "delete", files)
    first = run(["find", "logs", *expired, "-delete"], home)
    costs["find -delete, twice"] = add(first, run(empty, home))
    assert count(home) == left, "they did not remove the same logs"
    shutil.rmtree(home)

    home = make(place / "rm", sample)
    first = run(["find", "logs", *expired, "-exec", "rm", "-f", "{}", ";"], home)
    costs[f"find -exec rm, {sample:,} files, multiplied"] = add(first, run(empty, home)).times(files / sample)
    shutil.rmtree(home)

    ours = costs["opskit"]
    print(
        f"{files:,} logs in {files + files // TASKS + files // TASKS // RUNS:,} directories, {files - left:,} expired"
    )
    for name, cost in costs.items():
        ratio = (
            "" if cost is ours else f"; opskit's share: CPU {ours.cpu / cost.cpu:.3f}, wall {ours.wall / cost.wall:.2f}"
        )
        print(f"  {name}: {cost}{ratio}")


def grow(place: Path) -> None:
    """Peak memory on a small and on a ten times larger tree."""
    peaks = []
    for files in (20_000, 200_000):
        home = make(place / "grow", files)
        dry = [sys.executable, "-c", OPSKIT, "logs", "clean", "--dry-run"]
        peaks.append(run(dry, home).peak_mib)
        shutil.rmtree(home)
    print(f"  peak memory, dry run: {peaks[0]:.1f} MiB at 20,000 logs, {peaks[1]:.1f} MiB at 200,000")


def make(home: Path, files: int) -> Path:
    """An OPSKIT_HOME with logs of the past, and a metastore in which their runs have ended."""
    home.mkdir()
    environment = {**os.environ, "OPSKIT_HOME": str(home)}
    subprocess.run([sys.executable, "-m", "opskit", "db", "migrate"], env=environment, check=True, capture_output=True)
    now = time.time()
    runs = files // TASKS
    rows, instances = [], []
    for number in range(runs):
        dag, run_id = f"dag{number // RUNS:04}", f"scheduled__{number % RUNS:06}"
        is_old = number % TASKS != 0
        at = now - (60 if is_old else 10) * DAY
        folder = home / "logs" / f"dag_id={dag}" / f"run_id={run_id}"
        for task in range(TASKS):
            directory = folder / f"task_id=task{task}"
            directory.mkdir(parents=True)
            path = directory / "attempt=1.log"
            path.write_bytes(b"x" * 200)
            os.utime(path, (at, at))
            instances.append((number + 1, f"task{task}"))
        rows.append((number + 1, dag, run_id, f"2026-01-01 00:00:00.{number:06}"))
    with sqlite3.connect(home / "opskit.db") as connection:
        connection.executemany(
            "INSERT INTO dag_run (id, dag_id, run_id, run_type, state, logical_date, data_interval_start,"
            " data_interval_end, conf, queued_at) VALUES (?1, ?2, ?3, 'scheduled', 'success', ?4, ?4, ?4, '{}', ?4)",
            rows,
        )
        connection.executemany(
            "INSERT INTO task_instance (dag_run_id, task_id, map_index, state, try_number, max_tries, dispatches,"
            " operator, pool, pool_slots, priority_weight)"
            " VALUES (?, ?, -1, 'success', 1, 0, 1, '', 'default_pool', 1, 1)",
            instances,
        )
    os.sync()
    return home


def run(command: list[str], home: Path) -> Cost:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        command,
        cwd=home,
        env={**os.environ, "OPSKIT_HOME": str(home), "OPSKIT__LOGS__KEEP_RUNS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = process.communicate()[1]
    assert process.returncode == 0, f"{command} ended with {process.returncode}: {said}"
    peak = int(said.split()[-1]) / 1024 if "peak" in said else 0.0
    os.sync()  # what the journal still has to write is part of the wall time
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, peak)


def add(one: Cost, two: Cost) -> Cost:
    return Cost(one.wall + two.wall, one.user + two.user, one.system + two.system)


def count(home: Path) -> int:
    done = subprocess.run(["find", "logs", "-type", "f"], cwd=home, capture_output=True, check=True)
    return done.stdout.count(b"\n")


if __name__ == "__main__":
    sys.exit(main())
