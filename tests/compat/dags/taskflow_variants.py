"""@task.bash, .branch, .short_circuit, .sensor; skip_if and run_if; classes and lambdas as callables."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task
from airflow.operators.empty import EmptyOperator
from airflow.sensors.base import PokeReturnValue

with DAG("taskflow_variants", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task.bash
    def shell(word):
        return f"echo {word} {{{{ ds }}}}"

    @task.bash(env={"A": "b"}, append_env=True)
    def shell_env():
        return "echo $A; exit 0"

    @task.sensor(poke_interval=0.01, timeout=5, mode="poke")
    def wait():
        return PokeReturnValue(is_done=True, xcom_value="there")

    @task.sensor(poke_interval=0.01, timeout=5)
    def wait_plain() -> bool:
        return True

    @task.branch(task_id="choose")
    def choosing():
        return ["left"]

    @task.run_if(lambda context: context["ds"] == "1999-01-01")
    @task
    def never():
        return 1

    @task.skip_if(lambda context: False)
    @task
    def ever():
        return 1

    @task.python(task_id="other_name")
    def own_name():
        return "own"

    shell("hello")
    shell_env()
    wait()
    wait_plain()
    choosing() >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
    never()
    ever()
    own_name()
