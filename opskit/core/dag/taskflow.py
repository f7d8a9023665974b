"""TaskFlow: `@dag`, `@task` (with .branch, .short_circuit, .sensor, .bash) and `@task_group`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from opskit.core.dag import authoring_context
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.decorated import (
    BashDecoratedOperator,
    BranchDecoratedOperator,
    PythonDecoratedOperator,
    SensorDecoratedOperator,
    ShortCircuitDecoratedOperator,
    infers_multiple_outputs,
)
from opskit.core.dag.model import DAG
from opskit.core.dag.params import Param
from opskit.core.dag.task_group import TaskGroup, unique_id
from opskit.core.dag.xcom_arg import XComArg
from opskit.errors import DagInvalid


class TaskDecorated:
    """A function that makes a task each time it is called, and gives that task's output."""

    def __init__(self, function: Callable[..., Any], operator: type[BaseOperator], arguments: dict[str, Any]) -> None:
        self.function = function
        self.operator_class = operator
        self.kwargs = arguments
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> XComArg:
        task = self.operator_class(
            python_callable=self.function, op_args=args, op_kwargs=kwargs, **self._task_arguments()
        )
        return XComArg(task)

    def override(self, **kwargs: Any) -> TaskDecorated:
        """The same function with other operator arguments."""
        return TaskDecorated(self.function, self.operator_class, {**self.kwargs, **kwargs})

    def _task_arguments(self) -> dict[str, Any]:
        arguments = dict(self.kwargs)
        wanted = arguments.pop("task_id", None) or self.function.__name__
        dag = arguments.get("dag") or authoring_context.current_dag()
        group = arguments.get("task_group") or authoring_context.current_group(dag)
        if dag is None and group is not None:
            dag = group.dag

        def is_taken(label: str) -> bool:
            full = group.child_id(label) if group is not None else label
            return dag is not None and (full in dag.task_dict or full in dag.task_group.used_group_ids)

        arguments["task_id"] = unique_id(wanted, is_taken)
        if self.operator_class is PythonDecoratedOperator and "multiple_outputs" not in arguments:
            arguments["multiple_outputs"] = infers_multiple_outputs(self.function)
        if self.function.__doc__ and not {"doc", "doc_md"} & arguments.keys():
            arguments["doc_md"] = inspect.cleandoc(self.function.__doc__)
        return arguments

    def __repr__(self) -> str:
        return f"<@task {self.function.__name__}>"


class TaskDecorator:
    """`@task`, `@task(...)` and its kinds: `@task.branch` …"""

    def __init__(self, operator: type[BaseOperator] = PythonDecoratedOperator) -> None:
        self._operator = operator

    def __call__(self, python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
        if python_callable is None:
            return functools.partial(self._decorate, arguments=kwargs)
        return self._decorate(python_callable, arguments=kwargs)

    def _decorate(self, function: Callable[..., Any], arguments: dict[str, Any]) -> TaskDecorated:
        if not callable(function) or inspect.isclass(function):
            raise DagInvalid(f"@task on {function!r}: a function is needed")
        return TaskDecorated(function, self._operator, arguments)

    @property
    def python(self) -> TaskDecorator:
        return TaskDecorator()

    @property
    def branch(self) -> TaskDecorator:
        return TaskDecorator(BranchDecoratedOperator)

    @property
    def short_circuit(self) -> TaskDecorator:
        return TaskDecorator(ShortCircuitDecoratedOperator)

    @property
    def sensor(self) -> TaskDecorator:
        return TaskDecorator(SensorDecoratedOperator)

    @property
    def bash(self) -> TaskDecorator:
        return TaskDecorator(BashDecoratedOperator)


task = TaskDecorator()


def dag(dag_id: Any = "", *args: Any, **kwargs: Any) -> Any:
    """`@dag(schedule=…)` on a function whose body builds the DAG; calling it gives the DAG. The function's arguments
    become params of the DAG."""
    if callable(dag_id):
        return _dag_factory(dag_id, "", (), {})

    def decorate(function: Callable[..., Any]) -> Callable[..., DAG]:
        return _dag_factory(function, dag_id, args, kwargs)

    return decorate


def _dag_factory(
    function: Callable[..., Any], dag_id: str, dag_args: tuple[Any, ...], dag_kwargs: dict[str, Any]
) -> Callable[..., DAG]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def factory(*args: Any, **kwargs: Any) -> DAG:
        bound = signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(dag_kwargs)
        if function.__doc__ and "doc_md" not in arguments:
            arguments["doc_md"] = inspect.cleandoc(function.__doc__)
        built = DAG(dag_id or function.__name__, *dag_args, **arguments)
        built.fileloc = function.__code__.co_filename
        values: dict[str, Any] = {}
        for name, parameter in signature.parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise DagInvalid(f"DAG {built.dag_id}: the function of @dag can't take *{name}")
            if name in bound.arguments:
                built.params = built.params.merged({name: bound.arguments[name]})
            else:
                built.params = built.params.merged({name: Param()})
            values[name] = built.param(name)
        with built:
            function(**values)
        return built

    return factory


def task_group(python_callable: Callable[..., Any] | None = None, **group_arguments: Any) -> Any:
    """`@task_group` on a function: each call makes a group of the tasks that the function's body makes, and gives what
    the function returns (or the group, when it returns nothing)."""
    if python_callable is None:
        return functools.partial(_group_factory, group_arguments=group_arguments)
    return _group_factory(python_callable, group_arguments)


class TaskGroupDecorated:
    """A function that makes a task group each time it is called."""

    def __init__(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.function = function
        self.arguments = arguments
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = {"add_suffix_on_collision": True, **self.arguments}
        arguments.setdefault("group_id", self.function.__name__)
        if self.function.__doc__:
            arguments.setdefault("tooltip", inspect.cleandoc(self.function.__doc__))
        with TaskGroup(**arguments) as group:
            result = self.function(*args, **kwargs)
        return group if result is None else result

    def override(self, **kwargs: Any) -> TaskGroupDecorated:
        return TaskGroupDecorated(self.function, {**self.arguments, **kwargs})


def _group_factory(function: Callable[..., Any], group_arguments: dict[str, Any]) -> TaskGroupDecorated:
    return TaskGroupDecorated(function, group_arguments)
