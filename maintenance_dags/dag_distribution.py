"""Brings the DAG files of a git repository to this host and its nodes, where [deploy] git_url names one."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

from opskit import DAG
from opskit.operators import BashOperator, ShortCircuitOperator


def a_repository_is_set() -> bool:
    from opskit.config import load

    if load().get("deploy", "git_url"):
        return True
    print("nothing to distribute: set git_url in [deploy] of opskit.toml to the repository with your DAG files")
    return False


with DAG(
    "dag_distribution",
    description="Brings the DAG files of [deploy] git_url to this host and its nodes.",
    schedule="*/5 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "opskit"},
    tags=["maintenance"],
):
    check = ShortCircuitOperator(task_id="a_repository_is_set", python_callable=a_repository_is_set)
    deploy = BashOperator(
        task_id="deploy",
        bash_command=f"exec {shlex.quote(sys.executable)} -m opskit deploy-dag --from-git",
        execution_timeout=timedelta(minutes=30),
    )
    check >> deploy
