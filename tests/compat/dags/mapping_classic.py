"""Mapped classic operators, their output, and op_args."""

from datetime import datetime

from airflow import DAG
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def words():
    return ["alpha", "beta"]


def arguments():
    return [[1, 2], [3, 4]]


with DAG("mapping_classic", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    listed = PythonOperator(task_id="listed", python_callable=words)
    echo = BashOperator.partial(task_id="echo", retries=0).expand(bash_command=["echo one", "echo {{ ds }}"])
    BashOperator.partial(task_id="env", bash_command="echo $WORD").expand(env=[{"WORD": "x"}, {"WORD": "y"}])
    BashOperator.partial(task_id="from_output").expand(bash_command=listed.output.map(lambda word: f"echo {word}"))
    pairs = PythonOperator(task_id="pairs", python_callable=arguments)
    sums = PythonOperator.partial(task_id="sums", python_callable=lambda a, b: a + b).expand(op_args=pairs.output)
    PythonOperator(task_id="total", python_callable=lambda values: sum(values), op_args=[sums.output])
    PythonOperator.partial(task_id="kwargs", python_callable=lambda a, b: a * b).expand(op_kwargs=[{"a": 2, "b": 3}])
    BashOperator.partial(task_id="expand_kwargs").expand_kwargs(
        [{"bash_command": "echo $A", "env": {"A": "1"}}, {"bash_command": "exit 99"}]
    )
    echo >> EmptyOperator(task_id="end")
