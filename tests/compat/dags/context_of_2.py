"""Names of the context that Airflow 2 has, with and without a schedule."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

NAMES = ["execution_date", "next_ds", "next_ds_nodash", "prev_ds", "prev_ds_nodash", "tomorrow_ds", "yesterday_ds"]
NAMES += ["tomorrow_ds_nodash", "yesterday_ds_nodash", "next_execution_date", "prev_execution_date"]


def values(**context):
    return {name: str(context[name]) for name in NAMES if name in context}


for name, schedule in (("context_of_2_daily", "@daily"), ("context_of_2_manual", None)):
    with DAG(name, schedule=schedule, start_date=datetime(2024, 1, 1), catchup=False) as dag:
        PythonOperator(task_id="values", python_callable=values)
        BashOperator(task_id="render", bash_command="echo {{ execution_date }} {{ next_ds }} {{ yesterday_ds_nodash }}")
        BashOperator(task_id="dates", bash_command="echo {{ data_interval_end | ds }} {{ prev_start_date_success }}")
    globals()[name] = dag
