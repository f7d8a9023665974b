"""Forms of xcom_push and xcom_pull."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator


def push(ti):
    ti.xcom_push(key="a", value=1)
    ti.xcom_push("b", {"x": [1]})
    ti.xcom_push(key="a", value=2)
    return "returned"


def fails(ti):
    ti.xcom_push(key="a", value="before the failure")
    raise ValueError("on purpose")


def pull(ti):
    return [
        ti.xcom_pull(task_ids="push"),
        ti.xcom_pull(task_ids="push", key="a"),
        ti.xcom_pull("push", key="b"),
        list(ti.xcom_pull(task_ids=["push", "other"])),
        list(ti.xcom_pull(task_ids=["push", "nobody"])),
        ti.xcom_pull(task_ids="nobody"),
        ti.xcom_pull(task_ids="push", key="nothing", default="d"),
        ti.xcom_pull(task_ids="fails", key="a"),
        ti.xcom_pull(task_ids="push", dag_id="xcom_pulls", key="a"),
    ]


with DAG("xcom_pulls", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    pushing = PythonOperator(task_id="push", python_callable=push)
    other = PythonOperator(task_id="other", python_callable=lambda: "o")
    failing = PythonOperator(task_id="fails", python_callable=fails)
    pulling = PythonOperator(task_id="pull", python_callable=pull, trigger_rule="all_done")
    [pushing, other, failing] >> pulling
    pushing >> BashOperator(
        task_id="template",
        bash_command="echo {{ ti.xcom_pull('push') }} {{ ti.xcom_pull(task_ids='push', key='b')['x'][0] }}",
    )
    PythonOperator(
        task_id="output", python_callable=lambda *values: list(values), op_args=[pushing.output, pushing.output["a"]]
    )
    PythonOperator(task_id="kwargs", python_callable=lambda value: value, op_kwargs={"value": other.output})
