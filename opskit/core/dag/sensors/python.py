"""PythonSensor: wait until a Python function returns something true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opskit.core.dag.operators.python import call_with_context, merge_arguments
from opskit.core.dag.sensors.base import BaseSensorOperator, PokeReturnValue
from opskit.errors import DagInvalid


class PythonSensor(BaseSensorOperator):
    """The function is called as by PythonOperator; it may return a PokeReturnValue."""

    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        templates_dict: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(python_callable):
            raise DagInvalid(f"task {self.task_id}: python_callable is {python_callable!r}, a function is needed")
        self.python_callable = python_callable
        self.op_args: Any = op_args or ()
        self.op_kwargs: Any = op_kwargs or {}
        self.templates_dict = templates_dict

    def poke(self, context: Any) -> bool | PokeReturnValue:
        merge_arguments(context, self.op_kwargs, self.templates_dict)
        self.log.info("Poking callable: %s", self.python_callable)
        result = call_with_context(self.python_callable, tuple(self.op_args), self.op_kwargs, context)
        return result if isinstance(result, PokeReturnValue) else bool(result)
