"""What `airflow.settings` offers beside the database."""

from __future__ import annotations

import json
from typing import Any

from opskit.compat.configuration import conf, get_airflow_home
from opskit.compat.small_things import AIRFLOW_MOVED_TABLE_PREFIX

__all__ = [
    "AIRFLOW_HOME",
    "AIRFLOW_MOVED_TABLE_PREFIX",
    "DAGS_FOLDER",
    "EXECUTE_TASKS_NEW_PYTHON_INTERPRETER",
    "GUNICORN_WORKER_READY_PREFIX",
    "HEADER",
    "IS_K8S_OR_K8SCELERY_EXECUTOR",
    "LAZY_LOAD_PLUGINS",
    "LAZY_LOAD_PROVIDERS",
    "LOGGING_LEVEL",
    "LOG_FORMAT",
    "PLUGINS_FOLDER",
    "SIMPLE_LOG_FORMAT",
    "SQL_ALCHEMY_CONN",
    "STATE_COLORS",
    "STORE_SERIALIZED_DAGS",
    "TIMEZONE",
    "conf",
    "configure_vars",
    "dag_policy",
    "initialize",
    "json",
    "pod_mutation_hook",
    "task_instance_mutation_hook",
    "task_policy",
]

AIRFLOW_HOME: str
DAGS_FOLDER: str
LOGGING_LEVEL: int
LOG_FORMAT: str
PLUGINS_FOLDER: str
SIMPLE_LOG_FORMAT: str
SQL_ALCHEMY_CONN: str
TIMEZONE: Any
HEADER = "opskit"
STORE_SERIALIZED_DAGS = True
LAZY_LOAD_PLUGINS = True
LAZY_LOAD_PROVIDERS = True
EXECUTE_TASKS_NEW_PYTHON_INTERPRETER = False
IS_K8S_OR_K8SCELERY_EXECUTOR = False
GUNICORN_WORKER_READY_PREFIX = "[ready] "
STATE_COLORS = {
    "deferred": "mediumpurple",
    "failed": "red",
    "queued": "gray",
    "removed": "lightgrey",
    "restarting": "violet",
    "running": "lime",
    "scheduled": "tan",
    "skipped": "hotpink",
    "success": "green",
    "up_for_reschedule": "turquoise",
    "up_for_retry": "gold",
    "upstream_failed": "orange",
}


def initialize() -> None:
    """Nothing to do: settings are read when they are asked for."""


configure_vars = initialize


def task_policy(task: Any) -> None:
    """What a cluster asks of each task: nothing, unless airflow_local_settings says so."""


def dag_policy(dag: Any) -> None:
    """The same of each DAG."""


def task_instance_mutation_hook(task_instance: Any) -> None:
    """What a cluster changes in a task instance."""


def pod_mutation_hook(pod: Any) -> None:
    """What a cluster changes in a pod."""


def __getattr__(name: str) -> Any:
    if name == "TIMEZONE":
        from opskit.compat.timezone import local_timezone

        return local_timezone()
    if name == "AIRFLOW_HOME":
        return get_airflow_home()
    if name == "DAGS_FOLDER":
        import os

        return os.path.expanduser(conf.get("core", "dags_folder"))
    if name == "PLUGINS_FOLDER":
        return conf.get("core", "plugins_folder")
    if name == "SQL_ALCHEMY_CONN":
        return conf.get("database", "sql_alchemy_conn")
    if name == "LOGGING_LEVEL":
        import logging

        return logging.getLevelNamesMapping().get(conf.get("logging", "logging_level").upper(), logging.INFO)
    if name in ("LOG_FORMAT", "SIMPLE_LOG_FORMAT"):
        return conf.get("logging", name.lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
