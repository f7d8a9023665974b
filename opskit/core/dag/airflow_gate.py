"""Lets DAG files import Airflow's names. What those are is known to opskit.compat, which is loaded only when a file (or
a module that it imports) asks for one: until then this costs one comparison per import."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

own_folders: list[str] = []
"""The DAG, plugins and config folders of this process: a folder `airflow` in them is no installed Airflow."""


class _Gate:
    """A meta path finder."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "airflow" and not name.startswith("airflow."):
            return None
        spec: ModuleSpec | None = import_module("opskit.compat.import_hook").find_spec(name)
        return spec


GATE = _Gate()


def open_gate(*folders: str) -> None:
    """For the processes that load DAG files and run attempts."""
    for folder in folders:
        if folder and folder not in own_folders:
            own_folders.append(folder)
    if GATE not in sys.meta_path:
        sys.meta_path.insert(0, GATE)


def close_gate() -> None:
    """Undo `open_gate`, and forget the modules that came through it."""
    own_folders.clear()
    if GATE in sys.meta_path:
        sys.meta_path.remove(GATE)
    hook = sys.modules.get("opskit.compat.import_hook")
    if hook is not None:
        hook.forget()
