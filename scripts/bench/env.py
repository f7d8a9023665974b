"""Drift of two environments with 5,000 connections and 5,000 variables each, as the command runs it.

Prints wall and CPU seconds of `opskit env drift` and of `opskit env apply` again (0 writes), against one plain read of
the same rows through the bare driver plus `import click`, in the same run. The aim for the drift: 2 s.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import config as configuration
from opskit import platforms
from opskit.core.metastore.engine import open_engine
from opskit.core.metastore.schema import migrate
from opskit.platforms.configuration import Write

_READ = """
import sqlite3, sys, click
for path in sys.argv[1:]:
    database = sqlite3.connect(path)
    for table in ("connection", "variable"):
        database.execute(f"SELECT * FROM {table}").fetchall()
"""


def measure(
    command: list[str], environment: Mapping[str, str], rounds: int, codes: tuple[int, ...]
) -> tuple[float, float]:
    """Medians of wall and CPU seconds of a process."""
    walls, processors = [], []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode not in codes:
            raise SystemExit(done.stderr.decode())
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(processors)


def fill(home: Path, name: str, count: int, value: Callable[[int], str]) -> None:
    home.mkdir()
    (home / "opskit.toml").write_text(f'[env]\nname = "{name}"\n')
    config = configuration.load(home, {})
    engine = open_engine(config)
    migrate(engine)
    engine.dispose()
    writes: list[Write] = []
    for number in range(count):
        fields: dict[str, Any] = {
            "conn_type": "postgres",
            "description": None,
            "host": f"db{number % 40}.example.org",
            "login": "etl",
            "password": value(number),
            "schema": "warehouse",
            "port": 5432,
            "extra": {"sslmode": "require", "options": {"application_name": f"job {number}"}, "token": value(number)},
        }
        writes.append(Write("connections", f"pg_{number:05d}", fields))
        writes.append(Write("variables", f"variable_{number:05d}", {"value": f"value {number}", "description": None}))
    platforms.find(config).configuration.write(writes, lambda *_: True, datetime.now(UTC), "bench", {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000, help="in each environment")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a"), Path(folder, "b")
        half = options.objects // 2
        fill(first, "a", half, lambda number: f"secret {number}")
        fill(second, "b", half, lambda number: f"secret {number + (number % 500 == 0)}")
        environment = {**os.environ, "OPSKIT_HOME": str(first)}
        opskit = [sys.executable, "-m", "opskit", "env"]
        export = str(Path(folder, "a.json"))
        subprocess.run([*opskit, "export", export], env=environment, check=True, capture_output=True)
        databases = [str(home / "opskit.db") for home in (first, second)]
        rows = {
            "plain read + import click": ([sys.executable, "-c", _READ, *databases], (0,)),
            "opskit env drift, two homes": ([*opskit, "drift", str(second)], (5,)),
            "opskit env drift, file and home": ([*opskit, "drift", export], (0,)),
            "opskit env apply, nothing to do": ([*opskit, "apply", export, "--yes"], (0,)),
        }
        measured = {
            name: measure(command, environment, options.rounds, codes) for name, (command, codes) in rows.items()
        }
    base = measured["plain read + import click"]
    for name, (wall, processor) in measured.items():
        print(
            f"{name:32} {wall:6.2f} s ({wall / base[0]:5.1f} x)  CPU {processor:6.2f} s ({processor / base[1]:5.1f} x)"
        )
    print("aim: drift 2 s")


if __name__ == "__main__":
    main()
