"""One DAG starts another, and looks at others."""

from datetime import datetime

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator
from airflow.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sensors.external_task import ExternalTaskMarker, ExternalTaskSensor

START = datetime(2024, 1, 1)

with DAG("cross_dag_target", schedule=None, start_date=START) as target:
    PythonOperator(task_id="conf", python_callable=lambda dag_run: dag_run.conf)

with DAG("cross_dag_source", schedule=None, start_date=START) as source:
    start = TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id="cross_dag_target",
        conf={"day": "{{ ds }}", "list": [1, 2]},
        trigger_run_id="by_{{ ds }}",
    )
    again = TriggerDagRunOperator(
        task_id="again", trigger_dag_id="cross_dag_target", trigger_run_id="by_{{ ds }}", skip_when_already_exists=True
    )
    start >> again >> EmptyOperator(task_id="after_again")
    TriggerDagRunOperator(task_id="unknown", trigger_dag_id="no_such_dag")

with DAG("cross_dag_watch", schedule=None, start_date=START) as watch:
    quick = {"poke_interval": 0.05, "timeout": 0.3}
    ExternalTaskSensor(task_id="no_dag", external_dag_id="no_such_dag", check_existence=True, **quick)
    ExternalTaskSensor(
        task_id="no_task",
        external_dag_id="cross_dag_target",
        external_task_id="no_such_task",
        check_existence=True,
        **quick,
    )
    ExternalTaskMarker(task_id="marker", external_dag_id="cross_dag_target", external_task_id="conf")
