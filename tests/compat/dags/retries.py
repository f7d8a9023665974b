"""Tries: one that helps, all in vain, none after AirflowFailException, none after a skip."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator


def third_time(ti):
    if ti.try_number < 3:
        raise AirflowException(f"try {ti.try_number}")
    return ti.try_number


def never(ti):
    ti.xcom_push("try", ti.try_number)
    raise ValueError("on purpose")


def at_once(ti):
    ti.xcom_push("try", ti.try_number)
    raise AirflowFailException("no use")


def skip(ti):
    ti.xcom_push("try", ti.try_number)
    raise AirflowSkipException("no need")


with DAG(
    "retries",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
) as dag:
    for function in (third_time, never, at_once, skip):
        PythonOperator(task_id=function.__name__, python_callable=function)
    BashOperator(task_id="bash", bash_command="test {{ ti.try_number }} -eq 2 && echo {{ ti.try_number }}")
    PythonOperator(task_id="none", python_callable=never, retries=0)
    PythonOperator(
        task_id="backoff",
        python_callable=third_time,
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(seconds=2),
    )
