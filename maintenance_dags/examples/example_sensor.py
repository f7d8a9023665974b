"""A sensor that waits for a file without holding a worker, and a task that uses it.

Try it: `opskit dags trigger example_sensor --conf '{"path": "/tmp/ready"}'`, and then `touch /tmp/ready`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit import DAG
from opskit.operators import PythonOperator
from opskit.sensors import PythonSensor


def is_there(dag_run: Any) -> bool:
    return Path(dag_run.conf.get("path", "/etc/hostname")).exists()


def measure(dag_run: Any) -> int:
    """The size of the file in bytes."""
    return Path(dag_run.conf.get("path", "/etc/hostname")).stat().st_size


with DAG(
    "example_sensor",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    default_args={"owner": "example"},
    tags=["example"],
):
    wait = PythonSensor(
        task_id="wait_for_file",
        python_callable=is_there,
        mode="reschedule",
        poke_interval=timedelta(seconds=5).total_seconds(),
        timeout=timedelta(hours=1).total_seconds(),
    )
    wait >> PythonOperator(task_id="measure", python_callable=measure)
