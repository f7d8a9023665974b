"""A branch, a short circuit and a skip inside of a mapped group reach their own index only."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task, task_group
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator

with DAG("mapped_group_branch", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def maybe(value):
        if value == 2:
            raise AirflowSkipException
        return value

    @task
    def after(value):
        return value

    @task_group
    def inner(value):
        after(maybe(value)) >> EmptyOperator(task_id="end", trigger_rule="none_failed")

    @task_group
    def routed(value):
        @task.branch
        def route(value):
            return "routed.even" if value % 2 == 0 else "routed.odd"

        route(value) >> [EmptyOperator(task_id="even"), EmptyOperator(task_id="odd")]

    inner.expand(value=[1, 2, 3])
    routed.expand(value=[1, 2])
