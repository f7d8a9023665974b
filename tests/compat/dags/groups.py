"""Task groups: prefixes, default_args, nesting, edges between groups, labels, chains."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task, task_group
from airflow.models.baseoperator import chain, cross_downstream
from airflow.operators.bash import BashOperator
from airflow.operators.empty import EmptyOperator
from airflow.utils.edgemodifier import Label
from airflow.utils.task_group import TaskGroup

with DAG("groups", schedule=None, start_date=datetime(2024, 1, 1), default_args={"retries": 0}) as dag:
    start = EmptyOperator(task_id="start")
    with TaskGroup("outer", tooltip="outside", default_args={"env": {"WHO": "group"}}) as outer:
        BashOperator(task_id="who", bash_command="echo $WHO")
        with TaskGroup("inner") as inner:
            EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
        with TaskGroup("bare", prefix_group_id=False):
            EmptyOperator(task_id="unprefixed")
    with TaskGroup(group_id="empty_group") as empty:
        pass
    end = EmptyOperator(task_id="end")
    start >> outer >> Label("then") >> end
    start >> inner
    chain(
        end,
        [EmptyOperator(task_id="c1"), EmptyOperator(task_id="c2")],
        [EmptyOperator(task_id="c3"), EmptyOperator(task_id="c4")],
    )
    cross_downstream([start], [EmptyOperator(task_id="x1"), EmptyOperator(task_id="x2")])

    @task
    def add(a, b):
        return a + b

    @task_group
    def sums(a):
        return add(add(a, 1), 2)

    @task_group(group_id="named", prefix_group_id=False)
    def other():
        return add.override(task_id="in_named")(1, 1)

    add.override(task_id="use")(sums(1), other())
    sums(10)
