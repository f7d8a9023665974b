"""Short circuits: all that follows, or only the next ones; true ones."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import ShortCircuitOperator

with DAG("short_circuit", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    hard = ShortCircuitOperator(task_id="hard", python_callable=lambda: False)
    hard >> EmptyOperator(task_id="hard_1") >> EmptyOperator(task_id="hard_2", trigger_rule="all_done")

    soft = ShortCircuitOperator(task_id="soft", python_callable=lambda: [], ignore_downstream_trigger_rules=False)  # noqa: PIE807
    soft >> EmptyOperator(task_id="soft_1") >> EmptyOperator(task_id="soft_2", trigger_rule="all_done")
    soft >> EmptyOperator(task_id="soft_3", trigger_rule="all_done")

    on = ShortCircuitOperator(task_id="on", python_callable=lambda: "yes")
    on >> EmptyOperator(task_id="on_1")

    @task.short_circuit
    def flow():
        return 0

    flow() >> EmptyOperator(task_id="flow_1")
