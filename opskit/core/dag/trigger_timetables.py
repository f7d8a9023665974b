"""Schedules of moments: a run starts at each of them, for the interval of a given length that ends then."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from opskit.core.dag import spans
from opskit.core.dag.interval_timetables import CronSteps, DeltaSteps, _Steps
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable, like, no_later
from opskit.core.dag.zones import utc
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.spans import Span

_SHORTEST_GRACE = timedelta(minutes=5)


class _Triggers(_Steps):
    _interval: Span

    def _first_run(self, now: datetime) -> datetime:
        """The first moment of a DAG without start date."""
        raise NotImplementedError

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = utc(run_after)
        return DataInterval(like(end - self._interval, run_after), like(end, run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last, earliest = last_automated_data_interval, restriction.earliest
        if earliest is not None:
            earliest = like(utc(earliest), earliest)
        if restriction.catchup:
            if last is not None:
                at = self._get_next(last.end)
            elif earliest is not None:
                at = self._align_to_next(earliest)
            elif self.dialect == 2:
                return None  # nobody knows where to catch up from
            else:
                at = self._first_run(restriction.present())
        else:
            now = restriction.present()
            candidates = [self._align_to_prev(now)]
            if last is not None:
                candidates.append(self._get_next(last.end))
            elif earliest is None and self.dialect != 2:
                candidates.append(self._first_run(now))
            if earliest is not None:
                candidates.append(self._align_to_next(earliest))
            at = max(candidates)
        if not no_later(at, restriction.latest):
            return None
        return DagRunInfo.interval(like(utc(at) - self._interval, at), at)


class CronTriggerTimetable(CronSteps, _Triggers):
    """At each match of the cron expression, for the interval that ends then (default: one without length).

    `run_immediately` is for a DAG without start date: True lets it run for the last match at once, a timedelta when
    that is no longer ago. Else it does so within a tenth of the time between two matches, at least 5 minutes."""

    def __init__(
        self,
        cron: str,
        *,
        timezone: str | tzinfo,
        interval: Span = timedelta(),
        run_immediately: bool | timedelta | None = False,
    ) -> None:
        super().__init__(cron, timezone)
        self._interval = spans.plain(interval)
        self._run_immediately = run_immediately

    def _first_run(self, now: datetime) -> datetime:
        last, following = self._align_to_prev(now), self._align_to_next(now)
        if self._run_immediately is True:
            return last
        if isinstance(self._run_immediately, timedelta):
            grace = self._run_immediately
        else:
            grace = max((following - last) / 10, _SHORTEST_GRACE)
        return last if now - last <= grace else following

    def serialize(self) -> dict[str, Any]:
        return {"type": "cron_trigger", **self._cron_form(), **_trigger_form(self._interval, self._run_immediately)}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(data["expression"], timezone=data["timezone"], **read_trigger_form(data))


class DeltaTriggerTimetable(DeltaSteps, _Triggers):
    """At the start date, and then again and again after `delta`."""

    def __init__(self, delta: Span, *, interval: Span = timedelta()) -> None:
        super().__init__(delta)
        self._interval = spans.plain(interval)

    def _first_run(self, now: datetime) -> datetime:
        return now

    def serialize(self) -> dict[str, Any]:
        return {
            "type": "delta_trigger",
            "seconds": spans.encode(self._delta),
            "interval_seconds": spans.encode(self._interval),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(spans.decode(data["seconds"]), interval=spans.decode(data["interval_seconds"]))


class MultipleCronTriggerTimetable(Timetable):
    """At each match of any of the cron expressions; once where several match."""

    def __init__(
        self,
        *crons: str,
        timezone: str | tzinfo,
        interval: Span = timedelta(),
        run_immediately: bool | timedelta | None = False,
    ) -> None:
        if not crons:
            raise DagInvalid("MultipleCronTriggerTimetable has no cron expression", hint="give one or more")
        self._timetables = [
            CronTriggerTimetable(cron, timezone=timezone, interval=interval, run_immediately=run_immediately)
            for cron in crons
        ]

    @property
    def summary(self) -> str:
        return ", ".join(timetable.summary for timetable in self._timetables)

    @property
    def description(self) -> str:  # type: ignore[override]
        return ", ".join(timetable.description for timetable in self._timetables)

    def validate(self) -> None:
        for timetable in self._timetables:
            timetable.validate()

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return self._timetables[0].infer_manual_data_interval(run_after)

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        now = restriction.present()
        restriction = restriction._replace(now=now)
        for each in self._timetables:
            each.dialect = self.dialect
        found = [each.next_dagrun_info(last_automated_data_interval, restriction) for each in self._timetables]

        def order(info: DagRunInfo | None) -> float:
            if info is None:
                return math.inf
            at = info.logical_date.timestamp()
            # Without catchup the newest of those that are due, else the first that will be.
            return -at if not restriction.catchup and at <= now.timestamp() else at

        return min(found, key=order)

    def serialize(self) -> dict[str, Any]:
        first = self._timetables[0]
        form = {**first._cron_form(), **_trigger_form(first._interval, first._run_immediately)}
        form["expression"] = [timetable._text for timetable in self._timetables]
        return {"type": "multiple_cron_trigger", **form}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(*data["expression"], timezone=data["timezone"], **read_trigger_form(data))


def _trigger_form(interval: Span, run_immediately: bool | timedelta | None) -> dict[str, Any]:
    form: dict[str, Any] = {"interval_seconds": spans.encode(interval)}
    if run_immediately is True:
        form["run_immediately"] = True
    elif isinstance(run_immediately, timedelta):
        form["run_immediately"] = {"seconds": run_immediately.total_seconds()}
    return form


def read_trigger_form(data: dict[str, Any]) -> dict[str, Any]:
    immediately = data.get("run_immediately", False)
    if isinstance(immediately, dict):
        immediately = timedelta(seconds=immediately["seconds"])
    return {"interval": spans.decode(data["interval_seconds"]), "run_immediately": immediately}
