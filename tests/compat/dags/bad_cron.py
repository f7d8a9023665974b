"""A schedule that is none."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator

with DAG("bad_cron", schedule="every day", start_date=datetime(2024, 1, 1)) as dag:
    EmptyOperator(task_id="never")
