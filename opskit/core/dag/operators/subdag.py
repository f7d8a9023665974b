"""SubDagOperator: another DAG's tasks as one task. Task groups have taken its place in Airflow."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from opskit.core.dag import authoring_context, runtime
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.branch import request_skip
from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.core.dag.states import SKIPPED, SUCCESS
from opskit.errors import DagInvalid


class SkippedStatePropagationOptions(StrEnum):
    """When skipped leaves of the sub-DAG skip what comes after the task."""

    ANY_LEAF = "any_leaf"
    ALL_LEAVES = "all_leaves"


class _WritesThrough(runtime.MemoryStore):
    """Keeps what belongs to the sub-DAG's run; what its tasks do to the rest of the world is done there."""

    def set_variable(self, key: str, value: str, description: str | None = None) -> None:
        if self.behind is None:
            super().set_variable(key, value, description)
        else:
            self.behind.set_variable(key, value, description)

    def delete_variable(self, key: str) -> bool:
        return super().delete_variable(key) if self.behind is None else self.behind.delete_variable(key)

    def trigger_dag_run(self, dag_id: str, **arguments: Any) -> runtime.RunInfo:
        if self.behind is None:
            return super().trigger_dag_run(dag_id, **arguments)
        return self.behind.trigger_dag_run(dag_id, **arguments)


class SubDagOperator(BaseSensorOperator):
    """Runs all tasks of `subdag`, whose id must be `<dag_id>.<task_id>`, one after the other inside its own attempt:
    their pools and limits don't count, retries follow at once. It fails when that run does.

    The sub-DAG is never scheduled by itself."""

    ui_color = "#555"
    ui_fgcolor = "#fff"

    def __init__(
        self,
        *,
        subdag: Any,
        conf: dict[str, Any] | None = None,
        propagate_skipped_state: SkippedStatePropagationOptions | str | None = None,
        session: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dag = self._dag or authoring_context.current_dag()
        if dag is None:
            raise DagInvalid(f"task {self.task_id}: a SubDagOperator needs a DAG", hint="pass dag=…")
        expected = f"{dag.dag_id}.{self.task_id}"
        if subdag.dag_id != expected:
            raise DagInvalid(
                f"task {self.task_id}: the sub-DAG's dag_id is {subdag.dag_id!r}", hint=f"name it {expected}"
            )
        subdag.is_subdag = True
        subdag.parent_dag = dag
        self.subdag = subdag
        self.conf = conf
        self.propagate_skipped_state = (
            None if propagate_skipped_state is None else SkippedStatePropagationOptions(propagate_skipped_state)
        )

    def execute(self, context: Any) -> None:
        from opskit.core.dag.testing import run_in_process

        run = run_in_process(
            self.subdag,
            conf=self.conf,
            logical_date=context["dag_run"]._info.logical_date,
            report=lambda line: self.log.info("%s", line),
            store=_WritesThrough(runtime.current_store()),
        )
        self.log.info("Execution finished. State is %s", run.state)
        if run.state != SUCCESS:
            why = "; ".join(f"{task_id}: {reason}" for task_id, reason in run.reasons.items())
            raise AirflowException(f"Expected state: SUCCESS. Actual state: {run.state}. {why}".rstrip())
        leaves = [run.task_states[task.task_id] == SKIPPED for task in self.subdag.leaves]
        options = SkippedStatePropagationOptions
        skips = {options.ANY_LEAF: any, options.ALL_LEAVES: all}
        if self.propagate_skipped_state is not None and leaves and skips[self.propagate_skipped_state](leaves):
            self.log.info("Skipping downstream tasks: the leaves of %s were skipped", self.subdag.dag_id)
            request_skip(context, self.downstream_task_ids)
