"""Fan-out and chain of no-op Python tasks, against the limits of the machine in the same run.

    scripts/bench/run core [--database URL] [--isolation fork|reuse] [--repeat N]

Limits: (a) fork + exit + wait, one after the other, from a process that has loaded the same DAG file as the zygote has;
(b) one-row commits on the same database. Without --database: SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from opskit import config as configuration
from opskit.core.metastore import runs, schema
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import dag, dag_run, pool, task_instance
from opskit.system.wake import wake

FILES = {
    "w1_fanout": """
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def noop():
    return None

with DAG("w1_fanout", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=64) as dag:
    root = PythonOperator(task_id="root", python_callable=noop)
    sink = PythonOperator(task_id="sink", python_callable=noop)
    root >> [PythonOperator(task_id=f"t{i:03d}", python_callable=noop) for i in range(300)] >> sink
""",
    "w2_chain": """
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def noop():
    return None

with DAG("w2_chain", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    before = None
    for i in range(40):
        task = PythonOperator(task_id=f"t{i:03d}", python_callable=noop)
        if before is not None:
            before >> task
        before = task
""",
}

FORK = """
import gc, json, os, sys, time
from pathlib import Path
from opskit.core.dag.loading import load_file
load_file(Path(sys.argv[1]), Path(sys.argv[1]).parent)
import opskit.core.dag.execution
gc.collect(); gc.freeze()
rss = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
def rate(count, in_flight):
    start = time.perf_counter(); live = 0
    for _ in range(count):
        if os.fork() == 0:
            os._exit(0)
        live += 1
        if live == in_flight:
            os.wait(); live -= 1
    while live:
        os.wait(); live -= 1
    return count / (time.perf_counter() - start)
rate(100, 1)
print(json.dumps({"rss_mb": rss / 1024, "one": rate(600, 1), "three": rate(600, 3)}))
"""


def bare_forks(dags_folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(dags_folder / "w1_fanout.py")], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def commits_per_second(engine: Engine, seconds: float = 1.0) -> float:
    """One-row updates, each committed, on one connection."""
    count = 0
    with engine.connect() as connection:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.execute(text("UPDATE slot_pool SET slots = slots WHERE pool = 'default_pool'"))
            connection.commit()
            count += 1
    return count / seconds


class Cluster:
    """Worker, DAG processor and scheduler as processes in a temporary home."""

    def __init__(self, url: str, isolation: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="opskit-bench-"))
        self.environment = {
            **os.environ,
            "OPSKIT_HOME": str(self.home),
            "OPSKIT__CORE__ISOLATION": isolation,
            "OPSKIT__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
            "OPSKIT__CORE__PARALLELISM": "16",
            "OPSKIT__LOGGING__LOGGING_LEVEL": "WARNING",
        }
        if url:
            self.environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = url
        self.config = configuration.load(self.home, self.environment)
        (self.home / "dags").mkdir()
        for name, source in FILES.items():
            (self.home / "dags" / f"{name}.py").write_text(source)
        self.engine = open_engine(self.config)
        if url:
            schema.reset(self.engine)
        else:
            schema.migrate(self.engine)
        with transaction(self.engine) as connection:
            connection.execute(pool.update().values(slots=512))
        self.log = (self.home / "out.log").open("wb")
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "opskit", kind], env=self.environment, stdout=self.log, stderr=self.log
            )
            for kind in ("worker", "dag-processor", "scheduler")
        ]
        deadline = time.monotonic() + 30
        while len(self.rows(dag)) < len(FILES):
            if time.monotonic() > deadline:
                raise SystemExit((self.home / "out.log").read_text())
            time.sleep(0.05)

    def rows(self, table: Any) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(table)).all())

    def run(self, dag_id: str, number: int) -> tuple[float, list[Any]]:
        """Seconds from the start to the end of one run, and its task instances."""
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        with transaction(self.engine) as connection:
            runs.trigger(connection, dag_id, run_id=f"r{number}", logical_date=at, now=datetime.now(UTC))
        wake(self.config.run_folder, "scheduler")
        query = select(dag_run).where(dag_run.c.dag_id == dag_id, dag_run.c.run_id == f"r{number}")
        while True:
            time.sleep(0.1)
            with reading(self.engine) as connection:
                row = connection.execute(query).one()
                if row.state in ("success", "failed"):
                    instances = connection.execute(
                        select(task_instance).where(task_instance.c.dag_run_id == row.id)
                    ).all()
                    break
        if row.state != "success":
            raise SystemExit(f"{dag_id} failed: {[(i.task_id, i.state, i.reason) for i in instances][:5]}")
        return (row.end_date - row.start_date).total_seconds(), list(instances)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.engine.dispose()
        shutil.rmtree(self.home, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default=os.environ.get("OPSKIT_BENCH_DATABASE", ""))
    parser.add_argument("--isolation", choices=["fork", "reuse", "both"], default="both")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    for isolation in ("fork", "reuse") if options.isolation == "both" else (options.isolation,):
        cluster = Cluster(options.database, isolation)
        try:
            cluster.run("w1_fanout", 0)  # warm: zygotes, caches
            cluster.run("w2_chain", 0)
            forks = bare_forks(cluster.home / "dags")
            commits = commits_per_second(cluster.engine)
            fan_outs = [302 / cluster.run("w1_fanout", n)[0] for n in range(1, options.repeat + 1)]
            steps = [cluster.run("w2_chain", n)[0] / 40 * 1000 for n in range(1, options.repeat + 1)]
        finally:
            cluster.close()
        tasks, step = statistics.median(fan_outs), statistics.median(steps)
        floor = 1000 / forks["one"] + 1000 / commits
        name = cluster.engine.dialect.name
        fork, three = forks["one"], forks["three"]
        print(f"{name}, isolation = {isolation}, median of {options.repeat}, load average {os.getloadavg()[0]:.1f}")
        print(f"  limits   fork + exit + wait {fork:.0f}/s ({forks['rss_mb']:.0f} MB; 3 in flight {three:.0f}/s)")
        print(f"           commits {commits:.0f}/s")
        print(f"  fan-out  {tasks:.0f} tasks/s = {tasks / fork:.2f} of the bare fork rate   ({shown(fan_outs, 0)})")
        chain = f"{step:.2f} ms a step = {step / floor:.2f} x (fork + commit, {floor:.2f} ms)"
        print(f"  chain    {chain}   ({shown(steps, 2)})")


def shown(values: list[float], digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    main()
