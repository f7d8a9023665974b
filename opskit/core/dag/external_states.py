"""States of other DAGs' runs, tasks and task groups: what ExternalTaskSensor and its trigger look at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from opskit.core.dag import runtime
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.zones import utc

Answer = Literal["failed", "skipped", "success", "wait"]


@dataclass(frozen=True, slots=True)
class Target:
    """A whole run, some of its tasks, or one of its task groups."""

    dag_id: str
    task_ids: tuple[str, ...] = ()
    group_id: str | None = None

    def __str__(self) -> str:
        if self.task_ids:
            return f"task {', '.join(self.task_ids)} of DAG {self.dag_id}"
        return f"task group {self.group_id} of DAG {self.dag_id}" if self.group_id else f"DAG {self.dag_id}"

    def states(self, *, date: datetime | None = None, run_id: str | None = None) -> list[str | None] | None:
        """The states that count in one run; None when there is no such run, or it has no such task yet."""
        store = runtime.store()
        run = store.get_run(self.dag_id, run_id=run_id, logical_date=None if date is None else utc(date))
        if run is None:
            return None
        if not self.task_ids and not self.group_id:
            return [run.state]
        states = store.task_states(self.dag_id, run.run_id)
        if self.group_id:
            prefix = f"{self.group_id}."
            return [state for (task_id, _), state in states.items() if task_id.startswith(prefix)] or None
        if set(self.task_ids) - {task_id for task_id, _ in states}:
            return None
        return [state for (task_id, _), state in states.items() if task_id in self.task_ids]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which states mean what."""

    allowed: Collection[str]
    failed: Collection[str] = ()
    skipped: Collection[str] = ()

    def judge(self, found: Iterable[list[str | None] | None]) -> Answer:
        """From the states of each run: a failed state comes before a skipped one, success needs all runs."""
        runs = list(found)
        flat = [state for states in runs if states for state in states]
        if any(state in self.failed for state in flat):
            return "failed"
        if any(state in self.skipped for state in flat):
            return "skipped"
        return (
            "success" if all(states and all(state in self.allowed for state in states) for states in runs) else "wait"
        )


def check_existence(target: Target) -> None:
    """AirflowException when the cluster has no such DAG, or the DAG no such task or group."""
    found = runtime.store().find_dag(target.dag_id)
    if found is None:
        raise AirflowException(f"The external DAG {target.dag_id} does not exist.")
    tasks = found["task_ids"]
    for task_id in target.task_ids:
        if task_id not in tasks:
            raise AirflowException(f"The external task {task_id} in DAG {target.dag_id} does not exist.")
    if target.group_id and not any(task_id.startswith(f"{target.group_id}.") for task_id in tasks):
        raise AirflowException(f"The external task group '{target.group_id}' in DAG '{target.dag_id}' does not exist.")
