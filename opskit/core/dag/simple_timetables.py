"""Schedules without a clock: never, once, and without pause."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable, like, no_later
from opskit.core.dag.zones import utc


class _Simple(Timetable):
    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return DataInterval.exact(like(utc(run_after), run_after))


class NullTimetable(_Simple):
    """schedule=None: only manual runs."""

    description = "never; only when triggered"
    periodic = False
    can_be_scheduled = False

    @property
    def summary(self) -> str:
        return "None"

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        return None

    def serialize(self) -> dict[str, Any]:
        return {"type": "none"}


class OnceTimetable(_Simple):
    """schedule="@once": one run, at the start date; without one: now (in Airflow 2: never)."""

    description = "once, at the start date"
    periodic = False

    @property
    def summary(self) -> str:
        return "@once"

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        earliest = restriction.earliest
        if earliest is None and self.dialect != 2:
            earliest = restriction.present()
        if last_automated_data_interval is not None or earliest is None or not no_later(earliest, restriction.latest):
            return None
        return DagRunInfo.exact(like(utc(earliest), earliest))

    def serialize(self) -> dict[str, Any]:
        return {"type": "once"}


class ContinuousTimetable(_Simple):
    """schedule="@continuous": a new run as soon as the last has ended."""

    description = "again as soon as the last run has ended"
    active_runs_limit = 1

    @property
    def summary(self) -> str:
        return "@continuous"

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        now = restriction.present()
        earliest = restriction.earliest
        if earliest is None and self.dialect == 2:
            return None
        if last_automated_data_interval is not None:
            start = last_automated_data_interval.end
        else:
            start = earliest if earliest is not None else now
        start = like(utc(start), start)
        end = max(now, start)
        return DagRunInfo.interval(start, end) if no_later(end, restriction.latest) else None

    def serialize(self) -> dict[str, Any]:
        return {"type": "continuous"}
