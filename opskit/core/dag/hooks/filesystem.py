"""FSHook: the folder that a connection names."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.exceptions import AirflowNotFoundException
from opskit.core.dag.hooks.base import BaseHook


class FSHook(BaseHook):
    """The extra `path` of the connection is the folder. `fs_default` need not exist: it is `/` then."""

    conn_name_attr = "fs_conn_id"
    default_conn_name = "fs_default"
    conn_type = "fs"
    hook_name = "File (path)"

    def __init__(self, fs_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fs_conn_id = fs_conn_id
        try:
            self.conn = self.get_connection(fs_conn_id)
        except AirflowNotFoundException:
            if fs_conn_id != self.default_conn_name:
                raise
            self.basepath = "/"  # what a new Airflow's has
        else:
            self.basepath = str(self.conn.extra_dejson.get("path", ""))

    def get_conn(self) -> None:
        """There is nothing to connect to."""

    def get_path(self) -> str:
        """The folder."""
        return self.basepath

    def test_connection(self) -> tuple[bool, str]:
        """Whether the folder exists, and words about it."""
        import os

        if not self.basepath:
            return False, "File Path is undefined."
        if not os.path.exists(self.basepath):
            return False, f"Path {self.basepath} does not exist."
        return True, f"Path {self.basepath} is existing."
