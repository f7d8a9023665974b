"""What `airflow.utils.yaml` offers: PyYAML, which is loaded when it is used."""

from __future__ import annotations

from typing import Any

__all__ = ["dump", "load", "safe_load"]


def _yaml() -> Any:
    """ImportError, with what to install, where there is none."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML can't be read here: install opskit[yaml]") from error
    return yaml


def safe_load(stream: Any) -> Any:
    """Plain values of a YAML document."""
    return _yaml().safe_load(stream)


load = safe_load


def dump(data: Any, **options: Any) -> Any:
    """The text of plain values."""
    return _yaml().safe_dump(data, **options)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_yaml(), name)
