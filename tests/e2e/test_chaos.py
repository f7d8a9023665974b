"""Processes are killed under load: no task is lost, none runs twice, none is killed by it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.core.metastore.tables import dag_run, task_instance
from tests.databases import Databases
from tests.e2e.cluster import LEDGER, Cluster
from tests.proxy import Proxy
from tests.waiting import wait_until

CHAIN = (
    LEDGER
    + """
import time
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def work(**context):
    note("start", **context)
    time.sleep(0.05)
    note("end", **context)

with DAG("chain", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    before = None
    for number in range(12):
        task = PythonOperator(task_id=f"t{number}", python_callable=work)
        if before is not None:
            before >> task
        before = task
"""
)

FAN_OUT = (
    LEDGER
    + """
import time
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def work(**context):
    note("start", **context)
    time.sleep(0.02)
    note("end", **context)

with DAG("fan_out", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=16) as dag:
    root = PythonOperator(task_id="root", python_callable=work)
    end = PythonOperator(task_id="end", python_callable=work)
    root >> [PythonOperator(task_id=f"t{number}", python_callable=work) for number in range(40)] >> end
"""
)

RETRIES = (
    LEDGER
    + """
from datetime import datetime, timedelta
from opskit import DAG
from opskit.operators import PythonOperator

def third_time(**context):
    note("start", **context)
    note("end", **context)
    if context["ti"].try_number < 3:
        raise RuntimeError("not yet")

def never(**context):
    note("start", **context)
    note("end", **context)
    raise RuntimeError("never")

with DAG("retries", schedule=None, start_date=datetime(2026, 1, 1),
         default_args={"retries": 2, "retry_delay": timedelta(seconds=0.2)}) as dag:
    good = PythonOperator(task_id="good", python_callable=third_time)
    bad = PythonOperator(task_id="bad", python_callable=never, retries=1)
    after = PythonOperator(task_id="after", python_callable=never)
    clean = PythonOperator(task_id="clean", python_callable=third_time, trigger_rule="all_done")
    bad >> after >> clean
    good >> clean
"""
)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, databases: Databases, home: Path) -> Iterator[Cluster]:
    url = databases.migrated(request.param)
    made = Cluster(home, url, environment={"OPSKIT__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false"})
    yield made
    made.stop()
    databases.drop(url)


def check_exactly_once(cluster: Cluster) -> None:
    """Every attempt that the metastore counts is in the ledger once, begun and ended."""
    starts, ends = cluster.attempts()
    runs = {row.id: row for row in cluster.rows(dag_run)}
    expected = set()
    for row in cluster.rows(task_instance):
        run = runs[row.dag_run_id]
        assert row.state in ("success", "failed", "upstream_failed"), (run.run_id, row.task_id, row.state, row.reason)
        assert row.reason is None or "lost" not in row.reason, row.reason
        expected |= {f"{run.dag_id} {run.run_id} {row.task_id} {number}" for number in range(1, row.try_number + 1)}
    assert set(starts) == expected
    assert {key for key, count in starts.items() if count != 1} == set()
    assert ends == starts


def check_states(cluster: Cluster) -> None:
    """Each DAG has ended as it must, whatever was killed."""
    wanted = {
        "retries": {
            "good": ("success", 3),
            "bad": ("failed", 2),
            "after": ("upstream_failed", 0),
            "clean": ("success", 3),
        }
    }
    runs = {row.id: row for row in cluster.rows(dag_run)}
    assert {row.state for row in runs.values()} == {"success"}
    for row in cluster.rows(task_instance):
        found = (row.state, row.try_number)
        assert found == wanted.get(runs[row.dag_run_id].dag_id, {}).get(row.task_id, ("success", 1)), row.task_id


def kill_under_load(cluster: Cluster, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    for name, text in (("chain", CHAIN), ("fan_out", FAN_OUT), ("retries", RETRIES)):
        cluster.write_dag(name, text)
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("chain", "fan_out", "retries")
    number = 0
    for _ in range(kills):
        active = cluster.run_states()["running"] + cluster.run_states()["queued"]
        while active < 4:
            number += 1
            cluster.trigger(chance.choice(["chain", "fan_out", "retries"]), number)
            active += 1
        time.sleep(chance.uniform(0.05, 1.0))  # the random moment is the test
        cluster.kill("scheduler")
        cluster.start("scheduler")
    cluster.wait_for_runs()
    assert number >= 3
    check_exactly_once(cluster)
    check_states(cluster)


@pytest.mark.parametrize("cluster", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_a_scheduler_killed_at_random_under_load_loses_nothing(cluster: Cluster) -> None:
    kill_under_load(cluster, kills=8, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", ["sqlite", "postgresql"], indirect=True)
def test_a_scheduler_killed_fifty_times_under_load_loses_nothing(cluster: Cluster) -> None:
    kill_under_load(cluster, kills=50, seed=2)


MANY = (
    LEDGER
    + """
from datetime import datetime
from opskit import DAG
from opskit.operators import PythonOperator

def work(**context):
    note("start", **context)
    note("end", **context)

for dag_number in range(8):
    with DAG(f"many{dag_number}", schedule=None, start_date=datetime(2026, 1, 1), max_active_tasks=16) as dag:
        root = PythonOperator(task_id="root", python_callable=work)
        end = PythonOperator(task_id="end", python_callable=work)
        root >> [PythonOperator(task_id=f"t{number}", python_callable=work) for number in range(TASKS - 2)] >> end
    globals()[f"many{dag_number}"] = dag
"""
)


def one_of_two_dies(cluster: Cluster, tasks: int) -> None:
    cluster.write_dag("many", MANY.replace("TASKS", str(tasks)))
    for kind in ("worker", "dag-processor"):
        cluster.start(kind)
    cluster.start("scheduler")
    cluster.start("scheduler", "scheduler2")
    cluster.wait_for_dags(*[f"many{number}" for number in range(8)])
    for number in range(8):
        cluster.trigger(f"many{number}", 1)
    total = 8 * tasks

    def done() -> int:
        return sum(row.state == "success" for row in cluster.rows(task_instance))

    wait_until(lambda: done() > total // 3, 120, every=0.1, what=cluster.story)
    cluster.kill("scheduler")
    cluster.wait_for_runs(240)
    assert done() == total
    check_exactly_once(cluster)
    check_states(cluster)


@pytest.mark.parametrize("cluster", ["postgresql", "mariadb"], indirect=True)
def test_one_of_two_schedulers_dies_in_the_middle(cluster: Cluster) -> None:
    one_of_two_dies(cluster, tasks=80 if "postgresql" in cluster.url else 40)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_one_of_two_schedulers_dies_in_the_middle_of_two_thousand_tasks(cluster: Cluster) -> None:
    one_of_two_dies(cluster, tasks=250)


def outages_under_load(databases: Databases, home: Path, outages: int, seconds: float) -> None:
    """The database goes away again and again while everything runs."""
    chance = random.Random(3)
    url = databases.migrated("postgresql")
    proxy = Proxy(url)
    cluster = Cluster(home, url, environment={"OPSKIT__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false"})
    cluster.environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = proxy.url
    try:
        for name, text in (("chain", CHAIN), ("fan_out", FAN_OUT), ("retries", RETRIES)):
            cluster.write_dag(name, text)
        started = [cluster.start(kind) for kind in ("worker", "dag-processor", "scheduler")]
        cluster.wait_for_dags("chain", "fan_out", "retries")
        number = 0
        for _ in range(outages):
            for dag_id in ("chain", "fan_out", "retries"):
                number += 1
                cluster.trigger(dag_id, number)
            time.sleep(chance.uniform(0.1, 1.0))  # the random moment is the test
            proxy.refuse()
            time.sleep(seconds)
            proxy.accept()
        cluster.wait_for_runs()
        assert [process.poll() for process in started] == [None, None, None], cluster.story()
        check_exactly_once(cluster)
        check_states(cluster)
    finally:
        cluster.stop()
        proxy.close()
        databases.drop(url)


def test_nobody_dies_of_a_database_that_goes_away_and_nothing_runs_twice(databases: Databases, home: Path) -> None:
    outages_under_load(databases, home, outages=3, seconds=2.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_nobody_dies_of_a_database_that_is_away_for_a_minute(databases: Databases, home: Path) -> None:
    outages_under_load(databases, home, outages=2, seconds=60.0)


@pytest.mark.parametrize("cluster", ["sqlite", "postgresql"], indirect=True)
def test_a_killed_worker_takes_its_attempts_with_it_and_their_retries_follow(cluster: Cluster) -> None:
    cluster.write_dag(
        "slow",
        LEDGER
        + """
import time
from datetime import datetime, timedelta
from opskit import DAG
from opskit.operators import PythonOperator

def work(**context):
    note("start", **context)
    if context["ti"].try_number == 1:
        time.sleep(60)
    note("end", **context)

with DAG("slow", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
    for number in range(4):
        PythonOperator(task_id=f"t{number}", python_callable=work, retries=1, retry_delay=timedelta(0))
    PythonOperator(task_id="once", python_callable=work)
""",
    )
    for kind in ("worker", "dag-processor", "scheduler"):
        cluster.start(kind)
    cluster.wait_for_dags("slow")
    cluster.trigger("slow", 1)
    wait_until(lambda: sum(cluster.attempts()[0].values()) == 5, 60, what=cluster.story)
    cluster.kill("worker")
    cluster.start("worker")
    cluster.wait_for_runs()
    starts, ends = cluster.attempts()
    assert set(starts.values()) == {1}
    assert sum(ends.values()) == 4  # the second tries
    rows = {row.task_id: row for row in cluster.rows(task_instance)}
    assert {task_id: (row.state, row.try_number) for task_id, row in rows.items()} == {
        **{f"t{number}": ("success", 2) for number in range(4)},
        "once": ("failed", 1),
    }
    assert "worker lost" in rows["once"].reason
