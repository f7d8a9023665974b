"""Every trigger rule behind a skipped and a successful task, and behind two skipped ones."""

from datetime import datetime

from airflow import DAG
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def skip():
    raise AirflowSkipException("on purpose")


RULES = ["all_success", "all_failed", "all_done", "one_success", "one_failed", "one_done", "none_failed"]
RULES += ["none_skipped", "none_failed_min_one_success", "always", "all_skipped"]

with DAG("rules_after_skip", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    one = PythonOperator(task_id="one", python_callable=skip)
    two = PythonOperator(task_id="two", python_callable=skip)
    good = EmptyOperator(task_id="good")
    for rule in RULES:
        [one, good] >> EmptyOperator(task_id=f"mixed_{rule}", trigger_rule=rule)
        [one, two] >> EmptyOperator(task_id=f"skipped_{rule}", trigger_rule=rule)
