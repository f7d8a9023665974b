"""How long work tells how far it is. A verb calls; whoever started the verb decides what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One word from a running verb. Called often: what shows it, thins it out."""

    step: str
    done: int = 0
    total: int = 0
    """0: nobody knows."""
    unit: str = ""
    """bytes, rows or empty."""


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Show nothing."""
