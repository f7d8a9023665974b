"""What templates and functions read from the DAG, the run and the environment."""

import os
from datetime import datetime

import pendulum
from airflow import DAG
from airflow.decorators import task
from airflow.operators.bash import BashOperator

with DAG(
    "facts",
    schedule="0 6 * * 1-5",
    start_date=pendulum.datetime(2024, 1, 1, tz="Europe/Berlin"),
    catchup=False,
    default_args={"owner": "ann", "email": ["a@example.com", "b@example.com"]},
) as dag:
    BashOperator(task_id="start", bash_command="echo '{{ dag.start_date.isoformat() }} {{ dag.timezone.name }}'")
    BashOperator(task_id="kind", bash_command="echo '{{ dag_run.run_type }} {{ dag_run.state }}'")
    BashOperator(task_id="macros", bash_command="echo {{ macros.yaml is defined }} {{ macros.json.dumps([1]) }}")

    @task
    def same(dag_run=None):
        return [dag_run.run_type == "manual", dag_run.state == "running"]

    @task
    def environment():
        return {name: os.environ.get(f"AIRFLOW_CTX_{name}") for name in ("DAG_OWNER", "DAG_EMAIL", "TRY_NUMBER")}

    @task
    def positional(a=None, *args, ds=None, ti=None):
        return [a, list(args), ds, ti.task_id]

    same()
    environment()
    positional(1)

assert isinstance(dag.start_date, datetime)
