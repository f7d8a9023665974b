"""`opskit db clean` while a scheduler works on the same tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from opskit.core.metastore.engine import Engine, reading, transaction
from opskit.core.metastore.tables import dag_run, task_instance
from tests.databases import Databases
from tests.e2e.cluster import Cluster
from tests.e2e.test_chaos import FAN_OUT

RUNS, TASKS = 2_000, 5


@pytest.fixture(params=["postgresql", "mariadb"])
def cluster(request: pytest.FixtureRequest, home: Path, databases: Databases) -> Iterator[Cluster]:
    url = databases.migrated(request.param)
    made = Cluster(home, url, environment={"OPSKIT__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false"})
    yield made
    made.stop()
    databases.drop(url)


def add_history(engine: Engine) -> None:
    """Old runs of the DAG that will run, in the first partition; new runs come into the next one."""
    at = datetime.now(UTC) - timedelta(days=200)
    with transaction(engine) as connection:
        connection.execute(
            insert(dag_run),
            [
                {
                    "id": number,
                    "dag_id": "fan_out",
                    "run_id": f"old{number}",
                    "run_type": "manual",
                    "state": "success",
                    **dict.fromkeys(
                        ("logical_date", "data_interval_start", "data_interval_end", "queued_at", "end_date"),
                        at + timedelta(seconds=number),
                    ),
                    "conf": "{}",
                }
                for number in range(1, RUNS + 1)
            ],
        )
        connection.execute(
            insert(task_instance),
            [
                {"dag_run_id": number, "task_id": f"t{task}", "map_index": -1, "state": "success"}
                for number in range(1, RUNS + 1)
                for task in range(TASKS)
            ],
        )
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT setval('dag_run_id_seq', 10500)")
    if engine.dialect.name != "postgresql":
        with transaction(engine) as connection:
            connection.exec_driver_sql("ALTER TABLE dag_run AUTO_INCREMENT = 10501")


def test_a_scheduler_at_work_loses_nothing_and_waits_for_nobody(cluster: Cluster) -> None:
    add_history(cluster.engine)
    cluster.write_dag("fan_out", FAN_OUT)
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("fan_out")
    for number in range(3):
        cluster.trigger("fan_out", number)
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "db", "clean", "--output", "json"],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    cluster.wait_for_runs()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["done"]
    # The new runs are the newest of their DAG, or (when they have not succeeded yet) the last old one is.
    assert RUNS - 1 <= report["rows"]["dag_run"] <= RUNS
    assert report["rows"]["task_instance"] == report["rows"]["dag_run"] * TASKS
    with reading(cluster.engine) as connection:
        left = connection.execute(select(func.count()).where(task_instance.c.dag_run_id <= RUNS)).scalar_one()
    assert left == (RUNS - report["rows"]["dag_run"]) * TASKS
    starts, ends = cluster.attempts()
    assert len(starts) == 3 * 42
    assert set(starts.values()) == set(ends.values()) == {1}
    assert "lock" not in cluster.output("scheduler").lower()
