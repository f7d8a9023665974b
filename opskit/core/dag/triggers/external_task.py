"""Triggers that wait for runs and tasks of other DAGs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any

from opskit.core.dag import runtime
from opskit.core.dag.external_states import Target, Wanted
from opskit.core.dag.triggers.base import BaseTrigger, TriggerEvent
from opskit.core.dag.zones import utc


class WorkflowTrigger(BaseTrigger):
    """Fires with `{"status": "success" | "failed" | "skipped"}` when runs, tasks or a task group of another DAG have
    reached such states. The runs are named by run_ids or by their logical dates."""

    def __init__(
        self,
        external_dag_id: str,
        run_ids: list[str] | None = None,
        execution_dates: list[datetime] | None = None,
        logical_dates: list[datetime] | None = None,
        external_task_ids: Collection[str] | None = None,
        external_task_group_id: str | None = None,
        failed_states: Collection[str] | None = None,
        skipped_states: Collection[str] | None = None,
        allowed_states: Collection[str] | None = None,
        poke_interval: float = 2.0,
        soft_fail: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.external_dag_id = external_dag_id
        self.run_ids = run_ids
        self.logical_dates = logical_dates or execution_dates
        self.execution_dates = self.logical_dates
        self.external_task_ids = external_task_ids
        self.external_task_group_id = external_task_group_id
        self.failed_states = failed_states
        self.skipped_states = skipped_states
        self.allowed_states = allowed_states
        self.poke_interval = poke_interval
        self.soft_fail = soft_fail

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = (
            "external_dag_id",
            "run_ids",
            "logical_dates",
            "external_task_ids",
            "external_task_group_id",
            "failed_states",
            "skipped_states",
            "allowed_states",
            "poke_interval",
            "soft_fail",
        )
        classpath = "airflow.providers.standard.triggers.external_task.WorkflowTrigger"
        return classpath, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        target = Target(self.external_dag_id, tuple(self.external_task_ids or ()), self.external_task_group_id)
        wanted = Wanted(self.allowed_states or ["success"], self.failed_states or (), self.skipped_states or ())
        while True:
            if self.run_ids:
                found = [target.states(run_id=run_id) for run_id in self.run_ids]
            else:
                found = [target.states(date=date) for date in self.logical_dates or ()]
            answer = wanted.judge(found)
            if answer != "wait":
                yield TriggerEvent({"status": answer})
                return
            await asyncio.sleep(self.poke_interval)


class DagStateTrigger(BaseTrigger):
    """Fires when all of these runs of a DAG are in one of `states`. The payload is its class path, and its arguments
    with the state of each run by run_id."""

    def __init__(
        self,
        dag_id: str,
        states: list[str],
        run_ids: list[str] | None = None,
        execution_dates: list[datetime] | None = None,
        poll_interval: float = 5.0,
    ) -> None:
        super().__init__()
        self.dag_id = dag_id
        self.states = states
        self.run_ids = run_ids
        self.execution_dates = execution_dates
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("dag_id", "states", "run_ids", "execution_dates", "poll_interval")
        classpath = "airflow.providers.standard.triggers.external_task.DagStateTrigger"
        return classpath, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            store = runtime.store()
            if self.run_ids:
                runs = [store.get_run(self.dag_id, run_id=run_id) for run_id in self.run_ids]
            else:
                runs = [store.get_run(self.dag_id, logical_date=utc(date)) for date in self.execution_dates or ()]
            states = {run.run_id: run.state for run in runs if run is not None}
            if len(states) == len(runs) and all(state in self.states for state in states.values()):
                classpath, arguments = self.serialize()
                yield TriggerEvent((classpath, {**arguments, **states}))
                return
            await asyncio.sleep(self.poll_interval)
