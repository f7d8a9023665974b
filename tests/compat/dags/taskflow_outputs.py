"""Outputs that come apart, keys as dependencies, the same function twice, override, what is put into arguments."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict  # noqa: UP035

from airflow import DAG
from airflow.decorators import task

with DAG("taskflow_outputs", schedule=None, start_date=datetime(2024, 1, 1)) as dag:

    @task
    def annotated() -> dict[str, int]:
        return {"a": 1, "b": 2}

    @task
    def annotated_old() -> Dict[str, Any]:  # noqa: UP006
        return {"c": [1], "d": None}

    @task
    def plain():
        return {"a": 1}

    @task(multiple_outputs=True)
    def several():
        return {"x": "y"}

    @task(multiple_outputs=False)
    def whole() -> dict:
        return {"x": "y"}

    @task(multiple_outputs=True)
    def wrong():
        return [1]

    @task
    def show(value, other=5, *, named="n"):
        return [value, other, named]

    @task
    def injected(ds, params, ti=None, run_id=None, **context):
        return [ds, dict(params), ti.task_id, run_id, sorted(context)[:3]]

    @task
    def partly(value, ds=None, unknown=None):
        return [value, ds, unknown]

    got = annotated()
    show(got["a"])
    show(value=got["b"], named=plain())
    show.override(task_id="renamed", retries=1)(several()["x"], other=whole())
    show(annotated_old())
    wrong()
    injected()
    partly(1)
