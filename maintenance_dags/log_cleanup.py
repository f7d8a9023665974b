"""Removes task logs that are older than [logs] max_age_days."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "log_cleanup",
    description="Removes task logs that are older than [logs] max_age_days.",
    schedule="15 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="clean_logs",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit logs clean --yes",
        execution_timeout=timedelta(minutes=60),
    )
