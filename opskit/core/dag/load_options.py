"""The settings that decide how a DAG file is loaded, as the arguments that `loading.load_file` takes."""

from __future__ import annotations

from typing import Any

from opskit.config import Config


def of_config(config: Config) -> dict[str, Any]:
    """Plain values, so that they travel as JSON."""
    return {
        "default_timezone": str(config.get("core", "default_timezone")),
        "airflow_dialect": str(config.get("core", "airflow_dialect")),
        "plugins_folder": str(config.get_path("core", "plugins_folder")),
        "config_folder": str(config.home / "config"),
        "secrets_backend": str(config.get("secrets", "backend")),
        "secrets_backend_kwargs": str(config.get("secrets", "backend_kwargs")),
        "xcom_backend": str(config.get("core", "xcom_backend")),
    }
