"""A short circuit does not skip a teardown."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import ShortCircuitOperator

with DAG("short_circuit_teardown", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    start = EmptyOperator(task_id="start").as_setup()
    stop = EmptyOperator(task_id="stop").as_teardown(setups=start)
    check = ShortCircuitOperator(task_id="check", python_callable=lambda: False)
    start >> check >> EmptyOperator(task_id="work") >> stop
