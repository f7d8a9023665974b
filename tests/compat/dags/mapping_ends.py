"""Nothing to map over; an upstream that fails or is skipped; single instances that fail or are skipped."""

from datetime import datetime

from airflow import DAG
from airflow.decorators import task
from airflow.exceptions import AirflowSkipException
from airflow.operators.empty import EmptyOperator

with DAG("mapping_ends", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def nothing():
        return []

    @task
    def broken():
        raise ValueError("on purpose")

    @task
    def left_out():
        raise AirflowSkipException

    @task
    def work(value):
        if value == 2:
            raise ValueError("on purpose")
        if value == 3:
            raise AirflowSkipException
        return value

    @task(trigger_rule="all_done")
    def collect(values):
        return sorted(v for v in values if v is not None)

    empty = work.override(task_id="over_nothing").expand(value=nothing())
    empty >> EmptyOperator(task_id="after_nothing")
    empty >> EmptyOperator(task_id="after_nothing_anyway", trigger_rule="none_failed")
    work.override(task_id="over_broken").expand(value=broken()) >> EmptyOperator(task_id="after_broken")
    work.override(task_id="over_skipped").expand(value=left_out())
    mixed = work.override(task_id="mixed").expand(value=[1, 2, 3, 4])
    collect(mixed)
    mixed >> EmptyOperator(task_id="after_mixed")
    mixed >> EmptyOperator(task_id="one_went_well", trigger_rule="one_success")
    work.override(task_id="over_mixed").partial().expand(value=work.override(task_id="skips").expand(value=[1, 3]))
