"""PythonOperator, BranchPythonOperator and ShortCircuitOperator: a Python function as a task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import CoroutineType, FunctionType, GeneratorType
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.operators.branch import SKIP_KEY, BaseBranchOperator, SkipMixin, request_skip
from opskit.errors import DagInvalid

_NOT_AIRFLOWS = frozenset({"exception", "reason", "templates_dict", "try_number"})
"""Entries of the context that a task of Airflow's does not always have: arguments may have such names."""


def call_with_context(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: Any
) -> Any:
    """Call a function with its arguments and those entries of the context that its signature names (all of them when it
    takes **kwargs). ValueError when a positional argument has the name of a context entry."""
    return run_callable(function, args, arguments_from(function, args, kwargs, context))


def arguments_from(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], context: Any
) -> dict[str, Any]:
    """The keyword arguments of that call."""
    if _takes_nothing(function):
        return dict(kwargs)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return dict(kwargs)
    if not parameters:
        return dict(kwargs)
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    # The name of *args counts, too: it is in the place of the next positional argument. What comes behind it does not.
    positional = [
        name
        for name, parameter in list(parameters.items())[: len(args)]
        if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
    ]
    for name in positional:
        if name in context and name not in _NOT_AIRFLOWS:
            raise ValueError(
                f"argument {name!r} of {_name(function)}() is given by position, but the name belongs to the context: "
                "rename it"
            )
    if takes_all:
        return {**context.unpacked(exclude=positional), **kwargs}
    given = dict(kwargs)
    for name, parameter in parameters.items():
        if name in given or name in positional or name not in context:
            continue
        has_default = parameter.default is not parameter.empty
        if name in _NOT_AIRFLOWS and has_default and (name == "try_number" or context[name] is None):
            continue  # there the default stands
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            given[name] = context[name]
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(f"the positional-only argument {name!r} can't be filled from the context")
    return given


def merge_arguments(context: Any, op_kwargs: Mapping[str, Any], templates_dict: Any) -> None:
    """Put a function's arguments into the context, as Airflow does: what it calls sees them there."""
    for name, value in op_kwargs.items():
        context[name] = value
    context["templates_dict"] = templates_dict


class PartOfContext:
    """Those entries of a context whose name is `allowed`, and some more."""

    def __init__(self, context: Any, allowed: Callable[[Any], bool], more: Mapping[str, Any] | None = None) -> None:
        self._context = context
        self._allowed = allowed
        self._more = more or {}

    def __contains__(self, name: object) -> bool:
        return name in self._more or (self._allowed(name) and name in self._context)

    def __getitem__(self, name: str) -> Any:
        return self._more[name] if name in self._more else self._context[name]

    def unpacked(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        whole = self._context.unpacked(exclude=exclude)
        return {name: value for name, value in {**whole, **self._more}.items() if name in self and name not in exclude}


def run_callable(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call it; a coroutine is run to its end, a generator is exhausted (what it yields are events of its outlets), and
    the value that it returns is the result."""
    result = function(*args, **kwargs)
    kind = type(result)
    if kind is CoroutineType:
        import asyncio

        return asyncio.run(result)
    if kind is GeneratorType and inspect.isgeneratorfunction(inspect.unwrap(function)):
        return _exhaust(result)
    return result


def _exhaust(generator: Any) -> Any:
    from opskit.core.dag.context import get_current_context

    while True:
        try:
            event = next(generator)
        except StopIteration as end:
            return end.value
        if not hasattr(event, "extra") or not (hasattr(event, "asset") or hasattr(event, "uri")):
            # As in Airflow: the task goes on, and what it returns counts.
            _log().warning(
                "Ignoring unknown data of %r received from task: yield Metadata of outlets only", type(event)
            )
            continue
        events = get_current_context()["outlet_events"]
        asset = getattr(event, "asset", None) or event.uri
        events[asset].extra.update(event.extra or {})
        alias = getattr(event, "alias", None) or getattr(event, "alias_name", None)
        if alias:
            events[alias].add(asset, extra=event.extra)


def _log() -> Any:
    import logging

    return logging.getLogger("airflow.task")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))


def _takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether it is a plain function without parameters: then `inspect` need not be asked."""
    if type(function) is not FunctionType or function.__dict__:
        return False
    code = function.__code__
    variable = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    return not (code.co_argcount or code.co_kwonlyargcount or variable)


class PythonOperator(BaseOperator):
    """Call `python_callable(*op_args, **op_kwargs)`; what it returns is pushed as XCom. A coroutine is awaited."""

    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs")
    template_fields_renderers: ClassVar[dict[str, str]] = {"templates_dict": "json", "op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs: Sequence[str] = ("python_callable", "op_kwargs")
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
        merge_arguments(context, self.op_kwargs, self.templates_dict)
        self.op_args = tuple(self.op_args)
        self.op_kwargs = self.determine_kwargs(context)
        result = self.execute_callable()
        if self.show_return_value_in_logs and result is not None:
            self.log.info("Done. Returned value was: %s", result)
        return result

    def determine_kwargs(self, context: Any) -> dict[str, Any]:
        """The keyword arguments of the call: op_kwargs, and what the function asks of the context."""
        return arguments_from(self.python_callable, self.op_args, self.op_kwargs, context)

    def execute_callable(self) -> Any:
        """Call the function with `op_args` and `op_kwargs`."""
        return run_callable(self.python_callable, self.op_args, self.op_kwargs)


class BranchPythonOperator(BaseBranchOperator, PythonOperator):
    """The function returns the task_id(s) or group id(s) to follow; the other direct downstream tasks are skipped."""

    def choose_branch(self, context: Any) -> Any:
        return PythonOperator.execute(self, context)


class ShortCircuitOperator(PythonOperator, SkipMixin):
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
    tasks = task.dag.task_dict if skip else {}
    # A teardown runs whatever was skipped.
    skipped = sorted(task_id for task_id in skip if not getattr(tasks[task_id], "is_teardown", False))
    request_skip(context, skipped)
    if skipped:
        context["ti"].xcom_push(SKIP_KEY, {"skipped": skipped})


def get_current_context() -> Any:
    """The context of the task that is running."""
    from opskit.core.dag import context

    return context.get_current_context()
