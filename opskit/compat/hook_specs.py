"""The mark that listeners and policies put on their functions (`airflow.listeners.hookimpl`, `airflow.policies`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opskit.core.dag.plugins import hookimpl
from opskit.core.dag.plugins import listener_manager as get_listener_manager

__all__ = ["get_listener_manager", "hookimpl", "hookspec", "local_settings_hookspec"]


def hookspec(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Declares a hook; nothing is done with it here."""
    return function if function is not None else lambda inner: inner


local_settings_hookspec = hookspec
