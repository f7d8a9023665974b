"""Every trigger rule behind a failed and a successful task."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def fail():
    raise ValueError("on purpose")


RULES = ["all_success", "all_failed", "all_done", "one_success", "one_failed", "one_done", "none_failed"]
RULES += ["none_skipped", "none_failed_min_one_success", "always", "all_skipped"]

with DAG("rules_after_failure", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    bad = PythonOperator(task_id="bad", python_callable=fail)
    good = EmptyOperator(task_id="good")
    for rule in RULES:
        [bad, good] >> EmptyOperator(task_id=f"after_{rule}", trigger_rule=rule)
