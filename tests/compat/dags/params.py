"""Params of the DAG and of tasks; Param objects; what a task gets to see."""

from datetime import datetime

from airflow import DAG
from airflow.models.param import Param
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator


def show(params):
    return {name: params[name] for name in sorted(params)}


with DAG(
    "params",
    schedule="@daily",
    catchup=False,
    start_date=datetime(2024, 1, 1),
    default_args={"params": {"from_default_args": 1}},
    params={
        "plain": "text",
        "number": Param(5, type="integer", minimum=1),
        "choice": Param("a", enum=["a", "b"]),
        "nullable": Param(None, type=["null", "string"]),
        "listed": Param([1, 2], type="array"),
        "nested": {"deep": {"er": 1}},
    },
) as dag:
    PythonOperator(task_id="show", python_callable=show)
    PythonOperator(task_id="own", python_callable=show, params={"plain": "of the task", "only_here": True})
    BashOperator(
        task_id="render", bash_command="echo {{ params.number }} {{ params.nested.deep.er }} {{ params.listed[1] }}"
    )
    PythonOperator(
        task_id="dump", python_callable=lambda params: params.dump() if hasattr(params, "dump") else dict(params)
    )
