"""What `airflow.utils.decorators` and its like offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["apply_defaults"]
_F = TypeVar("_F", bound=Callable[..., Any])


def apply_defaults(func: _F) -> _F:
    """Nothing to do: every operator takes its missing arguments from default_args by itself."""
    return func
