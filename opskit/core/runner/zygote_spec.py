"""What a fork of the template is to load, and the limits and folders of its attempts."""

from __future__ import annotations

from dataclasses import dataclass


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
