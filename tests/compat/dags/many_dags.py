"""Many DAGs from one file: a loop, globals(), functions, one that nobody holds, one that is not registered."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import dag, task
from airflow.operators.empty import EmptyOperator

START = datetime(2024, 1, 1)


def make(number):
    made = DAG(f"many_{number}", schedule=None, start_date=START, tags=[str(number)])
    with made:
        EmptyOperator(task_id="start") >> [EmptyOperator(task_id=f"task_{i}") for i in range(number)]
    return made


for number in range(1, 4):
    globals()[f"dag_{number}"] = make(number)

with DAG("many_unheld", schedule=None, start_date=START):
    EmptyOperator(task_id="only")

unregistered = DAG("many_unregistered", schedule=None, start_date=START, auto_register=False)
DAG("many_lost", schedule=None, start_date=START)


@dag(schedule=None, start_date=START)
def many_decorated():
    @task
    def one():
        return 1

    one()


@dag(dag_id="many_named", schedule=None, start_date=START)
def other(number=3):
    @task
    def show(number):
        return number

    show(number)


many_decorated()
result = other()
