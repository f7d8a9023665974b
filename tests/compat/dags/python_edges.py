"""What a callable may raise or return; generators; sys.exit; other processes."""

import os
import subprocess
import sys
from datetime import datetime

from airflow import DAG
from airflow.exceptions import AirflowException, AirflowSkipException
from airflow.operators.empty import EmptyOperator
from airflow.operators.python import PythonOperator


def exits():
    sys.exit(0)


def exits_badly():
    sys.exit("no")


def interrupts():
    raise KeyboardInterrupt


def wraps():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        raise AirflowException("wrapped") from error


def skips_in_nested():
    try:
        raise AirflowSkipException("x")
    finally:
        pass


def counts():
    yield 1
    yield 2


def child():
    return subprocess.run(
        [sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True
    ).stdout.strip()


def environment():
    return sorted(name for name in os.environ if name.startswith("AIRFLOW_CTX_"))[:5]


with DAG("python_edges", schedule=None, start_date=datetime(2024, 1, 1)) as dag:
    for function in (exits_badly, wraps, skips_in_nested, child, environment):
        PythonOperator(task_id=function.__name__, python_callable=function) >> EmptyOperator(
            task_id=f"after_{function.__name__}"
        )
    PythonOperator(task_id="no_return_log", python_callable=lambda: "x", show_return_value_in_logs=False)
    PythonOperator(task_id="no_argument", python_callable=lambda missing: missing)
    PythonOperator(task_id="partial", python_callable=lambda *a, **k: [list(a), sorted(k)[:2]], op_args=(1, 2))
