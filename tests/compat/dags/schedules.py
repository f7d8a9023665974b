"""Schedules in all their forms; what is meant when none is given."""

from datetime import datetime, timedelta

import pendulum
from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable

START = datetime(2024, 1, 1)
ZONE = pendulum.timezone("Europe/Berlin")
SCHEDULES = {
    "cron": "30 7 * * 1-5",
    "daily": "@daily",
    "once": "@once",
    "continuous": "@continuous",
    "nothing": None,
    "delta": timedelta(hours=6),
    "interval_timetable": CronDataIntervalTimetable("0 1 * * *", timezone="UTC"),
    "trigger_timetable": CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    "delta_timetable": DeltaDataIntervalTimetable(timedelta(minutes=90)),
}

for name, schedule in SCHEDULES.items():
    more = {"max_active_runs": 1} if name == "continuous" else {}
    with DAG(f"schedule_{name}", schedule=schedule, start_date=START, **more) as dag:
        EmptyOperator(task_id="only")
    globals()[name] = dag

with DAG("schedule_not_given", start_date=START, catchup=True) as not_given:
    EmptyOperator(task_id="only")

with DAG("schedule_zone", schedule="0 3 * * *", start_date=datetime(2024, 1, 1, tzinfo=ZONE), catchup=False) as zoned:
    EmptyOperator(task_id="only")

with DAG("schedule_ended", schedule=None, start_date=START, end_date=datetime(2024, 5, 1)) as ended:
    EmptyOperator(task_id="only")
