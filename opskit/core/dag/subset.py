"""A DAG with only some of the tasks of another."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opskit.core.dag.task_group import TaskGroup

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG


def subset(
    dag: DAG, wanted: Any, include_downstream: bool, include_upstream: bool, include_direct_upstream: bool
) -> DAG:
    """A copy with the tasks whose ids `wanted` (a regular expression, or ids) finds, and those before or after them.
    Tasks that are left out are no neighbours of the others any more."""
    if isinstance(wanted, (str, re.Pattern)):
        chosen = {task_id for task_id in dag.task_dict if re.search(wanted, task_id)}
    else:
        chosen = set(wanted) & dag.task_dict.keys() if isinstance(wanted, Iterable) else set()
    kept = set(chosen)
    for task_id in chosen:
        task = dag.task_dict[task_id]
        if include_downstream:
            kept |= task.get_flat_relative_ids()
        if include_upstream:
            kept |= task.get_flat_relative_ids(upstream=True)
        elif include_direct_upstream:
            kept |= task.upstream_task_ids
    made = copy.copy(dag)
    for name in ("_mapped_over", "_jinja_environment", "_native_environment"):
        made.__dict__.pop(name, None)
    made.partial = True
    made.task_dict = {}
    for task_id, task in dag.task_dict.items():
        if task_id in kept:
            taken = made.task_dict[task_id] = copy.copy(task)
            taken._dag = made
            taken.upstream_task_ids = task.upstream_task_ids & kept
            taken.downstream_task_ids = task.downstream_task_ids & kept
    made.task_group = _copied(dag.task_group, made, None)
    return made


def _copied(group: TaskGroup, dag: DAG, parent: TaskGroup | None) -> TaskGroup:
    made = copy.copy(group)
    made.dag, made.parent_group, made.children = dag, parent, {}
    for name, child in group.children.items():
        if isinstance(child, TaskGroup):
            inner = _copied(child, dag, made)
            if inner.children:
                made.children[name] = inner
        elif name in dag.task_dict:
            made.children[name] = dag.task_dict[name]
            dag.task_dict[name].task_group = made
    return made
