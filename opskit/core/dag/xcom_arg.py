"""XComArg: the output of a task as an argument of another; it makes the dependency and is resolved at run time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.dag.dependencies import DependencyMixin
from opskit.core.dag.xcom import XCOM_RETURN_KEY

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator


class ResolveMixin:
    """A value in a template field that is known only when the task runs."""

    def iter_references(self) -> Iterator[BaseOperator]:
        """The tasks whose output it needs."""
        yield from ()

    def resolve(self, context: Any) -> Any:
        raise NotImplementedError


class XComArg(ResolveMixin, DependencyMixin):
    """What `operator` pushes under `key`. `output["name"]` is its entry of that name (multiple outputs)."""

    def __init__(self, operator: BaseOperator, key: str = XCOM_RETURN_KEY) -> None:
        self.operator = operator
        self.key = key

    def __getitem__(self, item: str) -> XComArg:
        if not isinstance(item, str):
            raise ValueError(f"an XCom is looked up by a text, not by {type(item).__name__} {item!r}")
        return XComArg(self.operator, item)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            f"the output of task {self.operator.task_id} is not known before it has run: it can't be iterated"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, XComArg):
            return NotImplemented
        return self.operator is other.operator and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.operator), self.key))

    def __str__(self) -> str:
        """A template that gives the same value, for use inside longer texts."""
        arguments = f"task_ids={self.operator.task_id!r}, dag_id={self.operator.dag_id!r}"
        if self.key != XCOM_RETURN_KEY:
            arguments += f", key={self.key!r}"
        return f"{{{{ task_instance.xcom_pull({arguments}) }}}}"

    def __repr__(self) -> str:
        return f"XComArg({self.operator.task_id}, {self.key})"

    @property
    def roots(self) -> Sequence[BaseOperator]:
        return (self.operator,)

    @property
    def leaves(self) -> Sequence[BaseOperator]:
        return (self.operator,)

    def iter_references(self) -> Iterator[BaseOperator]:
        yield self.operator

    def resolve(self, context: Any) -> Any:
        """XComNotFound when another key than the return value was not pushed; None for a missing return value."""
        ti = context["ti"]
        missing = object()
        value = ti.xcom_pull(task_ids=self.operator.task_id, key=self.key, default=missing)
        if value is not missing:
            return value
        if self.key == XCOM_RETURN_KEY:
            return None
        from opskit.core.dag.exceptions import XComNotFound

        raise XComNotFound(self.operator.dag_id, self.operator.task_id, self.key)


def references(value: Any) -> Iterator[BaseOperator]:
    """The tasks whose output is somewhere inside `value` (lists, tuples, sets and dicts are searched)."""
    if isinstance(value, ResolveMixin):
        yield from value.iter_references()
    elif isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from references(item)
