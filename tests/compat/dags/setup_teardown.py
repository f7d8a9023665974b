"""A teardown runs whatever the work did, if its setup went well; it decides the run only when it should."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import setup, task, teardown
from airflow.operators.empty import EmptyOperator

START = datetime(2024, 1, 1)


@setup
def create():
    return "cluster"


@task
def work():
    raise ValueError("on purpose")


@task
def fine():
    return 1


@task
def delete():
    return None


@task
def delete_badly():
    raise ValueError("on purpose")


@task
def delete_strictly():
    raise ValueError("on purpose")


with DAG("work_fails", schedule=None, start_date=START):
    created = create()
    created >> work() >> EmptyOperator(task_id="more") >> delete().as_teardown(setups=created)

with DAG("teardown_fails", schedule=None, start_date=START):
    created = create()
    created >> fine() >> delete_badly().as_teardown(setups=created)

with DAG("teardown_fails_the_run", schedule=None, start_date=START):
    created = create()
    created >> fine() >> delete_strictly().as_teardown(setups=created, on_failure_fail_dagrun=True)


@teardown
def remove():
    return None


with DAG("decorated", schedule=None, start_date=START):
    created, removed = create(), remove()
    created >> work() >> removed
    created >> removed

with DAG("in_a_context", schedule=None, start_date=START):  # noqa: SIM117
    with delete().as_teardown(setups=create()):
        fine() >> work()
