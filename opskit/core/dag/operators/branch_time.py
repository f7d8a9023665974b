"""Branches that depend on the time: BranchDateTimeOperator and BranchDayOfWeekOperator."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.branch import BaseBranchOperator
from opskit.core.dag.weekday import WeekDay
from opskit.core.dag.zones import aware


class _TimeBranch(BaseBranchOperator):
    """What to follow when something about the time is true, and when it is not."""

    def __init__(
        self,
        *,
        follow_task_ids_if_true: str | Iterable[str],
        follow_task_ids_if_false: str | Iterable[str],
        use_task_logical_date: bool = False,
        use_task_execution_date: bool = False,
        use_task_execution_day: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.follow_task_ids_if_true = follow_task_ids_if_true
        self.follow_task_ids_if_false = follow_task_ids_if_false
        # Three names of Airflow for one thing, from its oldest to its newest release.
        self.use_task_logical_date = use_task_logical_date or use_task_execution_date or use_task_execution_day

    def holds(self, context: Any) -> bool:
        raise NotImplementedError

    def choose_branch(self, context: Any) -> str | Iterable[str]:
        return self.follow_task_ids_if_true if self.holds(context) else self.follow_task_ids_if_false


class BranchDateTimeOperator(_TimeBranch):
    """True while the present (or the logical date) lies between `target_lower` and `target_upper`, both included.

    A bound may be None, a datetime, or a time of the present day; an upper time before the lower one is of the next."""

    def __init__(
        self,
        *,
        target_lower: datetime | time | None,
        target_upper: datetime | time | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if target_lower is None and target_upper is None:
            raise AirflowException(
                f"task {self.task_id}: target_lower and target_upper are None, one of them is needed"
            )
        self.target_lower = target_lower
        self.target_upper = target_upper

    def holds(self, context: Any) -> bool:
        now = context["dag_run"]._info.logical_date if self.use_task_logical_date else datetime.now(UTC)
        lower, upper = target_times_as_dates(now, self.target_lower, self.target_upper)
        zone = self.dag.timezone
        if upper is not None and aware(upper, zone) < now:
            return False
        return lower is None or aware(lower, zone) <= now


def target_times_as_dates(
    base_date: datetime, lower: datetime | time | None, upper: datetime | time | None
) -> tuple[datetime | None, datetime | None]:
    """Both bounds as datetimes: a time is one of the base date's day."""
    both_dates = isinstance(lower, datetime) and isinstance(upper, datetime)
    first = datetime.combine(base_date, lower) if isinstance(lower, time) else lower
    last = datetime.combine(base_date, upper) if isinstance(upper, time) else upper
    if not both_dates and first is not None and last is not None and last < first:
        last += timedelta(days=1)
    return first, last


class BranchDayOfWeekOperator(_TimeBranch):
    """True when the present (or the logical date) is one of the days `week_day`: an English name, a WeekDay, or several
    of them."""

    def __init__(self, *, week_day: str | WeekDay | Iterable[str] | Iterable[WeekDay], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.week_day = week_day
        self._week_day_num = WeekDay.validate_week_day(week_day)

    def holds(self, context: Any) -> bool:
        if self.use_task_logical_date:
            day = context["dag_run"]._info.logical_date
        else:
            day = datetime.now(UTC).astimezone(self.dag.timezone)
        return day.isoweekday() in self._week_day_num
