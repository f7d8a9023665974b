"""What `airflow.secrets` offers: classes of secrets backends. `secrets.backend` names the one that is asked first."""

from __future__ import annotations

import json
import os
from abc import ABC
from pathlib import Path
from typing import Any

from opskit.compat.exceptions import AirflowFileParseException
from opskit.compat.logging_mixin import LoggingMixin
from opskit.core.dag import connection as connections
from opskit.core.dag import variable as variables
from opskit.core.dag.connection import Connection

__all__ = [
    "DEFAULT_SECRETS_SEARCH_PATH",
    "BaseSecretsBackend",
    "EnvironmentVariablesBackend",
    "LocalFilesystemBackend",
    "MetastoreBackend",
]

DEFAULT_SECRETS_SEARCH_PATH = [
    "airflow.secrets.environment_variables.EnvironmentVariablesBackend",
    "airflow.secrets.metastore.MetastoreBackend",
]


class BaseSecretsBackend(ABC):  # noqa: B024 - each method has an answer of its own
    """To be derived from: where connections and variables are kept."""

    @staticmethod
    def build_path(path_prefix: str, secret_id: str, sep: str = "/") -> str:
        return f"{path_prefix}{sep}{secret_id}"

    def get_conn_value(self, conn_id: str) -> str | None:
        """The connection as URI or JSON; None when there is none."""
        raise NotImplementedError

    def deserialize_connection(self, conn_id: str, value: str) -> Connection:
        return Connection.from_text(value, conn_id)

    def get_connection(self, conn_id: str) -> Connection | None:
        value = self.get_conn_value(conn_id)
        return self.deserialize_connection(conn_id, value) if value else None

    def get_variable(self, key: str) -> str | None:
        raise NotImplementedError

    def get_config(self, key: str) -> str | None:
        return None


class EnvironmentVariablesBackend(BaseSecretsBackend):
    """AIRFLOW_CONN_…, AIRFLOW_VAR_… and the same with OPSKIT_."""

    def get_conn_value(self, conn_id: str) -> str | None:
        return next(
            (os.environ[p + conn_id.upper()] for p in connections.ENV_PREFIXES if p + conn_id.upper() in os.environ),
            None,
        )

    def get_variable(self, key: str) -> str | None:
        return next(
            (os.environ[p + key.upper()] for p in variables.ENV_PREFIXES if p + key.upper() in os.environ), None
        )


class MetastoreBackend(BaseSecretsBackend):
    """What opskit keeps itself."""

    def get_connection(self, conn_id: str) -> Connection | None:
        from opskit.core.dag import runtime

        return runtime.store().get_connection(conn_id)

    def get_variable(self, key: str) -> str | None:
        from opskit.core.dag import runtime

        return runtime.store().get_variable(key)


class LocalFilesystemBackend(BaseSecretsBackend, LoggingMixin):
    """Files of connections and variables: .json, .yaml, .yml or .env (NAME=value, one a line)."""

    def __init__(self, variables_file_path: str | None = None, connections_file_path: str | None = None) -> None:
        self.variables_file = variables_file_path
        self.connections_file = connections_file_path

    @property
    def _local_variables(self) -> dict[str, str]:
        found = _read(self.variables_file) if self.variables_file else {}
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}

    @property
    def _local_connections(self) -> dict[str, Connection]:
        found = _read(self.connections_file) if self.connections_file else {}
        return {conn_id: _connection(conn_id, value, self.connections_file or "") for conn_id, value in found.items()}

    def get_connection(self, conn_id: str) -> Connection | None:
        return self._local_connections.get(conn_id)

    def get_variable(self, key: str) -> str | None:
        return self._local_variables.get(key)


def _read(path: str) -> dict[str, Any]:
    """AirflowFileParseException for a file that is not there, can't be read, or holds something else."""
    kind = Path(path).suffix.lstrip(".").lower()
    try:
        text = Path(path).read_text(encoding="utf-8")
        if kind == "env":
            pairs = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith("#"))
            return {key.strip(): value.strip() for key, _, value in pairs}
        if kind == "json":
            found = json.loads(text)
        elif kind in ("yaml", "yml"):
            import yaml

            found = yaml.safe_load(text)
        else:
            raise AirflowFileParseException("a .json, .yaml, .yml or .env file is needed", path, [])
    except (OSError, ValueError, ImportError) as error:
        raise AirflowFileParseException(str(error), path, []) from error
    if not isinstance(found, dict):
        raise AirflowFileParseException("it must hold names and their values", path, [])
    return found


def _connection(conn_id: str, value: Any, path: str) -> Connection:
    if isinstance(value, list):
        if len(value) != 1:
            raise AirflowFileParseException(f"there are {len(value)} connections {conn_id!r}", path, [])
        value = value[0]
    if isinstance(value, str):
        return Connection.from_text(value, conn_id)
    fields = dict(value)
    if "extra_dejson" in fields:
        fields["extra"] = fields.pop("extra_dejson")
    return Connection.from_dict(fields, conn_id)
