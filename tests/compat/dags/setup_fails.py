"""A setup that fails or is skipped takes its work and its teardown with it."""

from datetime import datetime

from airflow import DAG
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator

START = datetime(2024, 1, 1)


def fail():
    raise ValueError("on purpose")


def skip():
    raise AirflowSkipException


for name, function in (("setup_fails", fail), ("setup_skips", skip)):
    with DAG(name, schedule=None, start_date=START) as dag:
        before = PythonOperator(task_id="before", python_callable=function).as_setup()
        after = EmptyOperator(task_id="after").as_teardown(setups=before)
        before >> EmptyOperator(task_id="work") >> after
        EmptyOperator(task_id="unrelated") >> EmptyOperator(task_id="also_unrelated")
    globals()[name] = dag

with DAG("two_setups", schedule=None, start_date=START) as two_setups:
    good = EmptyOperator(task_id="good").as_setup()
    bad = PythonOperator(task_id="bad", python_callable=fail).as_setup()
    work = EmptyOperator(task_id="work")
    [good, bad] >> work
    work >> EmptyOperator(task_id="end_good").as_teardown(setups=good)
    work >> EmptyOperator(task_id="end_bad").as_teardown(setups=bad)
    work >> EmptyOperator(task_id="end_both").as_teardown(setups=[good, bad])
