"""PythonOperator, BranchPythonOperator and ShortCircuitOperator: a Python function as a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.operators.branch import BranchMixIn, request_skip
from opskit.errors import DagInvalid


def call_with_context(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: Any
) -> Any:
    """Call a function with its arguments and those entries of the context that its signature names (all of them when it
    takes **kwargs). ValueError when an argument has the name of a context entry that the function takes."""
    if _takes_nothing(function):
        return function(*args, **kwargs)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return function(*args, **kwargs)
    if not parameters:
        return function(*args, **kwargs)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    positional = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ][: len(args)]
    for name in positional:
        if name in context and name not in kwargs and parameters[name].default is None:
            # A positional value in the place of `ds=None` is nearly always an argument too many.
            raise ValueError(f"the name {name!r} of an argument in op_args is reserved for the context")
    if takes_all:
        return function(*args, **{**context.unpacked(exclude=positional), **kwargs})
    given = dict(kwargs)
    for name, parameter in parameters.items():
        if name in given or name in positional or name not in context:
            continue
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            given[name] = context[name]
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(f"the positional-only argument {name!r} can't be filled from the context")
    return function(*args, **given)


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether it is a plain function without parameters: then `inspect` need not be asked."""
    if type(function) is not FunctionType or function.__dict__:
        return False
    code = function.__code__
    variable = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return not (code.co_argcount or code.co_kwonlyargcount or variable)


class PythonOperator(BaseOperator):
    """Call `python_callable(*op_args, **op_kwargs)`; what it returns is pushed as XCom."""

    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs")
    template_fields_renderers: ClassVar[dict[str, str]] = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}
    ui_color = "#ffefeb"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        templates_dict: dict[str, Any] | None = None,
        templates_exts: Sequence[str] | None = None,
        show_return_value_in_logs: bool = True,
        provide_context: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(python_callable):
            raise DagInvalid(f"task {self.task_id}: python_callable is {python_callable!r}, a function is needed")
        self.python_callable = python_callable
        self.op_args: Any = op_args if op_args is not None else ()
        self.op_kwargs: Any = op_kwargs if op_kwargs is not None else {}
        self.templates_dict = templates_dict
        if templates_exts:
            self.template_ext = templates_exts
        self.show_return_value_in_logs = show_return_value_in_logs

    def execute(self, context: Any) -> Any:
        if self.templates_dict is not None:
            context["templates_dict"] = self.templates_dict
        result = self.execute_callable(context)
        if self.show_return_value_in_logs and result is not None:
            self.log.info("Done. Returned value was: %s", result)
        return result

    def execute_callable(self, context: Any) -> Any:
        """Call the function."""
        return call_with_context(self.python_callable, tuple(self.op_args), self.op_kwargs, context)


class BranchPythonOperator(BranchMixIn, PythonOperator):
    """The function returns the task_id(s) or group id(s) to follow; the other direct downstream tasks are skipped."""

    inherits_from_skipmixin = True

    def execute(self, context: Any) -> Any:
        return self.do_branch(context, super().execute(context))


class ShortCircuitOperator(PythonOperator):
    """When the function returns something false, everything downstream is skipped; with
    ignore_downstream_trigger_rules=False only the direct downstream tasks, and trigger rules do the rest."""

    inherits_from_skipmixin = True

    def __init__(self, *, ignore_downstream_trigger_rules: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context: Any) -> Any:
        condition = super().execute(context)
        short_circuit(self, context, condition, self.ignore_downstream_trigger_rules)
        return condition


def short_circuit(task: BaseOperator, context: Any, condition: Any, ignore_downstream_trigger_rules: bool) -> None:
    """Ask to skip what comes after `task` when the condition is false."""
    if condition:
        task.log.info("Proceeding with downstream tasks")
        return
    skip: Iterable[str] = task.get_flat_relative_ids() if ignore_downstream_trigger_rules else task.downstream_task_ids
    task.log.info("Skipping downstream tasks")
    request_skip(context, skip)


def get_current_context() -> Any:
    """The context of the task that is running."""
    from opskit.core.dag import context

    return context.get_current_context()
