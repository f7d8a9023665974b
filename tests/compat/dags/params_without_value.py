"""A param without a value: the run is refused."""

from datetime import datetime

from airflow import DAG
from airflow.models.param import Param
from airflow.operators.empty import EmptyOperator

with DAG(
    "params_without_value", schedule=None, start_date=datetime(2024, 1, 1), params={"needed": Param(type="string")}
) as dag:
    EmptyOperator(task_id="never")
