"""What follows a group does not wait for the teardown in it."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.utils.task_group import TaskGroup


def fail():
    raise ValueError("on purpose")


with DAG("setup_groups", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    with TaskGroup("group") as group:
        begin = EmptyOperator(task_id="begin").as_setup()
        work = EmptyOperator(task_id="work")
        end = PythonOperator(task_id="end", python_callable=fail).as_teardown(setups=begin)
        begin >> work >> end
    group >> EmptyOperator(task_id="after")

    outer = EmptyOperator(task_id="outer").as_setup()
    closing = EmptyOperator(task_id="closing").as_teardown(setups=outer)
    with TaskGroup("inner") as inner:
        EmptyOperator(task_id="one") >> PythonOperator(task_id="two", python_callable=fail)
    outer >> inner >> closing
    closing >> EmptyOperator(task_id="after_closing")
