"""BaseHook: where hooks and task code get connections from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opskit.core.dag.connection import Connection

if TYPE_CHECKING:
    import logging


class BaseHook:
    """A hook reaches one outside system. Subclasses offer `get_conn`."""

    def __init__(self, logger_name: str | None = None, *, source: Any = None) -> None:
        """`source` is Airflow 1's, and means nothing."""
        self._logger_name = logger_name

    @property
    def log(self) -> logging.Logger:
        import logging

        name = getattr(self, "_logger_name", None) or f"{type(self).__module__}.{type(self).__name__}"
        return logging.getLogger(f"airflow.task.hooks.{name}")

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The connection: from the environment first, then from the metastore. AirflowNotFoundException without one."""
        return Connection.get_connection_from_secrets(conn_id)

    @classmethod
    async def aget_connection(cls, conn_id: str) -> Connection:
        """The connection, for triggers."""
        import asyncio

        return await asyncio.to_thread(cls.get_connection, conn_id)

    @classmethod
    def get_connections(cls, conn_id: str) -> list[Connection]:
        """The connection in a list: ids are unique."""
        return [cls.get_connection(conn_id)]

    @classmethod
    def get_hook(cls, conn_id: str, hook_params: dict[str, Any] | None = None) -> Any:
        """The hook for the connection's type. AirflowException when there is none."""
        return cls.get_connection(conn_id).get_hook(hook_params=hook_params)

    def get_conn(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no get_conn()")

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        return {}
