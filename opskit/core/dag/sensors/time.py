"""Sensors that wait for a point in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import Any

from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.core.dag.zones import aware, localize, utc


class _MomentSensor(BaseSensorOperator):
    """Waits until a moment that `moment` knows; with `deferrable` as a deferred task.

    `start_from_trigger` and `end_from_trigger` spare Airflow processes at the beginning and the end; they change
    nothing here."""

    when_over: bool | None = None
    """What a deferrable sensor returns when there is nothing to wait for."""

    def __init__(
        self,
        *,
        deferrable: bool = False,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        trigger_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable or start_from_trigger
        self.end_from_trigger = end_from_trigger

    def moment(self, context: Any) -> datetime:
        """When the wait is over."""
        raise NotImplementedError(f"{type(self).__name__} has no moment()")

    def poke(self, context: Any) -> bool:
        target = self.moment(context)
        self.log.info("Checking if the time (%s) has come", target)
        return datetime.now(UTC) > target

    def execute(self, context: Any) -> Any:  # noqa: RET503 - defer() does not return
        if not self.deferrable:
            return super().execute(context)
        target = self.moment(context)
        if datetime.now(UTC) > target:
            return self.when_over
        from opskit.core.dag.triggers.temporal import DateTimeTrigger

        self.defer(trigger=DateTimeTrigger(moment=target), method_name="execute_complete", timeout=self.timeout)

    def execute_complete(self, context: Any, event: Any = None) -> None:
        """Go on after the trigger."""


class TimeDeltaSensor(_MomentSensor):
    """Wait until `delta` (a timedelta, or minutes) after the end of the run's data interval."""

    template_fields: Sequence[str] = ("delta",)
    when_over = True

    def __init__(self, *, delta: timedelta | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delta = delta

    def moment(self, context: Any) -> datetime:
        end: datetime = context["dag_run"]._info.data_interval_end
        return end + (self.delta if isinstance(self.delta, timedelta) else timedelta(minutes=int(self.delta)))


class DateTimeSensor(_MomentSensor):
    """Wait until `target_time`: a datetime, or a text (a template, too) in ISO 8601."""

    template_fields: Sequence[str] = ("target_time",)

    def __init__(self, *, target_time: str | datetime, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(target_time, datetime):
            self.target_time: Any = aware(target_time).isoformat()
        else:
            self.target_time = target_time

    def moment(self, context: Any) -> datetime:
        target = self.target_time
        return utc(target if isinstance(target, datetime) else datetime.fromisoformat(str(target)))


class TimeSensor(_MomentSensor):
    """Wait until this time of the present day, in the DAG's zone."""

    def __init__(self, *, target_time: clock_time, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target_time = target_time

    def moment(self, context: Any) -> datetime:
        zone = self.target_time.tzinfo or self.dag.timezone
        # The day on which the sensor started: after midnight it must not begin to wait for the next one.
        day = context["ti"].first_poke_at.astimezone(zone).date()
        return localize(datetime.combine(day, self.target_time.replace(tzinfo=None)), zone)


class TimeDeltaSensorAsync(TimeDeltaSensor):
    """TimeDeltaSensor, deferred."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "deferrable": True})


class DateTimeSensorAsync(DateTimeSensor):
    """DateTimeSensor, deferred."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "deferrable": True})


class TimeSensorAsync(TimeSensor):
    """TimeSensor, deferred."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "deferrable": True})


class WaitSensor(_MomentSensor):
    """Wait for a while (a timedelta, or minutes) from the start of the task on."""

    template_fields: Sequence[str] = ("time_to_wait",)

    def __init__(self, *, time_to_wait: timedelta | int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.time_to_wait = time_to_wait

    def moment(self, context: Any) -> datetime:
        wait = self.time_to_wait
        started: datetime = context["ti"].first_poke_at
        return started + (wait if isinstance(wait, timedelta) else timedelta(minutes=int(wait)))
