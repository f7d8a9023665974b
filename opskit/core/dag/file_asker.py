"""How this process asks a DAG file what its schedule says: nothing heavy is imported to say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Ask = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""JSON form of the timetable, question → answer (`asked_timetable`). DagInvalid when the file can't be loaded."""
_ask: Ask | None = None


def set_asker(ask: Ask | None) -> None:
    """None: this process does not ask."""
    global _ask
    _ask = ask


def asker() -> Ask | None:
    return _ask
