"""PackageIndexHook: the address of a Python package index, with the credentials of a connection."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook


class PackageIndexHook(BaseHook):
    """The connection's host is the address, its login and password are put into it."""

    conn_name_attr = "pi_conn_id"
    default_conn_name = "package_index_default"
    conn_type = "package_index"
    hook_name = "Package Index (Python)"

    def __init__(self, pi_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pi_conn_id = pi_conn_id

    def get_conn(self) -> str:
        return self.get_connection_url()

    def get_connection_url(self) -> str:
        """The address, with the credentials. AirflowException for a connection without host."""
        from urllib.parse import quote, urlsplit, urlunsplit

        connection = self.get_connection(self.pi_conn_id)
        if not connection.host:
            raise AirflowException(f"connection {self.pi_conn_id} has no host: the index's address belongs there")
        parts = urlsplit(connection.host)
        place = parts.netloc.rpartition("@")[2]
        if connection.login:
            secret = f":{quote(connection.password, safe='')}" if connection.password else ""
            place = f"{quote(connection.login, safe='')}{secret}@{place}"
        return urlunsplit(parts._replace(netloc=place))
