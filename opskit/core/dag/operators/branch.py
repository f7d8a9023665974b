"""Branching: from what a branch task chose to the tasks that are skipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException

SKIP_KEY = "skipmixin_key"


def request_skip(context: Any, task_ids: Iterable[str]) -> None:
    """Have these tasks skipped when the running one has succeeded."""
    context["ti"].skip_downstream.update(task_ids)


def tasks_to_skip(task: BaseOperator, choice: Any) -> set[str]:
    """The direct downstream tasks that were not chosen and can't be reached from a chosen one.

    `choice` is a task_id, a task group's id, a list of them, or None (nothing is followed). AirflowException for an
    id that the DAG does not have."""
    chosen = {choice} if isinstance(choice, str) else set(choice or ())
    if not all(isinstance(task_id, str) for task_id in chosen):
        raise AirflowException(f"a branch must return task_ids or None, this is {choice!r}")
    dag = task.dag
    groups = dag.task_group_dict if any(task_id not in dag.task_dict for task_id in chosen) else {}
    followed: set[str] = set()
    for task_id in chosen:
        if task_id in dag.task_dict:
            followed.add(task_id)
        elif task_id in groups:
            followed.update(root.task_id for root in groups[task_id].roots)
        else:
            raise AirflowException(f"the branch {task_id!r} is neither a task nor a task group of DAG {dag.dag_id}")
    reachable = set(followed)
    for task_id in followed:
        reachable |= dag.task_dict[task_id].get_flat_relative_ids()
    return task.downstream_task_ids - reachable


class SkipMixin:
    """For operators that have other tasks of their run skipped."""

    def skip(self, dag_run: Any = None, *others: Any, tasks: Iterable[Any] | None = None, **_: Any) -> None:
        """Skip these tasks: `skip(dag_run, date, tasks)` of Airflow 2, and `skip(ti, tasks)` of Airflow 3."""
        from opskit.core.dag.context import get_current_context

        if tasks is None:
            tasks = next((other for other in others if isinstance(other, Iterable)), ())
        skipped = sorted(str(task.task_id) for task in tasks)
        if skipped:
            context = get_current_context()
            request_skip(context, skipped)
            # Under Airflow's key, for those who look at it there.
            context["ti"].xcom_push(SKIP_KEY, {"skipped": skipped})

    def skip_all_except(self, ti: Any, branch_task_ids: Any) -> None:
        """Skip the direct downstream tasks, but these and those that they lead to."""
        task = ti.task
        skipped = tasks_to_skip(task, branch_task_ids)
        ti.skip_downstream.update(skipped)
        if task.downstream_task_ids:
            ti.xcom_push(SKIP_KEY, {"followed": sorted(task.downstream_task_ids - skipped)})


class BranchMixIn(SkipMixin):
    """For operators whose outcome is a choice among downstream tasks."""

    def do_branch(self, context: Any, branches_to_execute: Any) -> Any:
        """Ask to skip what was not chosen; gives the choice back."""
        task: Any = self
        task.log.info("Branch into %s", branches_to_execute)
        if isinstance(branches_to_execute, Iterable) and not isinstance(branches_to_execute, str):
            branches_to_execute = list(branches_to_execute)
        self.skip_all_except(context["ti"], branches_to_execute)
        return branches_to_execute


class BaseBranchOperator(BranchMixIn, BaseOperator):
    """A subclass says in `choose_branch` what to follow."""

    inherits_from_skipmixin = True

    def choose_branch(self, context: Any) -> str | Iterable[str] | None:
        raise NotImplementedError

    def execute(self, context: Any) -> Any:
        return self.do_branch(context, self.choose_branch(context))
