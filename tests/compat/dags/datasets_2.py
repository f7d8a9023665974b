"""Datasets of Airflow 2: outlets, inlets, schedules, extra, aliases."""

from datetime import datetime

from airflow import DAG
from airflow.datasets import Dataset, DatasetAlias
from airflow.datasets.metadata import Metadata
from airflow.decorators import task
from airflow.operators.bash import BashOperator
from airflow.timetables.datasets import DatasetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

ONE, TWO = Dataset("s3://bucket/one"), Dataset("s3://bucket/two", extra={"a": 1})
START = datetime(2024, 1, 1)

with DAG("datasets_producer", schedule="@daily", start_date=START, catchup=False):

    @task(outlets=[ONE])
    def write(outlet_events):
        outlet_events[ONE].extra = {"rows": 3}
        return "written"

    @task(outlets=[TWO])
    def by_metadata():
        yield Metadata(TWO, extra={"rows": 4})

    @task(outlets=[DatasetAlias("alias")])
    def by_alias(outlet_events):
        outlet_events["alias"].add(Dataset("s3://bucket/three"))

    @task(inlets=[ONE])
    def read(inlet_events):
        return len(inlet_events[ONE]) >= 0

    write() >> read()
    by_metadata()
    by_alias()
    BashOperator(task_id="bash", bash_command="echo {{ ds }}", outlets=[ONE, TWO])

with DAG("datasets_all", schedule=[ONE, TWO], start_date=START, catchup=False):
    BashOperator(task_id="uris", bash_command="echo {{ triggering_dataset_events | length }}")

with DAG("datasets_any", schedule=(ONE | TWO), start_date=START, catchup=False):
    BashOperator(task_id="b", bash_command="echo b")

with DAG(
    "datasets_or_time",
    schedule=DatasetOrTimeSchedule(timetable=CronTriggerTimetable("0 1 * * 3", timezone="UTC"), datasets=(ONE & TWO)),
    start_date=START,
    catchup=False,
):
    BashOperator(task_id="c", bash_command="echo c")
