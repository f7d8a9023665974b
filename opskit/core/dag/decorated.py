"""The operators behind `@task` and its kinds: the function's arguments are bound when the task is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from opskit.core.dag import authoring_context
from opskit.core.dag.base_operator import default_values
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.bash import BashOperator
from opskit.core.dag.operators.branch import BranchMixIn
from opskit.core.dag.operators.python import PythonOperator, call_with_context, short_circuit
from opskit.core.dag.sensors.python import PythonSensor
from opskit.errors import DagInvalid


def check_call(function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> None:
    """TypeError when a call with these arguments is wrong, whatever the context adds. DagInvalid for an argument that
    is named like a context entry and has another default than None."""
    from opskit.core.dag.context import context_names

    known = context_names(authoring_context.dialect())
    signature = inspect.signature(function)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name in known and parameter.kind is not parameter.VAR_KEYWORD:
            if parameter.default not in (parameter.empty, None):
                raise DagInvalid(
                    f"{function.__name__}: the default of the context argument {parameter.name!r} must be None"
                )
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
                parameter = parameter.replace(default=None)
        parameters.append(parameter)
    # A required argument may follow one whose value the context gives: only the call counts here.
    names_with_default = {p.name for p in parameters if p.default is not p.empty}
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function.__name__}(): {error}") from None
    for parameter in parameters:
        if (
            parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and parameter.name not in bound.arguments
            and parameter.name not in names_with_default
        ):
            raise TypeError(f"{function.__name__}(): argument {parameter.name!r} is missing")


def with_defaults(
    task: Any,
    function: Callable[..., Any],
    args: Collection[Any],
    kwargs: Mapping[str, Any],
    task_arguments: dict[str, Any],
) -> dict[str, Any]:
    """The keyword arguments, and for the others those of default_args that are named like arguments of the function."""
    defaults = task.__dict__.get("_default_values")
    if defaults is None:
        defaults = task.__dict__["_default_values"] = default_values(task_arguments)
    if not defaults:
        return dict(kwargs)
    names = list(inspect.signature(function).parameters)[len(args) :]
    return {**{name: defaults[name] for name in names if name in defaults}, **kwargs}


def infers_multiple_outputs(function: Callable[..., Any]) -> bool:
    """Whether the return annotation is a dict (dict, Dict[str, …], Mapping, a TypedDict)."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None or annotation in (str, int, float, bool, list, bytes, "str", "int", "float", "bool", "None"):
        return False
    import typing

    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(function).get("return")
        except (NameError, TypeError, AttributeError, SyntaxError):
            return False  # a name that exists for type checkers only
    origin = typing.get_origin(annotation) or annotation
    return inspect.isclass(origin) and issubclass(origin, Mapping)


class _Bound:
    """Checks the call when the task is made."""

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        op_kwargs = with_defaults(self, python_callable, op_args or (), op_kwargs or {}, kwargs)
        check_call(python_callable, op_args or (), op_kwargs)
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)  # type: ignore[call-arg]


class _PythonDecoratedOperator(_Bound, PythonOperator):
    """`@task`"""

    custom_operator_name = "@task"


class _BranchPythonDecoratedOperator(BranchMixIn, _PythonDecoratedOperator):
    """`@task.branch`"""

    custom_operator_name = "@task.branch"
    inherits_from_skipmixin = True

    def execute(self, context: Any) -> Any:
        return self.do_branch(context, super().execute(context))


class _ShortCircuitDecoratedOperator(_PythonDecoratedOperator):
    """`@task.short_circuit`"""

    custom_operator_name = "@task.short_circuit"
    inherits_from_skipmixin = True

    def __init__(self, *, ignore_downstream_trigger_rules: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context: Any) -> Any:
        condition = super().execute(context)
        short_circuit(self, context, condition, self.ignore_downstream_trigger_rules)
        return condition


class DecoratedSensorOperator(_Bound, PythonSensor):
    """`@task.sensor`"""

    custom_operator_name = "@task.sensor"


class _BashDecoratedOperator(BashOperator):
    """`@task.bash`: the function returns the command."""

    custom_operator_name = "@task.bash"
    template_fields: Sequence[str] = ("bash_command", "env", "cwd", "op_args", "op_kwargs")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        op_kwargs = with_defaults(self, python_callable, op_args or (), op_kwargs or {}, kwargs)
        check_call(python_callable, op_args or (), op_kwargs)
        kwargs.setdefault("bash_command", "")
        super().__init__(**kwargs)
        self.python_callable = python_callable
        self.op_args: Any = op_args or ()
        self.op_kwargs: Any = op_kwargs or {}

    def execute(self, context: Any) -> Any:
        command = call_with_context(self.python_callable, tuple(self.op_args), self.op_kwargs, context)
        if not isinstance(command, str) or not command.strip():
            raise AirflowException(f"the function of @task.bash returned {command!r}, a command is needed")
        self.bash_command = command
        self.render_template_fields(context)
        return super().execute(context)
