"""Operators whose processes matter, in a cluster of real ones: other Pythons, sub-DAGs, runs of other DAGs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.core.metastore.tables import dag_run, task_instance, xcom
from tests.databases import Databases
from tests.e2e.cluster import Cluster
from tests.waiting import wait_until

DAGS = f"""
import sys
from datetime import datetime

from opskit import DAG, Variable, task
from opskit.operators import (
    BashOperator, ExternalPythonOperator, PythonOperator, SubDagOperator, TriggerDagRunOperator,
)
from opskit.sensors import ExternalTaskSensor

START = datetime(2026, 1, 1)

def elsewhere(n, dag_run, logical_date):
    return [n, dag_run.conf["x"], logical_date.year]

def forever():
    import os, time
    open(os.environ["AIRFLOW_HOME_OF_TEST"] + "/pid", "w").write(str(os.getpid()))
    time.sleep(600)

def inside(ti):
    Variable.set("seen", "from inside")
    return ti.dag_id

with DAG("main.section", schedule="@daily", start_date=START) as section:
    PythonOperator(task_id="inside", python_callable=inside) >> BashOperator(
        task_id="after", bash_command="echo {{{{ ti.xcom_pull('inside') }}}}"
    )

with DAG("main", schedule=None, start_date=START, catchup=False) as dag:
    ExternalPythonOperator(task_id="python", python={sys.executable!r}, python_callable=elsewhere, op_args=[40])
    SubDagOperator(task_id="section", subdag=section) >> BashOperator(
        task_id="told", bash_command="echo {{{{ var.value.seen }}}}"
    )
    TriggerDagRunOperator(
        task_id="trigger", trigger_dag_id="other", trigger_run_id="mine", logical_date="{{{{ logical_date }}}}",
        wait_for_completion=True, poke_interval=0.1, conf={{"x": "{{{{ dag_run.conf['x'] }}}}"}},
    ) >> ExternalTaskSensor(
        task_id="sees", external_dag_id="other", external_task_id="work", check_existence=True, poke_interval=0.1,
        timeout=30,
    )
    TriggerDagRunOperator(task_id="paused", trigger_dag_id="main.section", fail_when_dag_is_paused=True)

with DAG("other", schedule=None, start_date=START) as other:
    BashOperator(task_id="work", bash_command="echo {{{{ dag_run.conf['x'] }}}}")

with DAG("long", schedule=None, start_date=START, dagrun_timeout=None) as long:
    ExternalPythonOperator(
        task_id="forever", python={sys.executable!r}, python_callable=forever, execution_timeout=None,
    )
"""


@pytest.fixture
def cluster(home: Path, databases: Databases) -> Iterator[Cluster]:
    url = databases.migrated("sqlite")
    made = Cluster(home, url, environment={"AIRFLOW_HOME_OF_TEST": str(home)})
    made.write_dag("file", DAGS)
    for kind in ("worker", "scheduler", "dag-processor"):
        made.start(kind)
    yield made
    made.stop()
    databases.drop(url)


def test_operators_do_their_work_in_the_processes_of_a_worker(cluster: Cluster) -> None:
    cluster.wait_for_dags("main", "other", "long")
    cluster.trigger("main", 1, conf={"x": 2})
    cluster.trigger("long", 1)

    def ended() -> bool:
        return any(row.run_id == "r1" and row.state == "failed" for row in cluster.rows(dag_run))

    wait_until(ended, 90.0, every=0.1, what=cluster.story)
    states = {row.task_id: (row.state, row.reason) for row in cluster.rows(task_instance)}
    assert states["paused"][0] == "failed"
    assert "Dag main.section is paused" in str(states["paused"][1])
    assert {name: state for name, (state, _) in states.items() if name not in ("paused", "forever")} == {
        "python": "success",
        "section": "success",
        "told": "success",
        "trigger": "success",
        "sees": "success",
        "work": "success",
    }
    values = {row.task_id: json.loads(row.value) for row in cluster.rows(xcom) if row.key == "return_value"}
    assert values == {"python": [40, 2, 2026], "told": "from inside", "work": "2"}
    pid_file = cluster.home / "pid"
    wait_until(pid_file.exists, 30.0, what="the other Python")
    pid = int(wait_until(pid_file.read_text, 10.0, what="its pid"))
    cluster.kill("worker", signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20.0, what="the end of the other Python with its worker")
