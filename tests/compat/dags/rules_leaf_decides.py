"""The state of a run is that of its leaves."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def fail():
    raise ValueError("on purpose")


with DAG("leaf_saves", schedule=None, start_date=datetime(2024, 1, 1)) as saved:
    PythonOperator(task_id="bad", python_callable=fail) >> EmptyOperator(task_id="end", trigger_rule="all_done")

with DAG("leaf_fails", schedule=None, start_date=datetime(2024, 1, 1)) as lost:
    EmptyOperator(task_id="start") >> [
        PythonOperator(task_id="bad", python_callable=fail),
        EmptyOperator(task_id="fine"),
    ]

with DAG("no_task", schedule=None, start_date=datetime(2024, 1, 1)) as nothing:
    pass
