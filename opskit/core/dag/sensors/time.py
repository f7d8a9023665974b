"""Sensors that wait for a point in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.core.dag.zones import aware, localize, utc


class TimeDeltaSensor(BaseSensorOperator):
    """Wait until `delta` after the end of the run's data interval."""

    def __init__(self, *, delta: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def poke(self, context: Any) -> bool:
        target = context["dag_run"]._info.data_interval_end + self.delta
        self.log.info("Checking if the time (%s) has come", target)
        return bool(datetime.now(UTC) > target)


class DateTimeSensor(BaseSensorOperator):
    """Wait until `target_time`: a datetime, or a text (a template, too) in ISO 8601."""

    template_fields: Sequence[str] = ("target_time",)

    def __init__(self, *, target_time: str | datetime, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_time = aware(target_time).isoformat() if isinstance(target_time, datetime) else str(target_time)

    def poke(self, context: Any) -> bool:
        target = utc(datetime.fromisoformat(self.target_time))
        self.log.info("Checking if the time (%s) has come", target)
        return datetime.now(UTC) > target


class TimeSensor(BaseSensorOperator):
    """Wait until this time of the present day, in the DAG's zone."""

    def __init__(self, *, target_time: clock_time, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_time = target_time

    def poke(self, context: Any) -> bool:
        zone = self.target_time.tzinfo or self.dag.timezone
        # The day on which the sensor started: after midnight it must not begin to wait for the next one.
        day = context["ti"].first_poke_at.astimezone(zone).date()
        target = localize(datetime.combine(day, self.target_time.replace(tzinfo=None)), zone)
        self.log.info("Checking if the time (%s) has come", target)
        return datetime.now(UTC) > target
