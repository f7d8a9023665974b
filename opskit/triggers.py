"""Triggers for DAG files: `from opskit.triggers import BaseTrigger`. Each is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.core.dag.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent
    from opskit.core.dag.triggers.external_task import DagStateTrigger, WorkflowTrigger
    from opskit.core.dag.triggers.file import FileDeleteTrigger, FileTrigger
    from opskit.core.dag.triggers.temporal import DateTimeTrigger, TimeDeltaTrigger

_MODULES = {
    "BaseTrigger": "base",
    "DagStateTrigger": "external_task",
    "DateTimeTrigger": "temporal",
    "FileDeleteTrigger": "file",
    "FileTrigger": "file",
    "StartTriggerArgs": "base",
    "TimeDeltaTrigger": "temporal",
    "TriggerEvent": "base",
    "WorkflowTrigger": "external_task",
}
__all__ = [
    "BaseTrigger",
    "DagStateTrigger",
    "DateTimeTrigger",
    "FileDeleteTrigger",
    "FileTrigger",
    "StartTriggerArgs",
    "TimeDeltaTrigger",
    "TriggerEvent",
    "WorkflowTrigger",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'opskit.triggers' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"opskit.core.dag.triggers.{module}"), name)
    return value
