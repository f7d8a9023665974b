"""Backs up the metastore and proves the backup by restoring it."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "metastore_backup",
    description="Backs up the metastore and proves the backup by restoring it.",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="back_up",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit backup",
        execution_timeout=timedelta(minutes=360),
    )
