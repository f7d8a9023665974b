"""Tasks that wait in a trigger: once, several times, with arguments, mapped."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.models import BaseOperator
from airflow.operators.empty import EmptyOperator
from airflow.sensors.base import BaseSensorOperator
from compat_triggers import Say


class Waits(BaseOperator):
    template_fields = ("text",)

    def __init__(self, text, times=1, **kwargs):
        super().__init__(**kwargs)
        self.text = text
        self.times = times

    def execute(self, context):
        context["ti"].xcom_push(key="before", value=self.text)
        self.defer(trigger=Say(self.text), method_name="resume", kwargs={"left": self.times - 1})

    def resume(self, context, event=None, left=0):
        if left:
            self.defer(trigger=Say(f"{event['said']}+"), method_name="resume", kwargs={"left": left - 1})
        return [event["said"], context["ds"]]


class Sensor(BaseSensorOperator):
    def execute(self, context):
        self.defer(trigger=Say("sensed"), method_name="execute_complete", timeout=timedelta(seconds=20))

    def execute_complete(self, context, event):
        return event["said"]


with DAG("deferrable", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    Waits(task_id="once", text="{{ ds }}")
    Waits(task_id="three_times", text="x", times=3)
    Waits(task_id="before", text="x") >> EmptyOperator(task_id="after")
    Sensor(task_id="sensor")
    Waits.partial(task_id="mapped").expand(text=["a", "b"])
