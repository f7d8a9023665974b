"""SqlSensor: wait until a query gives what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.providers.registry import hook_for


class SqlSensor(BaseSensorOperator):
    """Done when `selector` finds something true in the first row (its first value), or when `success(value)` says so.
    `failure(value)` ends the wait with an error, as does an empty result with fail_on_empty."""

    template_fields: Sequence[str] = ("sql", "hook_params", "parameters", "conn_id")
    template_ext: Sequence[str] = (".hql", ".sql")
    ui_color = "#7c7287"

    def __init__(
        self,
        *,
        conn_id: str,
        sql: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        success: Callable[[Any], bool] | None = None,
        failure: Callable[[Any], bool] | None = None,
        selector: Callable[[Any], Any] = itemgetter(0),
        fail_on_empty: bool = False,
        hook_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = parameters
        self.success = success
        self.failure = failure
        self.selector = selector
        self.fail_on_empty = fail_on_empty
        self.hook_params = hook_params

    def poke(self, context: Any) -> bool:
        hook = hook_for(BaseHook.get_connection(self.conn_id), dict(self.hook_params or {}))
        self.log.info("Poking: %s (with parameters %s)", self.sql, self.parameters)
        rows = hook.get_records(self.sql, self.parameters)
        if not rows:
            if self.fail_on_empty:
                raise AirflowException("No rows returned, raising as per fail_on_empty flag")
            return False
        value = self.selector(rows[0])
        for name, function in (("failure", self.failure), ("success", self.success)):
            if function is not None and not callable(function):
                raise AirflowException(f"self.{name} is present, but not callable -> {function}")
        if self.failure is not None and self.failure(value):
            raise AirflowException(f"Failure criteria met. self.failure({value}) returned True")
        return bool(value if self.success is None else self.success(value))
