"""Pulling from mapped tasks with no, one and two instances."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task

with DAG("xcom_of_mapped", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def up(x):
        return f"{x}!"

    @task
    def listed(count):
        return list(range(count))

    @task(trigger_rule="all_done")
    def pull(ti=None):
        values = [ti.xcom_pull(task_ids=task_id) for task_id in ("none", "one", "two")]
        values.append(ti.xcom_pull(task_ids=["one", "two"]))
        values.append(ti.xcom_pull(task_ids="two", map_indexes=1))
        return [value if value is None or isinstance(value, str) else list(value) for value in values]

    @task(trigger_rule="all_done")
    def total(values):
        return list(values)

    for number, name in enumerate(("none", "one", "two")):
        mapped = up.override(task_id=name).expand(x=listed.override(task_id=f"listed_{number}")(number))
        mapped >> total.override(task_id=f"total_{number}")(mapped)
    [dag.get_task(name) for name in ("none", "one", "two")] >> pull()
