"""expand over lists, XComs, several arguments and keyword sets; over a dict; partial."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task

with DAG("mapping_basic", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def numbers():
        return [1, 2, 3]

    @task
    def names():
        return {"x": 1, "y": 2}

    @task
    def keywords():
        return [{"a": 1, "b": 2}, {"a": 3}, {"b": 4, "a": 5}]

    @task
    def double(value):
        return value * 2

    @task
    def add(a, b=10):
        return a + b

    @task
    def total(values):
        return sum(values)

    @task
    def pairs(pair):
        return list(pair)

    @task
    def listed(values):
        return sorted(values)

    total.override(task_id="of_const")(double.override(task_id="const").expand(value=[1, 2]))
    total.override(task_id="of_xcom")(double.override(task_id="xcom").expand(value=numbers()))
    add.override(task_id="product").expand(a=[1, 2], b=[10, 20, 30])
    add.override(task_id="partial").partial(b=100).expand(a=[1, 2])
    add.override(task_id="kwargs").expand_kwargs([{"a": 1}, {"a": 2, "b": 3}])
    listed(add.override(task_id="kwargs_xcom").expand_kwargs(keywords()))
    pairs.expand(pair=names())
    pairs.override(task_id="pairs_const").expand(pair={"k": "v", "l": "w"})
