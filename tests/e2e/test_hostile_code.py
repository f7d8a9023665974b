"""DAG files and tasks that hang, exit, crash or eat memory hurt only themselves, and say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.core.metastore.tables import dag, dag_file, task_instance
from tests.databases import Databases
from tests.e2e.cluster import Cluster
from tests.waiting import wait_until

GOOD = """
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

with DAG("good", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    PythonOperator(task_id="work", python_callable=lambda: "done")
"""

# What each file does after it has begun like a DAG file, and what its import error must say.
FILES = {
    "hangs": ("while True: pass", "timed out after 2 s"),
    "exits": ("import sys; sys.exit(7)", "sys.exit(7)"),
    "leaves": ("import os; os._exit(9)", "exit code 9"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "eats": ("x = []\nwhile True: x.append(bytearray(16 << 20))", "memory"),
    "broken": ("this is no python", "SyntaxError"),
    "raises": ("raise ValueError('what a day')", "what a day"),
}

TASKS = """
import ctypes, os, sys, time
from datetime import datetime, timedelta
from opskit import DAG
from opskit.operators import PythonOperator

def eat():
    held = []
    while True:
        held.append(bytearray(16 << 20))

def hang():
    while True:
        pass

WORK = {
    "exits": lambda: sys.exit(7),
    "leaves": lambda: os._exit(9),
    "crashes": lambda: ctypes.string_at(0),
    "eats": eat,
    "hangs": hang,
    "killed": lambda: os.kill(os.getpid(), 9),
    "fine": lambda: None,
}

with DAG("hostile", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    for name, work in WORK.items():
        PythonOperator(task_id=name, python_callable=work,
                       execution_timeout=timedelta(seconds=1) if name == "hangs" else None)
"""

REASONS = {
    "exits": "7",
    "leaves": "exit code 9",
    "crashes": "SIGSEGV",
    "eats": "emory",
    "hangs": "imeout",
    "killed": "SIGKILL",
}


@pytest.fixture
def cluster(databases: Databases, home: Path) -> Iterator[Cluster]:
    url = databases.migrated("sqlite")
    made = Cluster(
        home,
        url,
        environment={
            "OPSKIT__CORE__DAGBAG_IMPORT_TIMEOUT": "2",
            "OPSKIT__CORE__DAG_FILE_MEMORY_LIMIT": "256",
            "OPSKIT__CORE__TASK_MEMORY_LIMIT": "256",
        },
    )
    yield made
    made.stop()
    databases.drop(url)


def test_a_hostile_dag_file_is_an_import_error_with_its_reason_and_the_others_go_on(cluster: Cluster) -> None:
    for name, (code, _) in FILES.items():
        cluster.write_dag(name, f"# a DAG file that imports opskit\n{code}\n")
    cluster.write_dag("good", GOOD)
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("good")
    cluster.trigger("good", 1)
    cluster.wait_for_runs()
    assert [row.state for row in cluster.rows(task_instance)] == ["success"]

    def errors() -> dict[str, str]:
        return {Path(row.path).stem: row.import_error for row in cluster.rows(dag_file) if row.import_error}

    wait_until(lambda: set(errors()) == set(FILES), 60, what=lambda: str(errors().keys()))
    for name, (_, reason) in FILES.items():
        assert reason in errors()[name], (name, errors()[name])
    assert [row.dag_id for row in cluster.rows(dag)] == ["good"]


def test_a_hostile_task_is_a_failed_attempt_with_its_reason_in_the_log(cluster: Cluster) -> None:
    cluster.write_dag("hostile", TASKS)
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("hostile")
    cluster.trigger("hostile", 1)
    cluster.wait_for_runs()
    states = {row.task_id: row.state for row in cluster.rows(task_instance)}
    assert states == {**dict.fromkeys(REASONS, "failed"), "fine": "success"}
    for name, reason in REASONS.items():
        log = cluster.home / "logs" / "dag_id=hostile" / "run_id=r1" / f"task_id={name}" / "attempt=1.log"
        assert reason in log.read_text(), (name, log.read_text())
