"""depends_on_past and wait_for_downstream in a first run; pools, weights and other arguments that change no result."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator

with DAG(
    "past",
    schedule="@daily",
    start_date=datetime(2024, 6, 3),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": True, "owner": "me"},
    doc_md="# Title",
    tags=["one", "two"],
    description="text",
) as dag:
    first = PythonOperator(
        task_id="first",
        python_callable=lambda: 1,
        wait_for_downstream=True,
        priority_weight=5,
        weight_rule="absolute",
        pool="default_pool",
        pool_slots=2,
        queue="other",
        executor_config={"KubernetesExecutor": {"image": "x"}},
        max_active_tis_per_dag=1,
        execution_timeout=timedelta(minutes=1),
        doc_md="text",
        email="a@example.com",
        email_on_failure=False,
        do_xcom_push=False,
        show_return_value_in_logs=False,
        ignore_first_depends_on_past=True,
    )
    first >> EmptyOperator(task_id="second", wait_for_downstream=True)
