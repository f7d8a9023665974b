"""Two tasks of one name."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator

with DAG("bad_duplicate", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    EmptyOperator(task_id="same")
    EmptyOperator(task_id="same")
