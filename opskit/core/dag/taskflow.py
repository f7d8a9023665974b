"""TaskFlow: `@dag`, `@task` (with .branch, .short_circuit, .sensor, .bash) and `@task_group`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opskit.core.dag import authoring_context, task_kinds
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.decorated import _PythonDecoratedOperator, infers_multiple_outputs
from opskit.core.dag.model import DAG
from opskit.core.dag.params import Param
from opskit.core.dag.task_group import TaskGroup, unique_id
from opskit.core.dag.xcom_arg import XComArg
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.expand_input import ExpandInput


class Expandable:
    """Helps what makes tasks of a function: which arguments that takes."""

    function: Callable[..., Any]

    def _check_names(self, method: str, names: Iterable[str]) -> None:
        parameters = inspect.signature(self.function).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        unknown = [name for name in names if name not in parameters]
        if unknown:
            raise DagInvalid(
                f"{self.function.__name__}.{method}() got an unexpected keyword argument {unknown[0]!r}",
                hint=f"the function takes {', '.join(parameters) or 'none'}",
            )


class TaskDecorated(Expandable):
    """A function that makes a task each time it is called, and gives that task's output."""

    is_setup = False
    is_teardown = False
    on_failure_fail_dagrun = False

    def __init__(self, function: Callable[..., Any], operator: type[BaseOperator], arguments: dict[str, Any]) -> None:
        self.function = function
        self.operator_class = operator
        self.kwargs = arguments
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> XComArg:
        arguments = self._task_arguments()
        arguments["op_kwargs"] = {**arguments.get("op_kwargs", {}), **kwargs}
        return self._made(self.operator_class(python_callable=self.function, op_args=args, **arguments))

    def _made(self, task: BaseOperator) -> XComArg:
        if self.is_setup:
            task.as_setup()
        if self.is_teardown:
            task.as_teardown(on_failure_fail_dagrun=self.on_failure_fail_dagrun)
        return XComArg(task)

    def override(self, **kwargs: Any) -> TaskDecorated:
        """The same function with other operator arguments."""
        return self._copy({**self.kwargs, **kwargs})

    def _copy(self, arguments: dict[str, Any]) -> TaskDecorated:
        copied = TaskDecorated(self.function, self.operator_class, arguments)
        for name in ("is_setup", "is_teardown", "on_failure_fail_dagrun"):
            setattr(copied, name, getattr(self, name))
        return copied

    def partial(self, **kwargs: Any) -> TaskDecorated:
        """The same function with some of its arguments; `expand` gives the others."""
        from opskit.core.dag.mapped_operator import check_disjoint

        self._check_arguments("partial", kwargs)
        known = self.kwargs.get("op_kwargs", {})
        check_disjoint(known, kwargs, "duplicate partial")
        return self._copy({**self.kwargs, "op_kwargs": {**known, **kwargs}})

    def expand(self, **kwargs: Any) -> XComArg:
        """A task with an instance for each combination of the elements."""
        from opskit.core.dag.expand_input import DictOfLists
        from opskit.core.dag.mapped_operator import check_disjoint, check_mappable

        check_mappable(self.function.__name__, kwargs)
        self._check_arguments("expand", kwargs)
        if authoring_context.dialect() is None:  # in Airflow the mapped one counts
            check_disjoint(self.kwargs.get("op_kwargs", {}), kwargs, "mapping already partial")
        return self._map(DictOfLists(kwargs), strict=False)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> XComArg:
        """A task with an instance for each dict of arguments."""
        from opskit.core.dag.expand_input import ListOfDicts

        return self._map(ListOfDicts(kwargs), strict=strict)

    def _check_arguments(self, method: str, names: Iterable[str]) -> None:
        from opskit.core.dag.context import context_names

        known = context_names(authoring_context.dialect())
        for name in names:
            if name in known:
                raise DagInvalid(f"{self.function.__name__}: {method}() can't give the context variable {name!r}")
        self._check_names(method, names)

    def _map(self, expand_input: ExpandInput, *, strict: bool) -> XComArg:
        from opskit.core.dag.mapped_operator import map_operator

        arguments = self._task_arguments()
        dag = arguments.get("dag") or authoring_context.current_dag()
        arguments.setdefault("op_kwargs", {})
        arguments |= {
            "python_callable": self.function,
            "dag": dag,
            "task_group": arguments.get("task_group") or authoring_context.current_group(dag),
        }
        return self._made(map_operator(self.operator_class, arguments, expand_input, strict=strict, into="op_kwargs"))

    def _task_arguments(self) -> dict[str, Any]:
        arguments = dict(self.kwargs)
        if "on_failure_fail_dagrun" in arguments:
            self.on_failure_fail_dagrun = arguments.pop("on_failure_fail_dagrun")
        if self.is_teardown and "trigger_rule" in arguments:
            raise DagInvalid(f"{self.function.__name__}: the trigger rule of a teardown can't be chosen")
        wanted = arguments.pop("task_id", None) or self.function.__name__
        dag = arguments.get("dag") or authoring_context.current_dag()
        group = arguments.get("task_group") or authoring_context.current_group(dag)
        if dag is None and group is not None:
            dag = group.dag

        def is_taken(label: str) -> bool:
            full = group.child_id(label) if group is not None else label
            return dag is not None and (full in dag.task_dict or full in dag.task_group.used_group_ids)

        arguments["task_id"] = unique_id(wanted, is_taken)
        if "multiple_outputs" not in arguments:
            arguments["multiple_outputs"] = infers_multiple_outputs(self.function)
        if self.function.__doc__ and not {"doc", "doc_md"} & arguments.keys():
            arguments["doc_md"] = inspect.cleandoc(self.function.__doc__)
        return arguments

    def __repr__(self) -> str:
        return f"<@task {self.function.__name__}>"


