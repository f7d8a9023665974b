"""Sensors: both modes, values, timeouts, soft_fail, what poke() raises."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.exceptions import AirflowFailException, AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
from airflow.sensors.bash import BashSensor
from airflow.sensors.filesystem import FileSensor
from airflow.sensors.python import PythonSensor

calls = []


class Counting(BaseSensorOperator):
    def __init__(self, until, **kwargs):
        super().__init__(**kwargs)
        self.until = until
        self.seen = 0

    def poke(self, context):
        self.seen += 1
        if self.seen >= self.until:
            return PokeReturnValue(is_done=True, xcom_value=self.seen)
        return False


def fail():
    raise ValueError("on purpose")


def give_up():
    raise AirflowFailException("on purpose")


def skip():
    raise AirflowSkipException


with DAG("sensors", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    quick = {"poke_interval": 0.05, "timeout": 0.3}
    Counting(task_id="counting", until=3, poke_interval=0.05, timeout=60)
    PythonSensor(task_id="true", python_callable=lambda: True, **quick)
    PythonSensor(task_id="rescheduled", python_callable=lambda: True, mode="reschedule", **quick)
    PythonSensor(
        task_id="arguments",
        python_callable=lambda a, b: a == b,
        op_args=["{{ ds }}"],
        op_kwargs={"b": "2024-06-03"},
        **quick,
    )
    never = PythonSensor(
        task_id="never", python_callable=lambda: False, retries=2, retry_delay=timedelta(seconds=1), **quick
    )
    never >> EmptyOperator(task_id="after_never", trigger_rule="all_failed")
    soft = PythonSensor(task_id="soft", python_callable=lambda: False, soft_fail=True, **quick)
    soft >> EmptyOperator(task_id="after_soft")
    PythonSensor(task_id="soft_rescheduled", python_callable=lambda: False, soft_fail=True, mode="reschedule", **quick)
    PythonSensor(task_id="raises", python_callable=fail, **quick)
    PythonSensor(task_id="raises_softly", python_callable=fail, soft_fail=True, **quick)
    PythonSensor(task_id="gives_up", python_callable=give_up, retries=1, **quick)
    PythonSensor(task_id="skips", python_callable=skip, **quick)
    BashSensor(task_id="bash", bash_command="exit 0", **quick)
    BashSensor(task_id="bash_never", bash_command="exit 1", soft_fail=True, **quick)
    FileSensor(task_id="file", filepath="/bin/sh", **quick)
    FileSensor(task_id="no_file", filepath="/no/such/file", soft_fail=True, **quick)
