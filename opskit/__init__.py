"""opskit keeps a workflow cluster running. DAG files import the authoring model from here.

The names are resolved on first use, so that `opskit --help` does not pay for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "Asset": "opskit.core.dag.assets",
    "AssetAlias": "opskit.core.dag.assets",
    "AssetOrTimeSchedule": "opskit.core.dag.asset_timetables",
    "DAG": "opskit.core.dag.model",
    "Metadata": "opskit.core.dag.assets",
    "asset": "opskit.core.dag.asset_decorator",
    "dag": "opskit.core.dag.taskflow",
    "task": "opskit.core.dag.taskflow",
    "task_group": "opskit.core.dag.taskflow",
    "setup": "opskit.core.dag.taskflow",
    "teardown": "opskit.core.dag.taskflow",
    "TaskGroup": "opskit.core.dag.task_group",
    "XComArg": "opskit.core.dag.xcom_arg",
    "chain": "opskit.core.dag.model",
    "cross_downstream": "opskit.core.dag.model",
    "Label": "opskit.core.dag.model",
    "Param": "opskit.core.dag.params",
    "Variable": "opskit.core.dag.variable",
    "Connection": "opskit.core.dag.connection",
    "get_current_context": "opskit.core.dag.context",
}

__all__ = ["__version__", *_LAZY]

if TYPE_CHECKING:  # the names of _LAZY, for type checkers and editors
    from opskit.core.dag.asset_decorator import asset
    from opskit.core.dag.asset_timetables import AssetOrTimeSchedule
    from opskit.core.dag.assets import Asset, AssetAlias, Metadata
    from opskit.core.dag.connection import Connection
    from opskit.core.dag.context import get_current_context
    from opskit.core.dag.model import DAG, Label, chain, cross_downstream
    from opskit.core.dag.params import Param
    from opskit.core.dag.task_group import TaskGroup
    from opskit.core.dag.taskflow import dag, setup, task, task_group, teardown
    from opskit.core.dag.variable import Variable
    from opskit.core.dag.xcom_arg import XComArg


def __getattr__(name: str) -> Any:
    module_name = _LAZY.get(name)
    if module_name is None:
        raise AttributeError(f"module 'opskit' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module_name), name)
    globals()[name] = value
    return value
