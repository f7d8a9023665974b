"""What could have started together with a task whose failure ends the run."""

from datetime import datetime

import airflow
from airflow import DAG
from airflow.decorators import task

fast = {"fail_fast": True} if airflow.__version__.startswith("3") else {"fail_stop": True}

with DAG("fail_fast_batch", schedule=None, start_date=datetime(2024, 1, 1), **fast) as dag:

    @task
    def first():
        return 1

    @task
    def a_beside():
        return "a"

    @task
    def bad():
        raise ValueError("on purpose")

    @task
    def c_beside():
        return "c"

    @task
    def after():
        return 2

    begin, behind = first(), c_beside()
    begin >> [a_beside(), bad(), behind]
    behind >> after()
