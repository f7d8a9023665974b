"""What a fork of the template is to load, and the limits and folders of its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from opskit.config import Config


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


def spec_for(config: Config, fileloc: str) -> Spec:
    return Spec(
        fileloc=fileloc,
        dags_folder=str(config.dags_folder),
        load_memory_limit=config.get("core", "dag_file_memory_limit"),
        logs_folder=str(config.logs_folder),
        task_memory_limit=config.get("core", "task_memory_limit"),
        gateway_socket=str(config.run_folder / "gateway.sock"),
        log_level=config.get("logging", "logging_level"),
        mask_secrets=config.get("core", "hide_sensitive_var_conn_fields"),
        default_timezone=config.get("core", "default_timezone"),
    )
