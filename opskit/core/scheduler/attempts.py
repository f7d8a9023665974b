"""The *Attempt* messages of ARCHITECTURE.md, made from memory."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.scheduler.owned_dag import OwnedDag
from opskit.telemetry.task_logs import log_path


def task_attempt(owned: OwnedDag, run: RunState, instance: TaskInstance, isolation: str) -> dict[str, Any]:
    """The message that starts one attempt."""
    task = instance.task
    first_poke = instance.first_poke_at
    return {
        **_base(owned, run),
        "key": [run.id, task.task_id, instance.map_index, instance.dispatches],
        "kind": "task",
        "task_id": task.task_id,
        "map_index": instance.map_index,
        "try_number": instance.try_number,
        "max_tries": instance.max_tries,
        "isolation": task.isolation or isolation,
        "priority": task.priority_weight,
        "log_path": str(log_path(owned.dag_id, run.run_id, task.task_id, instance.map_index, instance.try_number)),
        "first_poke_at": None if first_poke is None else first_poke.isoformat(),
        **({"deferral": instance.deferral} if instance.deferral is not None else {}),
    }


def trigger(owned: OwnedDag, run: RunState, instance: TaskInstance) -> dict[str, Any]:
    """Wait for what a deferred task waits for. It occupies no slot."""
    return {**task_attempt(owned, run, instance, "fork"), "kind": "trigger"}


def task_callback(
    owned: OwnedDag, run: RunState, instance: TaskInstance, kind: str, reason: str, number: int
) -> dict[str, Any]:
    """Run a callback of a task whose process could not do it itself. `kind`: on_failure_callback, on_retry_callback."""
    return {
        **task_attempt(owned, run, instance, "fork"),
        "key": [run.id, instance.task.task_id, instance.map_index, -number],
        "kind": kind,
        "reason": reason,
    }


def dag_callback(owned: OwnedDag, run: RunState, kind: str, reason: str, number: int, **more: Any) -> dict[str, Any]:
    """Run a callback of the DAG. `kind`: dag_on_success_callback, dag_on_failure_callback; dag_sla_miss_callback and
    dag_deadline_callback, with what was `missed`."""
    return {
        **_base(owned, run),
        "key": [run.id, "", -1, -number],
        "kind": kind,
        "task_id": "",
        "map_index": -1,
        "try_number": 1,
        "max_tries": 0,
        "isolation": "fork",
        "priority": 0,
        "log_path": str(log_path(owned.dag_id, run.run_id, kind, -1, 1)),
        "first_poke_at": None,
        "reason": reason,
        **more,
    }


def _base(owned: OwnedDag, run: RunState) -> dict[str, Any]:
    return {
        "epoch": owned.epoch,
        "dag_id": owned.dag_id,
        "run_id": run.run_id,
        "fileloc": owned.fileloc,
        "version_hash": owned.version_hash,
        **({"release": owned.release} if owned.release else {}),
        "run": {
            "run_type": run.run_type,
            "logical_date": run.logical_date.isoformat(),
            "data_interval_start": run.data_interval_start.isoformat(),
            "data_interval_end": run.data_interval_end.isoformat(),
            "conf": run.conf,
            "start_date": None if run.start_date is None else run.start_date.isoformat(),
            **partition(run),
        },
    }


def partition(run: RunState) -> dict[str, Any]:
    """`partition_key` and `partition_date`, of a run that has them."""
    if run.partition_key is None:
        return {}
    date = run.partition_date
    return {"partition_key": run.partition_key, "partition_date": None if date is None else date.isoformat()}
