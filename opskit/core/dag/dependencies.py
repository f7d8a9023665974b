"""`>>`, `<<`, set_upstream, set_downstream, `chain`, `cross_downstream` and edge labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator

T = TypeVar("T")


class DependencyMixin:
    """Something that can stand at either end of `>>`: an operator, a task group, an XComArg, a label.

    `roots` are the tasks that come first in it, `leaves` those that come last."""

    @property
    def roots(self) -> Sequence[BaseOperator]:
        raise NotImplementedError

    @property
    def leaves(self) -> Sequence[BaseOperator]:
        raise NotImplementedError

    def set_downstream(self, other: Any, edge_modifier: Label | None = None) -> None:
        """Make `other` (one, or a list) run after this."""
        for item in _each(other):
            if isinstance(item, Label):
                item.note_before(self)
            else:
                _connect(self, item, edge_modifier)

    def set_upstream(self, other: Any, edge_modifier: Label | None = None) -> None:
        """Make `other` (one, or a list) run before this."""
        for item in _each(other):
            if isinstance(item, Label):
                item.note_after(self)
            else:
                _connect(item, self, edge_modifier)

    def __rshift__(self, other: T) -> T:
        self.set_downstream(other)
        return other

    def __lshift__(self, other: T) -> T:
        self.set_upstream(other)
        return other

    def __rrshift__(self, other: Any) -> Any:
        """`[a, b] >> self`"""
        self.set_upstream(other)
        return self

    def __rlshift__(self, other: Any) -> Any:
        """`[a, b] << self`"""
        self.set_downstream(other)
        return self


class Label(DependencyMixin):
    """A text on an edge: `a >> Label("yes") >> b`."""

    def __init__(self, label: str | None = None) -> None:
        self.label = label
        self._before: list[DependencyMixin] = []
        self._after: list[DependencyMixin] = []

    def note_before(self, node: DependencyMixin) -> None:
        """`node >> label`"""
        self._before.append(node)
        for after in self._after:
            _connect(node, after, self)

    def note_after(self, node: DependencyMixin) -> None:
        """`node << label`"""
        self._after.append(node)
        for before in self._before:
            _connect(before, node, self)

    def set_downstream(self, other: Any, edge_modifier: Label | None = None) -> None:
        for item in _each(other):
            self.note_after(item)

    def set_upstream(self, other: Any, edge_modifier: Label | None = None) -> None:
        for item in _each(other):
            self.note_before(item)


EdgeModifier = Label


def _each(nodes: Any) -> Iterable[DependencyMixin]:
    if isinstance(nodes, DependencyMixin):
        return (nodes,)
    if isinstance(nodes, (list, tuple, set, frozenset)):
        flat: list[DependencyMixin] = []
        for node in nodes:
            flat.extend(_each(node))
        return flat
    raise DagInvalid(
        f"a dependency on {type(nodes).__name__} {nodes!r} can't be set",
        hint="both sides of >> must be tasks, task groups, or lists of them",
    )


def _connect(before: DependencyMixin, after: DependencyMixin, label: Label | None) -> None:
    for up in before.leaves:
        for down in after.roots:
            connect_tasks(up, down)
            if label is not None and label.label and up.dag is not None:
                up.dag.set_edge_info(up.task_id, down.task_id, {"label": label.label})


def connect_tasks(up: BaseOperator, down: BaseOperator) -> None:
    """One edge. A task that has no DAG yet joins the other's."""
    if up._dag is not down._dag:
        if up._dag is None and down._dag is not None:
            up.dag = down._dag
        elif down._dag is None and up._dag is not None:
            down.dag = up._dag
        else:
            raise DagInvalid(
                f"task {up.task_id} of DAG {up.dag_id} can't come before task {down.task_id} of DAG {down.dag_id}",
                hint="a dependency between DAGs is a TriggerDagRunOperator or an ExternalTaskSensor",
            )
    elif up._dag is None:
        raise DagInvalid(
            f"tasks {up.task_id} and {down.task_id} belong to no DAG",
            hint="give one of them dag=…, or use `with DAG(…):`",
        )
    up.downstream_task_ids.add(down.task_id)
    down.upstream_task_ids.add(up.task_id)


def chain(*tasks: Any) -> None:
    """One after the other. Two neighbouring lists of equal length are connected pairwise; a list beside a single task,
    each with it. DagInvalid for neighbouring lists of different lengths."""
    for before, after in pairwise(tasks):
        many_before, many_after = isinstance(before, Sequence), isinstance(after, Sequence)
        if many_before and many_after:
            if len(before) != len(after):
                raise DagInvalid(
                    f"chain: a list of {len(before)} can't be followed by a list of {len(after)}",
                    hint="make them equally long, or use cross_downstream",
                )
            for one, other in zip(before, after, strict=True):
                one.set_downstream(other)
        elif many_before:
            after.set_upstream(before)
        else:
            before.set_downstream(after)


def chain_linear(*elements: Any) -> None:
    """One after the other; of two neighbouring lists every member of one with every member of the other."""
    for before, after in pairwise(elements):
        cross_downstream(
            before if isinstance(before, Sequence) else [before], after if isinstance(after, Sequence) else [after]
        )


def cross_downstream(from_tasks: Sequence[Any], to_tasks: Any) -> None:
    """Every task of the one list before every task of the other."""
    for task in from_tasks:
        task.set_downstream(to_tasks)
