"""Brings the DAG files of a git repository or a bucket to this host and its nodes, where [deploy] names one."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator, ShortCircuitOperator


def a_source_is_set() -> bool:
    from opskit.config import load

    config = load()
    if config.get("deploy", "source_url") or config.get("deploy", "git_url"):
        return True
    print("nothing to distribute: set git_url or source_url in [deploy] of opskit.toml to where your DAG files are")
    return False


with DAG(
    "dag_distribution",
    description="Brings the DAG files of [deploy] source_url or git_url to this host and its nodes.",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit"},
    tags=["maintenance"],
):
    check = ShortCircuitOperator(task_id="a_source_is_set", python_callable=a_source_is_set)
    deploy = BashOperator(
        task_id="deploy",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit deploy-dag --pull",
        execution_timeout=timedelta(minutes=30),
    )
    check >> deploy
