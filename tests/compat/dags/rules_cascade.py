"""Skipped and upstream_failed go on through all_success, and stop where a rule takes them."""

from datetime import datetime

from airflow import DAG
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def fail():
    raise ValueError("on purpose")


def skip():
    raise AirflowSkipException


with DAG("rules_cascade", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    failed = PythonOperator(task_id="failed", python_callable=fail)
    skipped = PythonOperator(task_id="skipped", python_callable=skip)
    below_failed = EmptyOperator(task_id="below_failed")
    below_skipped = EmptyOperator(task_id="below_skipped")
    failed >> below_failed >> EmptyOperator(task_id="further_failed")
    skipped >> below_skipped >> EmptyOperator(task_id="further_skipped")
    both = EmptyOperator(task_id="both")
    [below_failed, below_skipped] >> both
    both >> EmptyOperator(task_id="cleanup", trigger_rule="all_done") >> EmptyOperator(task_id="last")
    [below_skipped, below_failed] >> EmptyOperator(task_id="one_failed", trigger_rule="one_failed")
    [below_skipped, below_failed] >> EmptyOperator(task_id="all_failed", trigger_rule="all_failed")
    below_failed >> EmptyOperator(task_id="below_failed_all_failed", trigger_rule="all_failed")
