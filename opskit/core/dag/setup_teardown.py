"""Setup and teardown: `with setup >> teardown:`, which setups a task needs, and which tasks decide a run's state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import AirflowException

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG

_open: list[Scope] = []


class Scope:
    """A `with` block around the tasks that a setup and its teardown belong to."""

    def __init__(self, marks: list[BaseOperator]) -> None:
        """`marks`: the setup tasks, or the teardown tasks, that the block was opened with."""
        first = marks[0]
        if any(not (task.is_setup or task.is_teardown) for task in marks):
            raise AirflowException("Only setup/teardown tasks can be used as context managers.")
        if any(task.is_setup != first.is_setup for task in marks):
            raise ValueError("All tasks in the list must be either setup or teardown tasks")
        self.setups = marks if first.is_setup else _nearest(first, "is_setup", upstream=True)
        self.teardowns = marks if first.is_teardown else _nearest(first, "is_teardown", upstream=False)
        self.tasks: list[BaseOperator] = []
        self.collecting = True

    def add_task(self, task: Any) -> None:
        """Have a task in the block that was made before it."""
        self.tasks.append(getattr(task, "operator", task))

    def close(self) -> None:
        """Connect what was made in the block, and the block with the one around it."""
        tasks = [task for task in self.tasks if not task.is_setup and not task.is_teardown]
        if tasks:
            roots = [task for task in tasks if not task.upstream_task_ids] or tasks[:1]
            leaves = [task for task in tasks if not task.downstream_task_ids] or tasks[-1:]
            for setup in self.setups:
                setup.set_downstream(roots)
            for teardown in self.teardowns:
                teardown.set_upstream(leaves)
        around = _open[-1] if _open else None
        if around is not None:
            for setup in around.setups:
                setup.set_downstream(self.setups)
            for teardown in self.teardowns:
                teardown.set_downstream(around.teardowns)
            if (self.setups or self.teardowns)[0].dag.dialect is not None:
                # Airflow stops to look at the outer block here: what follows in it is not connected.
                around.collecting = False


def enter(marks: list[BaseOperator]) -> Scope:
    """Open the block of `with teardown:`. AirflowException for a task that is neither setup nor teardown."""
    scope = Scope(marks)
    _open.append(scope)
    return scope


def leave() -> None:
    _open.pop().close()


def forget() -> None:
    _open.clear()


def collect(task: BaseOperator) -> None:
    """Tell the open block of a new task."""
    if _open and _open[-1].collecting:
        dag = task.get_dag()
        if task.is_mapped and dag is not None and dag.dialect is not None:
            return  # Airflow does not see them
        _open[-1].add_task(task)


class ContextWrapper(list[Any]):
    """`with context_wrapper([setup, other_setup]):`"""

    def __init__(self, tasks: Iterable[Any]) -> None:
        super().__init__(tasks)
        self.tasks = list(self)

    def __enter__(self) -> Scope:
        return enter([getattr(task, "operator", task) for task in self])

    def __exit__(self, *_: object) -> None:
        leave()


context_wrapper = ContextWrapper


def _nearest(task: BaseOperator, mark: str, *, upstream: bool) -> list[BaseOperator]:
    """The tasks with this mark that come first on the way from `task`."""
    seen = {task.task_id}
    level = task.get_direct_relatives(upstream)
    while level:
        found = [neighbour for neighbour in level if getattr(neighbour, mark)]
        if found:
            return found
        seen.update(neighbour.task_id for neighbour in level)
        following = [after for neighbour in level for after in neighbour.get_direct_relatives(upstream)]
        level = [after for after in dict.fromkeys(following) if after.task_id not in seen]
    return []


def setups_of(dag: DAG) -> dict[str, list[str]]:
    """task_id → the setup tasks that it needs and does not follow directly: those whose teardown comes after it, or
    that have no teardown."""
    setups = [task for task in dag.tasks if task.is_setup]
    found: dict[str, list[str]] = {}
    for setup in setups:
        teardowns = [task for task in setup.downstream_list if task.is_teardown]
        below = setup.get_flat_relative_ids()
        needed = below if not teardowns else set()
        for teardown in teardowns:
            needed = needed | (below & teardown.get_flat_relative_ids(upstream=True))
        for task_id in needed - setup.downstream_task_ids:
            found.setdefault(task_id, []).append(setup.task_id)
    return found


def effective_leaves(dag: DAG) -> set[str]:
    """The tasks whose states decide that of the run: teardowns count only with on_failure_fail_dagrun."""

    def counts(task: BaseOperator) -> bool:
        return not task.is_teardown or task.on_failure_fail_dagrun

    leaves = {
        task.task_id
        for task in dag.tasks
        if counts(task) and not any(counts(dag.task_dict[task_id]) for task_id in task.downstream_task_ids)
    }
    # A DAG of teardowns only: then they decide after all.
    return leaves or {task.task_id for task in dag.tasks if not task.downstream_task_ids}
