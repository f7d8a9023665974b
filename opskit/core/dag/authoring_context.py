"""Which DAG and which task group the running `with` blocks have opened, and which DAGs a file has opened at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opskit.core.dag import dialect as dialects

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG
    from opskit.core.dag.task_group import TaskGroup

_dags: list[DAG] = []
_groups: list[TaskGroup] = []
registered: list[DAG] = []
"""DAGs that were opened with `with` or `@dag` since the last `loading.load_file`: found even without a global name."""


def current_dag() -> DAG | None:
    return _dags[-1] if _dags else None


def push_dag(dag: DAG) -> None:
    _dags.append(dag)
    if dag.auto_register and dag not in registered:
        registered.append(dag)


def pop_dag() -> None:
    _dags.pop()


def current_group(dag: DAG | None) -> TaskGroup | None:
    """The innermost open group of this DAG; its root group when none is open."""
    if dag is None:
        return _groups[-1] if _groups else None
    for group in reversed(_groups):
        if group.dag is dag:
            return group
    return dag.task_group


def push_group(group: TaskGroup) -> None:
    _groups.append(group)


def pop_group() -> None:
    _groups.pop()


_unmapped: BaseOperator | None = None


@contextmanager
def unmapping(task: BaseOperator) -> Iterator[None]:
    """Within the block, an operator with the id of this mapped task is one of its instances: it joins no DAG."""
    global _unmapped
    _unmapped = task
    try:
        yield
    finally:
        _unmapped = None


def dialect() -> int | None:
    """The Airflow that the DAG is written for which is being made, or of whose mapped task an instance is."""
    if _unmapped is not None and _unmapped.has_dag():
        return _unmapped.dag.dialect
    return dialects.current()


def being_unmapped(task_id: object) -> BaseOperator | None:
    """The mapped task of this id that an operator is being made for."""
    return _unmapped if _unmapped is not None and _unmapped.task_id == task_id else None


def forget() -> None:
    """Start afresh: a DAG file that failed inside a `with` block has left it open."""
    _dags.clear()
    _groups.clear()
    registered.clear()
    setup_teardown = sys.modules.get("opskit.core.dag.setup_teardown")
    if setup_teardown is not None:
        setup_teardown.forget()


@contextmanager
def set_aside() -> Iterator[None]:
    """Within the block nothing is open and nothing registered; afterwards all is as before. For a file that is loaded
    while another one is."""
    kept: list[list[Any]] = [list(_dags), list(_groups), list(registered)]
    stacks: list[list[Any]] = [_dags, _groups, registered]
    forget()
    try:
        yield
    finally:
        forget()
        for stack, before in zip(stacks, kept, strict=True):
            stack.extend(before)
