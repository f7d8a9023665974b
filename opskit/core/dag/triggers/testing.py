"""Triggers that fire at once, for DAGs that try deferral."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from opskit.core.dag.triggers.base import BaseTrigger, TriggerEvent


class SuccessTrigger(BaseTrigger):
    """Fires at once, with True."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow.triggers.testing.SuccessTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(True)


class FailureTrigger(BaseTrigger):
    """Ends without an event, which fails the task."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow.triggers.testing.FailureTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        events: tuple[TriggerEvent, ...] = ()
        for event in events:
            yield event
