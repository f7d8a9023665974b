"""fail_stop ends the run with the first failure."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def fail():
    raise ValueError("on purpose")


with DAG("fail_stop", schedule=None, start_date=datetime(2024, 1, 1), fail_stop=True) as dag:
    bad = PythonOperator(task_id="bad", python_callable=fail)
    bad >> PythonOperator(task_id="after", python_callable=lambda: 1)
    EmptyOperator(task_id="beside")
