"""Which hook serves which type of connection: names only, nothing is imported until a hook is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import AirflowException

if TYPE_CHECKING:
    from opskit.core.dag.connection import Connection

HOOKS: dict[str, str] = {
    "aws": "opskit.providers.amazon.base.AwsBaseHook",
    "docker": "opskit.providers.docker.DockerHook",
    "ftp": "opskit.providers.ftp.FTPHook",
    "google_cloud_platform": "opskit.providers.google_sheets.GSheetsHook",
    "http": "opskit.providers.http.HttpHook",
    "kubernetes": "opskit.providers.kubernetes.hook.KubernetesHook",
    "mysql": "opskit.providers.sql.mysql.MySqlHook",
    "postgres": "opskit.providers.sql.postgres.PostgresHook",
    "sftp": "opskit.providers.sftp.SFTPHook",
    "slack": "opskit.providers.slack.hooks.SlackHook",
    "slackwebhook": "opskit.providers.slack.hooks.SlackWebhookHook",
    "smtp": "opskit.providers.smtp.SmtpHook",
    "spark": "opskit.providers.spark.SparkSubmitHook",
    "sqlite": "opskit.providers.sql.sqlite.SqliteHook",
    "ssh": "opskit.providers.ssh.SSHHook",
}
"""Connection type to the path of its hook class. The class has `conn_name_attr`, the argument that takes the id."""


def register(conn_type: str, path: str) -> None:
    """Let connections of this type be served by the class at `path` (`package.module.Class`)."""
    HOOKS[conn_type] = path


foreign_hook: Callable[[str, FrameType], Any] | None = None
"""Gives the class for a type of connection out of a provider package that is installed beside opskit (None: none), by
who asks. opskit.compat sets it, in processes that use Airflow's names."""


def hook_for(connection: Connection, hook_params: dict[str, Any] | None = None) -> Any:
    """The hook of a connection, made with its id and `hook_params`. AirflowException for a type without a hook."""
    from importlib import import_module

    foreign = None if foreign_hook is None else foreign_hook(connection.conn_type or "", sys._getframe(1))
    if foreign is not None:
        return foreign(**{foreign.conn_name_attr: connection.conn_id}, **(hook_params or {}))
    path = HOOKS.get(connection.conn_type or "")
    if path is None:
        raise AirflowException(
            f"connection {connection.conn_id}: there is no hook for its type {connection.conn_type!r} "
            f"(there is one for {', '.join(sorted(HOOKS))})"
        )
    module, _, name = path.rpartition(".")
    hook_class = getattr(import_module(module), name)
    return hook_class(**{hook_class.conn_name_attr: connection.conn_id}, **(hook_params or {}))
