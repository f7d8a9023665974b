"""Dynamic task mapping: `Operator.partial(…).expand(…)`, and the task that has an instance for each element.

A mapped task stands in its DAG with all that is known before it runs: id, group, dependencies, retries, pool … Its
operator is made when an instance runs, from the partial arguments and those of its map_index."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from opskit.core.dag import authoring_context
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.dependencies import connect_tasks
from opskit.core.dag.expand_input import DictOfLists, ExpandInput, ListOfDicts, is_mappable
from opskit.core.dag.xcom_arg import references
from opskit.errors import DagInvalid

_MAPPABLE_OF_BASE = {
    "do_xcom_push",
    "email_on_failure",
    "email_on_retry",
    "multiple_outputs",
    "post_execute",
    "pre_execute",
}


@functools.cache
def _parameters(operator_class: type) -> dict[str, Any]:
    """Names of the arguments that the class and its bases take, with the default of the nearest that names it. A class
    without **kwargs hides those of its bases."""
    found: dict[str, Any] = {}
    for cls in operator_class.__mro__:
        init = cls.__dict__.get("__init__")
        if init is None or cls is object:
            continue
        for parameter in list(inspect.signature(init).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
    return found


@functools.cache
def _base_arguments() -> frozenset[str]:
    return frozenset(_parameters(BaseOperator))


def check_known(operator_class: type, method: str, names: Iterable[str]) -> None:
    """DagInvalid for an argument that the class does not take."""
    known = _parameters(operator_class)
    unknown = [name for name in names if name not in known]
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], known, n=1)
        raise DagInvalid(
            f"{operator_class.__name__}.{method}() got an unexpected keyword argument {unknown[0]!r}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )


def check_disjoint(given: Iterable[str], mapped: Iterable[str], reason: str) -> None:
    """DagInvalid when a name is in both."""
    twice = sorted(set(given) & set(mapped))
    if twice:
        raise DagInvalid(f"{reason} argument{'s' if len(twice) > 1 else ''}: {', '.join(map(repr, twice))}")


def check_mappable(where: str, values: Mapping[str, Any]) -> None:
    """DagInvalid when there is nothing to map over, or something that has no elements."""
    if not values:
        raise DagInvalid(f"{where}.expand() got no arguments to expand against")
    for name, value in values.items():
        if not is_mappable(value):
            raise DagInvalid(
                f"{where}.expand() got an unexpected type {type(value).__name__!r} for keyword argument {name}",
                hint="give a list, a dict, or the output of a task",
            )


class OperatorPartial:
    """`Operator.partial(…)`: the arguments that all instances share. `expand` makes the task."""

    def __init__(self, operator_class: type[BaseOperator], kwargs: dict[str, Any]) -> None:
        check_known(operator_class, "partial", kwargs)
        if "task_id" not in kwargs:
            raise DagInvalid(f"{operator_class.__name__}.partial() needs a task_id")
        if "task_concurrency" in kwargs:
            raise DagInvalid(f"{operator_class.__name__}.partial(): task_concurrency is no argument of a mapped task")
        self.operator_class = operator_class
        dag = kwargs.get("dag") or authoring_context.current_dag()
        group = kwargs.get("task_group") or authoring_context.current_group(dag)
        self.kwargs = {**kwargs, "dag": dag, "task_group": group}

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        """One instance for each combination of the elements."""
        check_mappable(self.operator_class.__name__, mapped_kwargs)
        check_known(self.operator_class, "expand", mapped_kwargs)
        fixed = _base_arguments() - _MAPPABLE_OF_BASE
        check_disjoint({*self.kwargs, *fixed}, mapped_kwargs, "unmappable or already specified")
        return self._make(DictOfLists(mapped_kwargs), strict=False)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        """One instance for each dict of arguments. `strict`: an instance fails that is given a partial argument."""
        return self._make(ListOfDicts(kwargs), strict=strict)

    def _make(self, expand_input: ExpandInput, *, strict: bool) -> MappedOperator:
        return map_operator(self.operator_class, self.kwargs, expand_input, strict=strict)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.kwargs.items())
        return f"{self.operator_class.__name__}.partial({arguments})"


def map_operator(
    operator_class: type[BaseOperator],
    partial_kwargs: dict[str, Any],
    expand_input: ExpandInput,
    *,
    strict: bool,
    into: str | None = None,
) -> MappedOperator:
    """Make the mapped task. `into`: the argument (a dict) that the mapped values are entries of; None: each is an
    argument of the operator."""
    group = partial_kwargs.get("task_group")
    if group is not None and group.mapped_group is not None:
        raise DagInvalid(
            f"task {partial_kwargs.get('task_id')}: expand() inside of the mapped task group "
            f"{group.mapped_group.group_id} is not supported",
            hint="map the group over all combinations, or move the mapped task out of it",
        )
    rule = getattr(partial_kwargs.get("trigger_rule"), "value", partial_kwargs.get("trigger_rule"))
    if rule in ("always", "dummy") and any(True for _ in expand_input.iter_references()):
        raise DagInvalid(
            f"task {partial_kwargs.get('task_id')}: with the trigger rule 'always' it can't be mapped over the output "
            "of a task"
        )
    defaults = {
        name: default
        for name, default in _parameters(operator_class).items()
        if name in _base_arguments()
        and default is not inspect.Parameter.empty
        and default is not _parameters(BaseOperator)[name]
    }
    base = {name: value for name, value in partial_kwargs.items() if name in _base_arguments()}
    if "default_args" in base:
        base["default_args"] = dict(base["default_args"] or {})
    return MappedOperator(
        operator_class=operator_class,
        partial_kwargs=partial_kwargs,
        expand_input=expand_input,
        strict=strict,
        into=into,
        own_defaults=defaults,
        **base,
    )


class MappedOperator(BaseOperator):
    """A task with an instance for each element. What it does not know itself is looked up in the partial arguments."""

    def __init__(
        self,
        *,
        operator_class: type[BaseOperator],
        partial_kwargs: dict[str, Any],
        expand_input: ExpandInput,
        strict: bool,
        into: str | None,
        own_defaults: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        self._operator_class = operator_class
        self.partial_kwargs = partial_kwargs
        self.expand_input = expand_input
        self._strict = strict
        self._into = into
        self.template_fields = operator_class.template_fields
        self.template_ext = operator_class.template_ext
        self.template_fields_renderers = operator_class.template_fields_renderers  # type: ignore[misc]
        self.ui_color = operator_class.ui_color
        self.ui_fgcolor = operator_class.ui_fgcolor
        self.operator_extra_links = operator_class.operator_extra_links
        for name, value in own_defaults.items():
            # What the class itself says comes after the arguments and default_args.
            if name not in kwargs and name not in self.__dict__.get("_default_values", {}):
                kwargs[name] = value
        super().__init__(**kwargs)

    is_mapped = True
    expand_input: ExpandInput

    def __getattr__(self, name: str) -> Any:
        partial_kwargs = self.__dict__.get("partial_kwargs", {})
        if name in partial_kwargs:
            return partial_kwargs[name]
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self.__dict__.get("_operator_class"), name, None)
        if value is None or callable(value) or isinstance(value, property):
            raise AttributeError(
                f"the mapped task {self.__dict__.get('task_id')} has no attribute {name!r} before an instance runs"
            )
        return value

    @property
    def task_type(self) -> str:
        return self._operator_class.__name__

    @property
    def operator_class(self) -> type:
        return self._operator_class

    @property
    def operator_name(self) -> str:
        return str(getattr(self._operator_class, "custom_operator_name", None) or self.task_type)

    def _connect_references(self) -> None:
        values: list[Any] = [self.partial_kwargs.get(name) for name in self.template_fields]
        for upstream in [*references(values), *self.expand_input.iter_references()]:
            if upstream is not self:
                connect_tasks(upstream, self)

    def prepare_for_execution(self) -> BaseOperator:
        return self

    def execute(self, context: Any) -> Any:
        raise RuntimeError(f"task {self.task_id} is mapped: its instances run")

    def unmap(self, context: Any) -> BaseOperator:
        """The operator of the instance with the context's map_index. Raises what the resolution of its arguments, or
        the operator itself, raises."""
        mapped, foreign = self.expand_input.resolve(context)
        arguments = dict(self.partial_kwargs)
        if self._into is not None:
            shared = arguments.get(self._into) or {}
            if self._strict:
                check_disjoint(shared, mapped, "mapping already partial")
            arguments[self._into] = {**shared, **mapped}
        else:
            if self._strict:
                check_disjoint(arguments, mapped, "unmappable or already specified")
            arguments.update(mapped)
        arguments.update(task_id=self.task_id, dag=self._dag, task_group=self.task_group)
        with authoring_context.unmapping(self):
            task = self._operator_class(**arguments)
        task.__dict__["_resolved_values"] = foreign
        return task
