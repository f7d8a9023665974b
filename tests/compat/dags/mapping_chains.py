"""Mapped over mapped; xcom_pull with map_indexes; names of instances."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task

with DAG("mapping_chains", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def first(value):
        return value + 1

    @task
    def second(value, ti=None):
        return [ti.map_index, value]

    @task(map_index_template="{{ task.op_kwargs['value'] }}")
    def named(value):
        return value

    @task
    def pull(ti=None):
        return {
            "one": ti.xcom_pull("first", map_indexes=1),
            "some": list(ti.xcom_pull("first", map_indexes=[0, 2])),
            "all": list(ti.xcom_pull("first")),
            "many": [list(value) for value in ti.xcom_pull(["first"])] if False else len(list(ti.xcom_pull(["first"]))),
        }

    @task
    def lazy(values):
        return [len(values), values[0], list(values)[-1]]

    ones = first.expand(value=[1, 2, 3])
    twos = second.expand(value=ones)
    twos >> pull()
    lazy(ones)
    named.expand(value=["x", "y"])
