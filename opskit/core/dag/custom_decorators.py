"""Custom kinds of `@task`: DecoratedOperator and task_decorator_factory, as packages for Airflow use them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from opskit.core.dag import authoring_context
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.decorated import check_call, infers_multiple_outputs
from opskit.core.dag.operators.python import arguments_from
from opskit.core.dag.task_group import unique_id


class DecoratedOperator(BaseOperator):
    """To be put before an operator: `class My(DecoratedOperator, SomeOperator)`. It keeps the function and its
    arguments, and hands `kwargs_to_upstream` on to the other operator's `__init__`."""

    template_fields: Sequence[str] = ("op_args", "op_kwargs")
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs: Sequence[str] = ("python_callable",)
    custom_operator_name: str = "@task"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        task_id: str,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        kwargs_to_upstream: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_call(python_callable, op_args or (), op_kwargs or {})
        self.python_callable = python_callable
        self.op_args: Any = op_args or ()
        self.op_kwargs: Any = op_kwargs or {}
        super().__init__(task_id=task_id, **{**kwargs, **(kwargs_to_upstream or {})})

    def determine_kwargs(self, context: Any) -> dict[str, Any]:
        """The keyword arguments of the call: those given, and what the function asks of the context."""
        return arguments_from(self.python_callable, tuple(self.op_args), self.op_kwargs, context)

    def get_python_source(self) -> str:
        """The source of the function, without decorators that make it a task."""
        from opskit.core.dag.operators.python_script import source_of

        return source_of(self.python_callable, self.custom_operator_name)


def get_unique_task_id(task_id: str, dag: Any = None, task_group: Any = None) -> str:
    """The id, with a number behind it when the DAG has it already: `name__1`."""
    dag = dag or (task_group.dag if task_group is not None else None) or authoring_context.current_dag()
    if dag is None:
        return task_id
    group = task_group or authoring_context.current_group(dag)

    def is_taken(label: str) -> bool:
        full = group.child_id(label) if group is not None else label
        return full in dag.task_dict or full in dag.task_group.used_group_ids

    return unique_id(task_id, is_taken)


def task_decorator_factory(
    python_callable: Callable[..., Any] | None = None,
    *,
    multiple_outputs: bool | None = None,
    decorated_operator_class: type[BaseOperator],
    **kwargs: Any,
) -> Any:
    """What `@my_task` and `@my_task(…)` do: a function becomes a maker of tasks of this class."""
    from opskit.core.dag.taskflow import TaskDecorated

    if python_callable is None:
        return functools.partial(
            task_decorator_factory,
            multiple_outputs=multiple_outputs,
            decorated_operator_class=decorated_operator_class,
            **kwargs,
        )
    if multiple_outputs is None:
        multiple_outputs = infers_multiple_outputs(python_callable)
    return TaskDecorated(python_callable, decorated_operator_class, {"multiple_outputs": multiple_outputs, **kwargs})
