"""A task group as the target of a branch, and a branch inside of a group."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task
from airflow.operators.empty import EmptyOperator
from airflow.utils.task_group import TaskGroup

with DAG("branch_groups", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task.branch
    def choose():
        return "left"

    with TaskGroup("left") as left:
        first = EmptyOperator(task_id="first")
        second = EmptyOperator(task_id="second")
        first >> second

    with TaskGroup("right") as right:
        EmptyOperator(task_id="first") >> EmptyOperator(task_id="second")

    end = EmptyOperator(task_id="end", trigger_rule="none_failed_min_one_success")
    choose() >> [left, right] >> end

    with TaskGroup("inside"):

        @task.branch
        def inner():
            return "inside.yes"

        inner() >> [EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
