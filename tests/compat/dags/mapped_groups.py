"""Mapped task groups: each index for itself, a failure in one, a reduction over all."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task, task_group

with DAG("mapped_groups", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def extract(value):
        if value == "bad":
            raise ValueError("on purpose")
        return value.upper()

    @task
    def load(value):
        return f"loaded {value}"

    @task
    def alone():
        return "alone"

    @task_group
    def etl(value):
        got = extract(value)
        alone()
        return load(got)

    @task(trigger_rule="all_done")
    def report(values):
        return sorted(value for value in values if value)

    @task
    def inputs():
        return ["x", "y"]

    @task_group(group_id="plain")
    def plain(one, two):
        @task
        def join(one, two):
            return f"{one}{two}"

        return join(one, two)

    report(etl.expand(value=["a", "bad", "c"]))
    plain.partial(one="1").expand(two=inputs()) >> alone.override(task_id="after")()
