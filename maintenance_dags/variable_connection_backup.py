"""Backs up connections, variables and pools alone: the small set that changes by hand."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "variable_connection_backup",
    description="Backs up connections, variables and pools alone: the small set that changes by hand.",
    schedule="20 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="back_up",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit backup --only config",
        execution_timeout=timedelta(minutes=30),
    )
