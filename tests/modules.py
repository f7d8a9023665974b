"""Modules that a test has imported from its own folder."""

from __future__ import annotations

import sys
from pathlib import Path


def forget_modules_of(folder: Path) -> None:
    """Remove what was imported from below it, and Airflow's names. What libraries have loaded meanwhile stays: a second
    copy of theirs would not know the classes of the first."""
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None) or ""
        if name.partition(".")[0] == "airflow" or Path(place).is_relative_to(folder):
            del sys.modules[name]
