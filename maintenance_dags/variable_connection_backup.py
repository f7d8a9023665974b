"""Captures connections, variables, pools and pause states every minute: what people can't recreate."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "variable_connection_backup",
    description="Captures connections, variables, pools and pause states every minute.",
    schedule="* * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(seconds=20)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="back_up",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit backup --tier config",
        execution_timeout=timedelta(minutes=5),
    )
