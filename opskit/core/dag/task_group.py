"""TaskGroup: tasks that are shown, prefixed and connected as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.dag import authoring_context
from opskit.core.dag.dependencies import DependencyMixin
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.expand_input import ExpandInput
    from opskit.core.dag.model import DAG

VALID_ID = re.compile(r"[\w.-]+")
"""Of a DAG or a task: letters of any language, as in Airflow."""
_VALID_GROUP_ID = re.compile(r"[\w-]+")


class TaskGroup(DependencyMixin):
    """Used as `with TaskGroup("load"):`. Ids of its tasks get the prefix `load.` unless prefix_group_id=False.

    `group_id=None` is the root group of a DAG."""

    def __init__(
        self,
        group_id: str | None,
        prefix_group_id: bool = True,
        parent_group: TaskGroup | None = None,
        dag: DAG | None = None,
        default_args: dict[str, Any] | None = None,
        tooltip: str = "",
        ui_color: str = "CornflowerBlue",
        ui_fgcolor: str = "#000",
        add_suffix_on_collision: bool = False,
        group_display_name: str = "",
        *,
        expand_input: ExpandInput | None = None,
    ) -> None:
        self.expand_input = expand_input
        self.prefix_group_id = prefix_group_id
        self.default_args = dict(default_args or {})
        self.tooltip = tooltip
        self.ui_color = ui_color
        self.ui_fgcolor = ui_fgcolor
        self.group_display_name = group_display_name
        self.children: dict[str, BaseOperator | TaskGroup] = {}
        self.parent_group: TaskGroup | None = None
        self._group_id = group_id
        if group_id is None:
            self.dag = dag
            self.used_group_ids: set[str] = set()
            return
        if not group_id or not _VALID_GROUP_ID.fullmatch(group_id):
            raise DagInvalid(f"{group_id!r} can't be the id of a task group", hint="use letters, digits, - and _")
        self.parent_group = parent_group or authoring_context.current_group(dag or authoring_context.current_dag())
        self.dag = dag or (self.parent_group.dag if self.parent_group else None)
        if self.parent_group is None:
            raise DagInvalid(f"task group {group_id} belongs to no DAG", hint="use it inside `with DAG(…):`")
        if expand_input is not None and self.parent_group.mapped_group is not None:
            raise DagInvalid(
                f"task group {group_id}: a mapped task group inside of the mapped task group "
                f"{self.parent_group.mapped_group.group_id} is not supported",
                hint="map the outer group over all combinations",
            )
        self.used_group_ids = self.parent_group.used_group_ids
        if self.group_id in self._taken_ids():
            if not add_suffix_on_collision:
                raise DagInvalid(f"{self.group_id!r} is the id of two task groups or tasks of DAG {self._dag_id()}")
            parent, taken = self.parent_group, self._taken_ids()
            self._group_id = unique_id(group_id, lambda candidate: parent.child_id(candidate) in taken)
        self.used_group_ids.add(str(self.group_id))
        self.parent_group.children[str(self.group_id)] = self
        if self.parent_group.default_args:
            self.default_args = {**self.parent_group.default_args, **self.default_args}

    def _dag_id(self) -> str | None:
        return self.dag.dag_id if self.dag else None

    def _taken_ids(self) -> set[str]:
        return self.used_group_ids | (self.dag.task_dict.keys() if self.dag else set())

    @property
    def is_root(self) -> bool:
        return self._group_id is None

    @property
    def group_id(self) -> str | None:
        """The full id: with the prefixes of the groups around it. None for the root."""
        if self.parent_group is not None and self._group_id is not None:
            return self.parent_group.child_id(self._group_id)
        return self._group_id

    node_id = group_id

    @property
    def label(self) -> str | None:
        return self.group_display_name or self._group_id

    @property
    def is_mapped(self) -> bool:
        return self.expand_input is not None

    @property
    def mapped_group(self) -> TaskGroup | None:
        """The mapped task group around it; itself when it is mapped."""
        group: TaskGroup | None = self
        while group is not None and group.expand_input is None:
            group = group.parent_group
        return group

    def child_id(self, label: str) -> str:
        """The full id of a task or group that is called `label` inside this group."""
        if self.prefix_group_id and self.group_id:
            return f"{self.group_id}.{label}"
        return label

    def add(self, task: BaseOperator) -> BaseOperator:
        self.children[task.task_id] = task
        task.task_group = self
        return task

    def get_child_by_label(self, label: str) -> BaseOperator | TaskGroup:
        return self.children[self.child_id(label)]

    def iter_tasks(self) -> Iterator[BaseOperator]:
        """All tasks in it, those of nested groups included."""
        for child in self.children.values():
            if isinstance(child, TaskGroup):
                yield from child.iter_tasks()
            else:
                yield child

    def iter_groups(self) -> Iterator[TaskGroup]:
        """All groups in it, outer ones first; not itself."""
        for child in self.children.values():
            if isinstance(child, TaskGroup):
                yield child
                yield from child.iter_groups()

    def __iter__(self) -> Iterator[BaseOperator]:
        return self.iter_tasks()

    def has_task(self, task: BaseOperator) -> bool:
        return any(own is task for own in self.iter_tasks())

    def get_roots(self) -> list[BaseOperator]:
        """Tasks without an upstream task inside the group."""
        tasks = list(self.iter_tasks())
        ids = {task.task_id for task in tasks}
        return [task for task in tasks if not task.upstream_task_ids & ids]

    def get_leaves(self) -> list[BaseOperator]:
        """Tasks without a downstream task inside the group. Teardowns are none: what follows the group does not wait
        for them, but for what they wait for."""
        tasks = {task.task_id: task for task in self.iter_tasks()}
        found: dict[str, BaseOperator] = {}

        def before(teardown: BaseOperator) -> None:
            for task_id in sorted(teardown.upstream_task_ids & tasks.keys()):
                task = tasks[task_id]
                if task.is_teardown:
                    before(task)
                elif not task.is_setup and not any(
                    not tasks[after].is_teardown
                    for after in task.downstream_task_ids & tasks.keys()
                    if after != teardown.task_id
                ):
                    found[task_id] = task

        for task in tasks.values():
            if not task.downstream_task_ids & tasks.keys():
                if task.is_teardown:
                    before(task)
                else:
                    found[task.task_id] = task
        return list(found.values())

    @property
    def roots(self) -> Sequence[BaseOperator]:
        return self.get_roots()

    @property
    def leaves(self) -> Sequence[BaseOperator]:
        return self.get_leaves()

    def __enter__(self) -> TaskGroup:
        authoring_context.push_group(self)
        return self

    def __exit__(self, *error: object) -> None:
        authoring_context.pop_group()
        if self.expand_input is not None and error[0] is None:
            for task in self.iter_tasks():
                if task.trigger_rule == "always":
                    raise DagInvalid(f"task {task.task_id} of a mapped task group can't have the trigger rule 'always'")
            for upstream in dict.fromkeys(self.expand_input.iter_references()):
                self.set_upstream(upstream)

    def __repr__(self) -> str:
        return f"<TaskGroup {self.group_id}>"


def unique_id(wanted: str, is_taken: Callable[[str], bool]) -> str:
    """`wanted`, or with the first free suffix `__1`, `__2` …"""
    if not is_taken(wanted):
        return wanted
    stem = re.sub(r"__\d+$", "", wanted)
    number = 1
    while is_taken(f"{stem}__{number}"):
        number += 1
    return f"{stem}__{number}"
