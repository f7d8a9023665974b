"""Branches by the logical date's weekday, and by time."""

from datetime import datetime, time

from airflow import DAG
from airflow.operators.datetime import BranchDateTimeOperator
from airflow.operators.empty import EmptyOperator
from airflow.operators.weekday import BranchDayOfWeekOperator
from airflow.utils.weekday import WeekDay

with DAG("branch_time", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    day = BranchDayOfWeekOperator(
        task_id="day",
        week_day={WeekDay.MONDAY, WeekDay.TUESDAY},
        follow_task_ids_if_true="early",
        follow_task_ids_if_false="late",
        use_task_logical_date=True,
    )
    day >> [EmptyOperator(task_id="early"), EmptyOperator(task_id="late")]
    moment = BranchDateTimeOperator(
        task_id="moment",
        target_lower=datetime(2024, 6, 1),
        target_upper=datetime(2024, 6, 2),
        follow_task_ids_if_true=["within"],
        follow_task_ids_if_false=["outside"],
        use_task_logical_date=True,
    )
    moment >> [EmptyOperator(task_id="within"), EmptyOperator(task_id="outside")]
    clock = BranchDateTimeOperator(
        task_id="clock",
        target_lower=time(0, 0, 0),
        target_upper=time(1, 0, 0),
        follow_task_ids_if_true="night",
        follow_task_ids_if_false="day_time",
        use_task_logical_date=True,
    )
    clock >> [EmptyOperator(task_id="night"), EmptyOperator(task_id="day_time")]