class TaskDecorator:
    """`@task`, `@task(...)` and its kinds: `@task.branch` …"""

    def __init__(self, operator: type[BaseOperator] = _PythonDecoratedOperator) -> None:
        self._operator = operator

    def __call__(self, python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
        if python_callable is None:
            return functools.partial(self._decorate, arguments=kwargs)
        return self._decorate(python_callable, arguments=kwargs)

    def _decorate(self, function: Callable[..., Any], arguments: dict[str, Any]) -> TaskDecorated:
        if not callable(function) or inspect.isclass(function):
            raise DagInvalid(f"@task on {function!r}: a function is needed")
        return TaskDecorated(function, self._operator, arguments)

    def __getattr__(self, name: str) -> Any:
        """`@task.virtualenv` and its kind."""
        if name in task_kinds.OPERATORS:
            return TaskDecorator(task_kinds.load(task_kinds.OPERATORS[name]))
        return task_kinds.find(name)


task = TaskDecorator()


def setup(python_callable: Callable[..., Any]) -> TaskDecorated:
    """`@setup` on a function, or above `@task`: its tasks prepare something for others."""
    decorated = _task_of(python_callable)
    decorated.is_setup = True
    return decorated


def teardown(python_callable: Callable[..., Any] | None = None, *, on_failure_fail_dagrun: bool = False) -> Any:
    """`@teardown` on a function, or above `@task`: its tasks clean up after others."""

    def decorate(function: Callable[..., Any]) -> TaskDecorated:
        decorated = _task_of(function)
        decorated.is_teardown = True
        decorated.on_failure_fail_dagrun = on_failure_fail_dagrun
        return decorated

    return decorate if python_callable is None else decorate(python_callable)


def _task_of(function: Any) -> TaskDecorated:
    if isinstance(function, TaskGroupDecorated):
        raise DagInvalid("Task groups cannot be marked as setup or teardown.")
    if isinstance(function, TaskDecorated):
        return function
    decorated: TaskDecorated = task(function)
    return decorated


def result(function: Any) -> Any:
    """On a function with `@task`: its value is that of the DAG's run. Accepted; a run has no value of its own here.
    TypeError for another function."""
    if not isinstance(function, TaskDecorated):
        raise TypeError("@result must be used on top of a @task-decorated function")
    return function


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


class TaskGroupDecorated(Expandable):
    """A function that makes a task group each time it is called."""

    def __init__(
        self, function: Callable[..., Any], arguments: dict[str, Any], partial: dict[str, Any] | None = None
    ) -> None:
        self.function = function
        self.arguments = arguments
        self._partial = partial or {}
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._make(None, args, kwargs)

    def _make(self, expand_input: ExpandInput | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = {"add_suffix_on_collision": True, **self.arguments}
        arguments.setdefault("group_id", self.function.__name__)
        if self.function.__doc__:
            arguments.setdefault("tooltip", inspect.cleandoc(self.function.__doc__))
        with TaskGroup(**arguments, expand_input=expand_input) as group:
            result = self.function(*args, **{**self._partial, **kwargs})
        return group if result is None else result

    def override(self, **kwargs: Any) -> TaskGroupDecorated:
        return TaskGroupDecorated(self.function, {**self.arguments, **kwargs}, self._partial)

    def partial(self, **kwargs: Any) -> TaskGroupDecorated:
        """The same function with some of its arguments; `expand` gives the others."""
        from opskit.core.dag.mapped_operator import check_disjoint

        self._check_names("partial", kwargs)
        check_disjoint(self._partial, kwargs, "duplicate partial")
        return TaskGroupDecorated(self.function, self.arguments, {**self._partial, **kwargs})

    def expand(self, **kwargs: Any) -> Any:
        """A group each of whose tasks has an instance for each combination of the elements."""
        from opskit.core.dag.expand_input import DictOfLists, MappedArgument
        from opskit.core.dag.mapped_operator import check_disjoint, check_mappable

        check_mappable(self.function.__name__, kwargs)
        self._check_names("expand", kwargs)
        check_disjoint(self._partial, kwargs, "mapping already partial")
        expand_input = DictOfLists(kwargs)
        return self._make(expand_input, (), {name: MappedArgument(expand_input, name) for name in kwargs})

    def expand_kwargs(self, kwargs: Any) -> Any:
        """A group each of whose tasks has an instance for each dict of arguments."""
        from opskit.core.dag.expand_input import ListOfDicts, MappedArgument

        parameters = inspect.signature(self.function).parameters
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
            raise DagInvalid(
                f"{self.function.__name__}: expand_kwargs() is not supported on a task group function with * or **"
            )
        expand_input = ListOfDicts(kwargs)
        # Which of the arguments the dicts will have is not known yet.
        names = [name for name in parameters if name not in self._partial]
        return self._make(expand_input, (), {name: MappedArgument(expand_input, name) for name in names})


def _group_factory(function: Callable[..., Any], group_arguments: dict[str, Any]) -> TaskGroupDecorated:
    return TaskGroupDecorated(function, group_arguments)
