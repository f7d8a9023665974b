"""DayOfWeekSensor: wait until it is one of some days of the week."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag.sensors.base import BaseSensorOperator
from opskit.core.dag.weekday import WeekDay


class DayOfWeekSensor(BaseSensorOperator):
    """`week_day`: an English name, a WeekDay, or several of them. The day is the present one in UTC, or, with
    use_task_logical_date, that of the logical date (then it is right at the first poke, or never)."""

    def __init__(
        self,
        *,
        week_day: str | WeekDay | Iterable[str] | Iterable[WeekDay],
        use_task_logical_date: bool = False,
        use_task_execution_day: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.week_day = week_day
        self.use_task_logical_date = use_task_logical_date or use_task_execution_day
        self._week_day_num = WeekDay.validate_week_day(week_day)

    def poke(self, context: Any) -> bool:
        day = context["dag_run"]._info.logical_date if self.use_task_logical_date else datetime.now(UTC)
        self.log.info("Poking until weekday is in %s, Today is %s", self.week_day, WeekDay(day.isoweekday()).name)
        return day.isoweekday() in self._week_day_num


WeekDaySensor = DayOfWeekSensor
