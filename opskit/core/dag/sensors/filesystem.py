"""FileSensor: wait for a file, or for a file in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from opskit.core.dag.exceptions import AirflowNotFoundException
from opskit.core.dag.sensors.base import BaseSensorOperator


class FileSensor(BaseSensorOperator):
    """`filepath` may be a glob pattern; it is absolute, or lies below the `path` extra of the connection `fs_conn_id`.
    A folder counts when a file is in it."""

    template_fields: Sequence[str] = ("filepath",)
    ui_color = "#91818a"

    def __init__(
        self, *, filepath: str, fs_conn_id: str = "fs_default", recursive: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filepath = filepath
        self.fs_conn_id = fs_conn_id
        self.recursive = recursive

    @property
    def path(self) -> str:
        """The full path or pattern."""
        filepath = os.fspath(self.filepath)
        if filepath.startswith("/"):
            return filepath
        from opskit.core.dag.connection import Connection

        try:
            base = Connection.get_connection_from_secrets(self.fs_conn_id).extra_dejson.get("path", "/")
        except AirflowNotFoundException:
            if self.fs_conn_id != "fs_default":
                raise
            base = "/"  # what fs_default says in a new Airflow
        return os.path.join(base, filepath)

    def poke(self, context: Any) -> bool:
        from glob import glob

        self.log.info("Poking for file %s", self.path)
        for found in glob(self.path, recursive=self.recursive):  # noqa: PTH207 - the pattern is absolute
            if os.path.isfile(found):
                return True
            if any(files for _, _, files in os.walk(found)):
                return True
        return False
