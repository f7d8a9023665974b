"""An argument that no operator has."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG("bad_argument", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    BashOperator(task_id="never", bash_command="true", no_such_argument=1)
