"""Brings owners and modes back to [permissions] policy."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "permission_repair",
    description="Brings owners and modes back to [permissions] policy.",
    schedule="0 4 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="fix_permissions",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit permissions fix",
        execution_timeout=timedelta(minutes=60),
    )
