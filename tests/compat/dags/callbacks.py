"""Callbacks change no state, whatever they do; the XComs tell which were called."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.exceptions import AirflowSkipException
from airflow.operators.python import PythonOperator


def note(name):
    def callback(context):
        context["ti"].xcom_push(key=name, value=context["ti"].try_number)

    return callback


def broken(context):
    raise RuntimeError("on purpose")


def wrong_number():
    return None


def fail():
    raise ValueError("on purpose")


def skip():
    raise AirflowSkipException


ALL = {
    "on_execute_callback": note("execute"),
    "on_success_callback": note("success"),
    "on_failure_callback": [note("failure")],
    "on_retry_callback": note("retry"),
    "retry_delay": timedelta(seconds=1),
}

with DAG("callbacks", schedule=None, start_date=datetime(2024, 1, 1), on_success_callback=broken) as dag:
    PythonOperator(task_id="good", python_callable=lambda: 1, **ALL)
    PythonOperator(task_id="bad", python_callable=fail, retries=1, **ALL)
    PythonOperator(task_id="skipped", python_callable=skip, **ALL)
    PythonOperator(task_id="broken_success", python_callable=lambda: 1, on_success_callback=broken)
    PythonOperator(task_id="wrong_number", python_callable=lambda: 1, on_success_callback=wrong_number)
    PythonOperator(task_id="broken_failure", python_callable=fail, on_failure_callback=broken)
    PythonOperator(task_id="broken_execute", python_callable=lambda: 1, on_execute_callback=broken)
