"""DAGs as they were serialized, kept in memory by the hash of their version: a version never changes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from opskit.core.dag.serialized import SerializedDag, SerializedTask
from opskit.core.metastore import dags
from opskit.core.metastore.engine import Connection
from opskit.errors import NotFound
from opskit.web.recent import Recent


@dataclass(frozen=True, eq=False)
class Definition:
    """One version of a DAG, with what pages ask of it."""

    dag: SerializedDag
    hash: str

    @cached_property
    def parents(self) -> dict[str, str | None]:
        """Group → the group around it."""
        return {group["group_id"]: group.get("parent") for group in self.dag.groups}

    @cached_property
    def group_of(self) -> dict[str, str]:
        """Task → the group it stands in; tasks without one are left out."""
        return {task.task_id: task.group for task in self.dag.tasks if task.group in self.parents}

    @cached_property
    def edges(self) -> list[tuple[str, str]]:
        """Every dependency once, in the order of the tasks."""
        return [
            (task.task_id, below) for task in self.dag.tasks for below in task.downstream if below in self.dag.by_id
        ]

    @cached_property
    def members(self) -> dict[str, list[str]]:
        """Group → all tasks in it and in the groups within it."""
        found: dict[str, list[str]] = {group: [] for group in self.parents}
        for task_id in self.group_of:
            for group in self.chain(task_id):
                found[group].append(task_id)
        return found

    def chain(self, task_id: str) -> list[str]:
        """The groups around a task, the innermost first."""
        found: list[str] = []
        group = self.group_of.get(task_id)
        while group is not None and group not in found:
            found.append(group)
            group = self.parents.get(group)
        return found

    def is_mapped(self, task: SerializedTask) -> bool:
        return task.expand is not None or task.mapped_group is not None

    def label(self, name: str) -> str:
        """Of a task or group, without the names of the groups around it."""
        task = self.dag.by_id.get(name)
        if task is not None and (task.ui.get("display_name") or task.ui.get("label")):
            return str(task.ui.get("display_name") or task.ui["label"])
        outer = self.group_of.get(name) if task is not None else self.parents.get(name)
        return name.removeprefix(f"{outer}.") if outer else name


_kept: Recent[Definition] = Recent(10_000, lambda definition: 1 + len(definition.dag.tasks))
"""So many tasks: some 25 MB."""


def definition(connection: Connection, dag_id: str, version_hash: str) -> Definition:
    """A version of a DAG. NotFound when the DAG has no such version (any more)."""
    key = (dag_id, version_hash)
    known = _kept.get(key)
    if known is not None:
        return known
    made = Definition(dags.get_serialized(connection, dag_id, version_hash), version_hash)
    _kept.put(key, made)
    return made


def of_run(connection: Connection, dag_id: str, run_version: str | None, current: str) -> Definition:
    """The version that a run was made from; where it is gone, or the run has none yet, the current one."""
    if run_version and run_version != current:
        try:
            return definition(connection, dag_id, run_version)
        except NotFound:
            pass  # retention has removed it
    return definition(connection, dag_id, current)
