"""Triggers that wait for a point in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from opskit.core.dag.zones import utc

LONGEST_SLEEP = 600.0
"""Seconds: the clock may be set while it waits."""


class DateTimeTrigger(BaseTrigger):
    """Fires at `moment`, an aware datetime (or at `target_time`, a text in ISO 8601). With end_from_trigger the task
    then ends as a success."""

    def __init__(
        self,
        moment: datetime | None = None,
        *,
        target_time: datetime | str | None = None,
        end_from_trigger: bool = False,
    ) -> None:
        super().__init__()
        if (moment is None) == (target_time is None):
            raise TypeError("DateTimeTrigger needs either moment or target_time")
        given = moment if moment is not None else target_time
        if moment is not None and not isinstance(moment, datetime):
            raise TypeError(f"Expected datetime.datetime type for moment. Got {type(moment)}")
        if isinstance(given, datetime) and given.tzinfo is None:
            raise ValueError("You cannot pass naive datetimes")
        self.moment = utc(given if isinstance(given, datetime) else datetime.fromisoformat(str(given)))
        self.end_from_trigger = end_from_trigger

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow.providers.standard.triggers.temporal.DateTimeTrigger",
            {"moment": self.moment, "end_from_trigger": self.end_from_trigger},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while (remaining := (self.moment - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(remaining, LONGEST_SLEEP))
        yield TaskSuccessEvent() if self.end_from_trigger else TriggerEvent(self.moment)


class TimeDeltaTrigger(DateTimeTrigger):
    """Fires when `delta` has passed. It is serialized as the DateTimeTrigger of that moment."""

    def __init__(self, delta: timedelta, *, end_from_trigger: bool = False) -> None:
        super().__init__(moment=datetime.now(UTC) + delta, end_from_trigger=end_from_trigger)
