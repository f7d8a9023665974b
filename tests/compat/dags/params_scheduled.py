"""A scheduled DAG must have valid params: it is refused while it is loaded."""

from datetime import datetime

from airflow import DAG
from airflow.models.param import Param
from airflow.operators.empty import EmptyOperator

with DAG(
    "params_scheduled",
    schedule="@daily",
    start_date=datetime(2024, 1, 1),
    params={"number": Param("x", type="integer")},
) as dag:
    EmptyOperator(task_id="never")
