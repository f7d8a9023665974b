"""What `airflow.utils.types`, `weight_rule` and their like offer: kinds of runs, and marks for what was not given."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, TypedDict

from opskit.core.dag import params

__all__ = [
    "NOTSET",
    "SET_DURING_EXECUTION",
    "ArgNotSet",
    "AttributeRemoved",
    "DagRunTriggeredByType",
    "DagRunType",
    "EdgeInfoType",
    "SetDuringExecution",
    "WeightRule",
]

NOTSET = params.NOTSET
"""An argument that was not given."""
ArgNotSet = type(NOTSET)


class _Text(str, Enum):  # noqa: UP042 - str() gives the value in any Python
    def __str__(self) -> str:
        return str(self.value)


class SetDuringExecution(ArgNotSet):  # type: ignore[misc, valid-type]
    """An argument that is given only when the task runs."""


SET_DURING_EXECUTION = SetDuringExecution()


class AttributeRemoved:
    """An attribute that a serialized object does not have. RuntimeError when it is used."""

    def __init__(self, attribute_name: str) -> None:
        self.attribute_name = attribute_name

    def __getattr__(self, item: str) -> Any:
        raise RuntimeError(f"{self.attribute_name} is not there any more, {item} can't be taken from it")


class DagRunType(_Text):
    """How a run came to be; its run_id begins with it."""

    BACKFILL_JOB = "backfill"
    SCHEDULED = "scheduled"
    MANUAL = "manual"
    DATASET_TRIGGERED = "dataset_triggered"
    ASSET_TRIGGERED = "asset_triggered"

    def generate_run_id(self, logical_date: datetime | None = None, *, suffix: str | None = None) -> str:
        """`manual__2024-01-01T00:00:00+00:00`."""
        ending = suffix if suffix is not None else logical_date.isoformat() if logical_date is not None else ""
        return f"{self}__{ending}"

    @staticmethod
    def from_run_id(run_id: str) -> DagRunType:
        for kind in DagRunType:
            if run_id and run_id.startswith(f"{kind.value}__"):
                return kind
        return DagRunType.MANUAL


class DagRunTriggeredByType(Enum):
    """Who asked for a run."""

    CLI = "cli"
    OPERATOR = "operator"
    REST_API = "rest_api"
    UI = "ui"
    TEST = "test"
    TIMETABLE = "timetable"
    DATASET = "dataset"
    ASSET = "asset"
    BACKFILL = "backfill"


class EdgeInfoType(TypedDict):
    """What is known of the line between two tasks."""

    label: str | None


class WeightRule(_Text):
    """How the priority of a task counts those of its neighbours."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    ABSOLUTE = "absolute"

    @classmethod
    def is_valid(cls, weight_rule: str) -> bool:
        return weight_rule in cls.all_weight_rules()

    @classmethod
    def all_weight_rules(cls) -> set[str]:
        return {str(rule) for rule in cls}
