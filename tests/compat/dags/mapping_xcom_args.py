"""map, zip, concat and their combinations; a function of map() that skips."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task
from airflow.exceptions import AirflowSkipException

with DAG("mapping_xcom_args", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def numbers():
        return [1, 2, 3]

    @task
    def letters():
        return ["a", "b"]

    @task
    def show(value):
        return value

    @task
    def shown(value):
        return str(value)

    def plus_one(value):
        return value + 1

    def odd_only(value):
        if value % 2 == 0:
            raise AirflowSkipException
        return value

    number, letter = numbers(), letters()
    show.override(task_id="mapped").expand(value=number.map(plus_one))
    show.override(task_id="twice").expand(value=number.map(plus_one).map(plus_one))
    show.override(task_id="odd").expand(value=number.map(odd_only))
    shown.override(task_id="zipped").expand(value=number.zip(letter))
    shown.override(task_id="filled").expand(value=number.zip(letter, fillvalue="-"))
    show.override(task_id="concat").expand(value=number.concat(letter))
