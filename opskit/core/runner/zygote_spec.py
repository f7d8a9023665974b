"""What a fork of the template is to load, and the limits and folders of its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Spec:
    """Plain values, so that they travel as JSON. Memory in MiB; 0: no limit."""

    fileloc: str
    """Below the DAG folder."""
    dags_folder: str
    load_memory_limit: int = 0
    logs_folder: str = ""
    task_memory_limit: int = 0
    gateway_socket: str = ""
    log_level: str = "INFO"
    mask_secrets: bool = True
    default_timezone: str = "UTC"
    questions: str = ""
    """JSON list of what to ask the schedules of the file's DAGs, see `opskit.core.dag.asked_timetable`."""
    airflow_dialect: str = "auto"
    plugins_folder: str = ""
    config_folder: str = ""
    secrets_backend: str = ""
    secrets_backend_kwargs: str = ""
    xcom_backend: str = ""

    def load_options(self) -> dict[str, Any]:
        """For `opskit.core.dag.loading.load_file`, beside path and DAG folder."""
        names = (
            "default_timezone",
            "airflow_dialect",
            "plugins_folder",
            "config_folder",
            "secrets_backend",
            "secrets_backend_kwargs",
            "xcom_backend",
        )
        return {name: getattr(self, name) for name in names}
