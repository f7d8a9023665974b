"""ExternalTaskSensor: wait for a task, a task group or a whole run of another DAG."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.external_states import Target, Wanted, check_existence
from opskit.core.dag.operator_links import ExternalDagLink
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
    operator_extra_links = (ExternalDagLink(),)
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
        poll_interval: float | None = None,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        if poll_interval is not None:
            kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(**kwargs)
        self.allowed_states = list(allowed_states) if allowed_states else ["success"]
        self.skipped_states = list(skipped_states or [])
        self.failed_states = list(failed_states or [])
        states = [*self.allowed_states, *self.skipped_states, *self.failed_states]
        if len(set(states)) < len(states):
            raise DagInvalid(f"task {self.task_id}: a state is in two of allowed_, skipped_ and failed_states")
        external_task_ids = external_task_ids or None
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
        self.deferrable = deferrable

    @property
    def _target(self) -> Target:
        ids = self.external_task_ids
        if ids is not None and len(ids) > len(set(ids)):
            raise ValueError("Duplicate task_ids passed in external_task_ids parameter")
        return Target(self.external_dag_id, tuple(ids or ()), self.external_task_group_id)

    def execute(self, context: Any) -> Any:  # noqa: RET503 - defer() does not return
        if self.check_existence:
            check_existence(self._target)
        if not self.deferrable:
            return super().execute(context)
        from opskit.core.dag.triggers.external_task import WorkflowTrigger

        trigger = WorkflowTrigger(
            external_dag_id=self.external_dag_id,
            logical_dates=self._dates(context),
            external_task_ids=self.external_task_ids,
            external_task_group_id=self.external_task_group_id,
            allowed_states=self.allowed_states,
            failed_states=self.failed_states,
            skipped_states=self.skipped_states,
            poke_interval=self.poke_interval,
            soft_fail=self.soft_fail,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=self.timeout or None)

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> None:
        """Go on after the trigger."""
        if event is None:
            raise AirflowException("No event received from trigger")
        self._judge(event["status"])

    def poke(self, context: Any) -> bool:
        dates = self._dates(context)
        self.log.info("Poking for %s on %s ...", self._target, ", ".join(date.isoformat() for date in dates))
        wanted = Wanted(self.allowed_states, self.failed_states, self.skipped_states)
        return self._judge(wanted.judge(self._target.states(date=date) for date in dates))

    def _judge(self, answer: str) -> bool:
        if answer == "failed":
            if self.soft_fail:
                raise AirflowSkipException(f"{self._target} has failed. Skipping due to soft_fail.")
            raise AirflowException(f"{self._target}, which this task waits for, has failed")
        if answer == "skipped":
            raise AirflowSkipException(f"{self._target} has reached one of skipped_states. Skipping.")
        return answer == "success"

    def _dates(self, context: Any) -> list[datetime]:
        logical_date = context["logical_date"]
        if self.execution_delta is not None:
            return [logical_date - self.execution_delta]
        if self.execution_date_fn is not None:
            from opskit.core.dag.operators.python import PartOfContext, call_with_context

            # The date is the first argument already, whatever its name.
            rest = PartOfContext(context, lambda name: name not in _DATES, {"context": context})
            dates = call_with_context(self.execution_date_fn, (logical_date,), {}, rest)
            return list(dates) if isinstance(dates, (list, tuple, set)) else [dates]
        return [logical_date]


_DATES = ("logical_date", "execution_date")


class ExternalTaskMarker(EmptyOperator):
    """Says that a task of another DAG, in its run of this logical date, depends on this one."""

    template_fields: Sequence[str] = ("external_dag_id", "external_task_id", "logical_date", "execution_date")
    operator_extra_links = (ExternalDagLink(),)
    ui_color = "#4db7db"

    def __init__(
        self,
        *,
        external_dag_id: str,
        external_task_id: str,
        logical_date: str | datetime | None = None,
        execution_date: str | datetime | None = None,
        recursion_depth: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = logical_date if logical_date is not None else execution_date
        if given is None:
            given = "{{ logical_date.isoformat() }}"
        if not isinstance(given, (str, datetime)):
            raise DagInvalid(f"task {self.task_id}: logical_date is {given!r}, a text or a datetime is needed")
        if recursion_depth <= 0:
            raise DagInvalid(f"task {self.task_id}: recursion_depth is {recursion_depth}, at least 1 is needed")
        self.external_dag_id = external_dag_id
        self.external_task_id = external_task_id
        self.logical_date = given.isoformat() if isinstance(given, datetime) else given
        self.execution_date = self.logical_date
        self.recursion_depth = recursion_depth
