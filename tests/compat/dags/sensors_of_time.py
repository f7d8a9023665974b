"""Sensors that wait for a time which is over, in all modes."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.latest_only import LatestOnlyOperator
from airflow.sensors.date_time import DateTimeSensor, DateTimeSensorAsync
from airflow.sensors.time_delta import TimeDeltaSensor, TimeDeltaSensorAsync
from airflow.sensors.weekday import DayOfWeekSensor

with DAG("sensors_of_time", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    TimeDeltaSensor(task_id="delta", delta=timedelta(minutes=5))
    TimeDeltaSensor(task_id="delta_rescheduled", delta=timedelta(minutes=5), mode="reschedule")
    TimeDeltaSensorAsync(task_id="delta_async", delta=timedelta(minutes=5))
    DateTimeSensor(task_id="moment", target_time="{{ data_interval_end }}")
    DateTimeSensorAsync(task_id="moment_async", target_time="2024-01-01T00:00:00+00:00")
    DayOfWeekSensor(task_id="monday", week_day="Monday", use_task_logical_date=True)
    DayOfWeekSensor(
        task_id="friday",
        week_day={"Friday"},
        use_task_logical_date=True,
        soft_fail=True,
        timeout=0.2,
        poke_interval=0.05,
    )
    LatestOnlyOperator(task_id="latest") >> EmptyOperator(task_id="after_latest")
