"""Branches: one, several, none; a child that can also be reached through the chosen one; joins."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import BranchPythonOperator

with DAG("branch_joins", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    one = BranchPythonOperator(task_id="one", python_callable=lambda: "a")
    a, b, c = (EmptyOperator(task_id=name) for name in "abc")
    one >> [a, b, c]
    a >> c
    [a, b] >> EmptyOperator(task_id="join", trigger_rule="none_failed_min_one_success")
    [a, b] >> EmptyOperator(task_id="strict_join")
    b >> EmptyOperator(task_id="after_b") >> EmptyOperator(task_id="done_after_b", trigger_rule="all_done")

    several = BranchPythonOperator(task_id="several", python_callable=lambda: ["d", "f"])
    several >> [EmptyOperator(task_id=name) for name in "def"]

    none = BranchPythonOperator(task_id="none", python_callable=lambda: None)
    none >> [EmptyOperator(task_id=name) for name in "gh"]

    wrong = BranchPythonOperator(task_id="wrong", python_callable=lambda: "nowhere")
    wrong >> EmptyOperator(task_id="i")
