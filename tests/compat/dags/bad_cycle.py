"""A cycle: nothing of this file can be used."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator

with DAG("bad_cycle", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    a, b, c = (EmptyOperator(task_id=name) for name in "abc")
    a >> b >> c >> a
