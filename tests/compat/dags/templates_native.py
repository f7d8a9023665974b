"""Templates that give objects, with render_template_as_native_obj."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.python import PythonOperator

with DAG(
    "templates_native",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    render_template_as_native_obj=True,
    params={"items": [1, 2], "text": "007", "truth": "True"},
) as dag:
    produce = PythonOperator(task_id="produce", python_callable=lambda: {"a": [1, 2], "b": None})
    consume = PythonOperator(
        task_id="consume",
        python_callable=lambda value, items, number, mixed: [value, items, number, mixed],
        op_args=["{{ ti.xcom_pull('produce') }}", "{{ params['items'] }}", "{{ 40 + 2 }}", "n={{ 1 }}"],
    )
    PythonOperator(
        task_id="texts",
        python_callable=lambda *values: [repr(value) for value in values],
        op_args=["{{ params.text }}", "{{ params.truth }}", "{{ ds }}", "{{ ds_nodash }}", "[1, 2]", "{{ none }}"],
    )
    BashOperator(task_id="bash", bash_command="echo {{ ds }}")
    produce >> consume
