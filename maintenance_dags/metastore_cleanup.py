"""Removes DagRuns that ended more than [cleanup] max_age_days ago."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator

with DAG(
    "metastore_cleanup",
    description="Removes DagRuns that ended more than [cleanup] max_age_days ago.",
    schedule="45 3 * * 0",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit", "retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["maintenance"],
):
    BashOperator(
        task_id="clean_metastore",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit db clean",
        execution_timeout=timedelta(minutes=360),
    )
