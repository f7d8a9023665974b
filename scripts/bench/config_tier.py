"""`opskit backup --tier config` as a process, against `python -c "import click"` in the same run: seconds and ratios.

    scripts/bench/config_tier.py [--server URL] [--repeat N]

The metastore holds 200 connections, 500 variables, 30 pools and 300 DAGs. The server (default: SQLite, then
OPSKIT_TEST_POSTGRES_URL and OPSKIT_TEST_MARIADB_URL) must allow making databases.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import backup as plain
from sqlalchemy import insert, update

from opskit import config as settings
from opskit.core.metastore import tables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.schema import migrate

CLICK = [sys.executable, "-c", "import click"]
CAPTURE = [sys.executable, "-m", "opskit", "backup", "--tier", "config", "-o", "json"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", help="postgresql://…/ or mysql://…/ or sqlite")
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    known = ["sqlite", os.environ.get("OPSKIT_TEST_POSTGRES_URL"), os.environ.get("OPSKIT_TEST_MARIADB_URL")]
    for server in arguments.server or [url for url in known if url]:
        measure(server, arguments.repeat)
    return 0


def measure(server: str, repeat: int) -> None:
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        home = Path(folder)
        url, drop = plain.make_database(server, home)
        try:
            environ = {**os.environ, "OPSKIT_HOME": folder, "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
            fill(url, home)
            run(CAPTURE, environ)
            click = [cost(CLICK, environ) for _ in range(repeat)]
            same = [cost(CAPTURE, environ) for _ in range(repeat)]
            fresh = [cost(CAPTURE, environ, lambda: change(url)) for _ in range(repeat)]
            size = json.loads(run(CAPTURE, environ, lambda: change(url)))["size_bytes"]
        finally:
            drop()
    base = statistics.median(wall for wall, _ in click)
    said = []
    for name, costs in (("unchanged", same), ("a new state", fresh)):
        wall, cpu = (statistics.median(values) for values in zip(*costs, strict=True))
        said.append(f"{name} {wall:.3f} s (CPU {cpu:.3f} s), ratio {wall / base:.1f}")
    kind = url.partition(":")[0]
    print(f"configuration tier on {kind}: {'; '.join(said)}; import click {base:.3f} s; {size:,} bytes stored")


def cost(command: list[str], environ: dict[str, str], before: Callable[[], None] | None = None) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    if before:
        before()
    used, started = cpu_of_children(), time.monotonic()
    run(command, environ)
    return time.monotonic() - started, cpu_of_children() - used


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(command: list[str], environ: dict[str, str], before: Callable[[], None] | None = None) -> str:
    if before:
        before()
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


def fill(url: str, home: Path) -> None:
    environ = {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
    hide = open_cipher(settings.load(home, environ)).encrypt
    secret, extra = hide("a password of some length"), hide(json.dumps({"token": "x" * 200}))
    connections = [
        {"conn_id": f"conn_{n}", "conn_type": "http", "host": f"host-{n}", "password": secret, "extra": extra}
        for n in range(200)
    ]
    dags = [{"dag_id": f"dag_{n}", "fileloc": "x.py", "is_paused": n % 2 == 0, "version_hash": ""} for n in range(300)]
    engine = open_engine(url)
    migrate(engine)
    with transaction(engine) as connection:
        connection.execute(insert(tables.connection), [{**row, "is_encrypted": True} for row in connections])
        variables = [{"key": f"key_{n}", "val": extra, "is_encrypted": True} for n in range(500)]
        connection.execute(insert(tables.variable), variables)
        connection.execute(insert(tables.pool), [{"pool": f"pool_{n}", "slots": n} for n in range(30)])
        connection.execute(insert(tables.dag), [{**row, "is_active": True} for row in dags])
    engine.dispose()


def change(url: str) -> None:
    engine = open_engine(url)
    with transaction(engine) as connection:
        only = tables.pool.c.pool == "pool_1"
        connection.execute(update(tables.pool).where(only).values(slots=tables.pool.c.slots + 1))
    engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
