"""ExternalTaskSensor: wait for a task, a task group or a whole run of another DAG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag import runtime
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.core.dag.states import DAG_RUN_STATES, TASK_STATES
from opskit.errors import DagInvalid


class ExternalTaskSensor(BaseSensorOperator):
    """Looks at the run with the same logical date, with that date minus `execution_delta`, or with the date(s) that
    `execution_date_fn(logical_date)` gives. Without a task or group, the state of the run itself counts.

    A state in `failed_states` fails the sensor (skips it with soft_fail), one in `skipped_states` skips it."""

    template_fields: Sequence[str] = (
        "external_dag_id",
        "external_task_id",
        "external_task_ids",
        "external_task_group_id",
    )
    ui_color = "#4db7db"

    def __init__(
        self,
        *,
        external_dag_id: str,
        external_task_id: str | None = None,
        external_task_ids: Collection[str] | None = None,
        external_task_group_id: str | None = None,
        allowed_states: Collection[str] | None = None,
        skipped_states: Collection[str] | None = None,
        failed_states: Collection[str] | None = None,
        execution_delta: timedelta | None = None,
        execution_date_fn: Callable[..., Any] | None = None,
        check_existence: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.allowed_states = list(allowed_states) if allowed_states else ["success"]
        self.skipped_states = list(skipped_states or [])
        self.failed_states = list(failed_states or [])
        states = [*self.allowed_states, *self.skipped_states, *self.failed_states]
        if len(set(states)) < len(states):
            raise DagInvalid(f"task {self.task_id}: a state is in two of allowed_, skipped_ and failed_states")
        if external_task_id is not None and external_task_ids is not None:
            raise DagInvalid(f"task {self.task_id}: give external_task_id or external_task_ids")
        if external_task_group_id is not None and (external_task_id or external_task_ids):
            raise DagInvalid(f"task {self.task_id}: give a task or a task group")
        if execution_delta is not None and execution_date_fn is not None:
            raise DagInvalid(f"task {self.task_id}: give execution_delta or execution_date_fn")
        of_tasks = bool(external_task_id or external_task_ids or external_task_group_id)
        known = TASK_STATES if of_tasks else DAG_RUN_STATES
        wrong = [state for state in states if state not in known]
        if wrong:
            raise DagInvalid(f"task {self.task_id}: {wrong[0]!r} is no state of a {'task' if of_tasks else 'run'}")
        self.external_dag_id = external_dag_id
        self.external_task_id = external_task_id
        self.external_task_ids = (
            [external_task_id]
            if external_task_id is not None
            else list(external_task_ids)
            if external_task_ids is not None
            else None
        )
        self.external_task_group_id = external_task_group_id
        self.execution_delta = execution_delta
        self.execution_date_fn = execution_date_fn
        self.check_existence = check_existence

    def poke(self, context: Any) -> bool:
        dates = self._dates(context)
        self.log.info(
            "Poking for DAG %s, %s, on %s …",
            self.external_dag_id,
            self.external_task_ids or self.external_task_group_id or "the run",
            ", ".join(date.isoformat() for date in dates),
        )
        found = [states for date in dates if (states := self._states(date))]
        flat = [state for states in found for state in states]
        if any(state in self.failed_states for state in flat):
            if self.soft_fail:
                raise AirflowSkipException(f"DAG {self.external_dag_id}: a state is in failed_states. Skipping.")
            raise AirflowException(f"DAG {self.external_dag_id}: what this task waits for has failed")
        if any(state in self.skipped_states for state in flat):
            raise AirflowSkipException(f"DAG {self.external_dag_id}: a state is in skipped_states. Skipping.")
        return len(found) == len(dates) and all(state in self.allowed_states for state in flat)

    def _dates(self, context: Any) -> list[datetime]:
        logical_date = context["logical_date"]
        if self.execution_delta is not None:
            return [logical_date - self.execution_delta]
        if self.execution_date_fn is not None:
            from opskit.core.dag.operators.python import call_with_context

            dates = call_with_context(self.execution_date_fn, (logical_date,), {}, context)
            return list(dates) if isinstance(dates, (list, tuple)) else [dates]
        return [logical_date]

    def _states(self, date: datetime) -> list[str | None]:
        """The states that count in the run of this date; empty when there is no such run or task yet."""
        store = runtime.store()
        run = store.get_run(self.external_dag_id, logical_date=date)
        if run is None:
            return []
        if not self.external_task_ids and not self.external_task_group_id:
            return [run.state]
        states = store.task_states(self.external_dag_id, run.run_id)
        if self.external_task_group_id:
            prefix = f"{self.external_task_group_id}."
            found = [state for (task_id, _), state in states.items() if task_id.startswith(prefix)]
            missing = not found
        else:
            wanted = set(self.external_task_ids or ())
            found = [state for (task_id, _), state in states.items() if task_id in wanted]
            missing = bool(wanted - {task_id for task_id, _ in states})
        if missing and self.check_existence:
            raise AirflowException(
                f"DAG {self.external_dag_id} has no {self.external_task_group_id or self.external_task_ids}"
            )
        return [] if missing else found


class ExternalTaskMarker(EmptyOperator):
    """Says that a task of another DAG depends on this one."""

    template_fields: Sequence[str] = ("external_dag_id", "external_task_id", "execution_date")

    def __init__(
        self,
        *,
        external_dag_id: str,
        external_task_id: str,
        execution_date: str | datetime | None = "{{ logical_date.isoformat() }}",
        recursion_depth: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.external_dag_id = external_dag_id
        self.external_task_id = external_task_id
        self.execution_date = execution_date.isoformat() if isinstance(execution_date, datetime) else execution_date
        self.recursion_depth = recursion_depth
