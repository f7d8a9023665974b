"""FileSensor: wait for a file, or for a file in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.sensors.base import BaseSensorOperator


class FileSensor(BaseSensorOperator):
    """`filepath` may be a glob pattern; it is absolute, or lies below the `path` extra of the connection `fs_conn_id`.
    A folder counts when a file is in it."""

    template_fields: Sequence[str] = ("filepath", "fs_conn_id")
    ui_color = "#91818a"

    def __init__(
        self,
        *,
        filepath: str,
        fs_conn_id: str = "fs_default",
        recursive: bool = False,
        deferrable: bool = False,
        start_from_trigger: bool = False,
        trigger_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filepath = filepath
        self.fs_conn_id = fs_conn_id
        self.recursive = recursive
        # Starting from the trigger spares Airflow a process; here the path is rendered in one anyway.
        self.deferrable = deferrable or start_from_trigger

    @property
    def path(self) -> str:
        """The full path or pattern."""
        filepath = os.fspath(self.filepath)
        if filepath.startswith("/"):
            return filepath
        from opskit.core.dag.hooks.filesystem import FSHook

        return os.path.join(FSHook(self.fs_conn_id).get_path(), filepath)

    def poke(self, context: Any) -> bool:
        from opskit.core.dag.triggers.file import has_file

        self.log.info("Poking for file %s", self.path)
        return has_file(self.path, self.recursive)

    def execute(self, context: Any) -> Any:  # noqa: RET503 - defer() does not return
        if not self.deferrable:
            return super().execute(context)
        if self.poke(context):
            return None
        from opskit.core.dag.triggers.file import FileTrigger

        trigger = FileTrigger(filepath=self.path, recursive=self.recursive, poke_interval=self.poke_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=self.timeout)

    def execute_complete(self, context: Any, event: bool | None = None) -> None:
        """Go on after the trigger."""
        if not event:
            raise AirflowException(f"{self.task_id} task failed as {self.filepath} not found.")
