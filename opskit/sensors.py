"""Sensors for DAG files: `from opskit.sensors import FileSensor`. Each is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.core.dag.sensors.base import BaseSensorOperator, PokeReturnValue, poke_mode_only
    from opskit.core.dag.sensors.bash import BashSensor
    from opskit.core.dag.sensors.external_task import ExternalTaskMarker, ExternalTaskSensor
    from opskit.core.dag.sensors.filesystem import FileSensor
    from opskit.core.dag.sensors.python import PythonSensor
    from opskit.core.dag.sensors.time import (
        DateTimeSensor,
        DateTimeSensorAsync,
        TimeDeltaSensor,
        TimeDeltaSensorAsync,
        TimeSensor,
        TimeSensorAsync,
        WaitSensor,
    )
    from opskit.core.dag.sensors.weekday import DayOfWeekSensor, WeekDaySensor

_MODULES = {
    "BaseSensorOperator": "base",
    "BashSensor": "bash",
    "DateTimeSensor": "time",
    "DateTimeSensorAsync": "time",
    "DayOfWeekSensor": "weekday",
    "ExternalTaskMarker": "external_task",
    "ExternalTaskSensor": "external_task",
    "FileSensor": "filesystem",
    "PokeReturnValue": "base",
    "PythonSensor": "python",
    "TimeDeltaSensor": "time",
    "TimeDeltaSensorAsync": "time",
    "TimeSensor": "time",
    "TimeSensorAsync": "time",
    "WaitSensor": "time",
    "WeekDaySensor": "weekday",
    "poke_mode_only": "base",
}
__all__ = [
    "BaseSensorOperator",
    "BashSensor",
    "DateTimeSensor",
    "DateTimeSensorAsync",
    "DayOfWeekSensor",
    "ExternalTaskMarker",
    "ExternalTaskSensor",
    "FileSensor",
    "PokeReturnValue",
    "PythonSensor",
    "TimeDeltaSensor",
    "TimeDeltaSensorAsync",
    "TimeSensor",
    "TimeSensorAsync",
    "WaitSensor",
    "WeekDaySensor",
    "poke_mode_only",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'opskit.sensors' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"opskit.core.dag.sensors.{module}"), name)
    return value
