"""Schedules of data intervals that follow one another: a run starts when its interval is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from opskit.core.dag import spans
from opskit.core.dag.cron import Cron, cron_words
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable, like, no_later
from opskit.core.dag.zones import load_zone, utc, zone_name

if TYPE_CHECKING:
    from opskit.core.dag.spans import Span

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Steps(Timetable):
    """Moments that follow one another; the names of its steps are those that subclasses written for Airflow call."""

    def _get_next(self, current: datetime) -> datetime:
        """The first moment after `current`."""
        raise NotImplementedError

    def _get_prev(self, current: datetime) -> datetime:
        """The last moment before `current`."""
        raise NotImplementedError

    def _align_to_next(self, current: datetime) -> datetime:
        """`current` when it is one of the moments, else the next one."""
        raise NotImplementedError

    def _align_to_prev(self, current: datetime) -> datetime:
        raise NotImplementedError


class CronSteps(_Steps):
    """The moments of a cron expression in a zone."""

    def __init__(self, cron: str, timezone: str | tzinfo = "UTC") -> None:
        zone = load_zone(timezone) if isinstance(timezone, str) else timezone
        self._timezone = zone
        # By name: pytz's zones are not for replacing tzinfo, and a DAG's zone may be one of those.
        self._cron = Cron(cron, load_zone(zone_name(zone)))
        self._text = cron.strip()

    @property
    def expression(self) -> str:
        return self._cron.expression

    _expression = expression

    @property
    def summary(self) -> str:
        # A preset stays one; Airflow shows what it stands for.
        return self._text if self.dialect is None else self._cron.expression

    @property
    def description(self) -> str:  # type: ignore[override]
        return cron_words(self._cron.expression, zone_name(self._cron.zone))

    def validate(self) -> None:
        """DagInvalid when the expression is none. One that never matches is fine where Airflow is spoken: it says
        never there."""
        self._cron.check(may_never_match=self.dialect is not None)

    def _get_next(self, current: datetime) -> datetime:
        return like(self._cron.next(utc(current), as_airflow=self.dialect is not None), current)

    def _get_prev(self, current: datetime) -> datetime:
        return like(self._cron.previous(utc(current), as_airflow=self.dialect is not None), current)

    def _align_to_next(self, current: datetime) -> datetime:
        return like(self._cron.at_or_after(utc(current), as_airflow=self.dialect is not None), current)

    def _align_to_prev(self, current: datetime) -> datetime:
        return like(self._cron.at_or_before(utc(current), as_airflow=self.dialect is not None), current)

    def _cron_form(self) -> dict[str, Any]:
        return {"expression": self._text, "timezone": zone_name(self._cron.zone)}


class DeltaSteps(_Steps):
    """Any moment, and others at a distance from it."""

    def __init__(self, delta: Span) -> None:
        self._delta = spans.plain(delta)
        self._summary = str(delta)
        spans.check_positive(self._delta)

    @property
    def delta(self) -> Span:
        return self._delta

    @property
    def summary(self) -> str:
        return self._summary

    @property
    def description(self) -> str:  # type: ignore[override]
        return spans.words(self._delta)

    def _get_next(self, current: datetime) -> datetime:
        return like(utc(current) + self._delta, current)

    def _get_prev(self, current: datetime) -> datetime:
        return like(utc(current) - self._delta, current)

    def _align_to_next(self, current: datetime) -> datetime:
        return current

    def _align_to_prev(self, current: datetime) -> datetime:
        return current


class _Intervals(_Steps):
    def _skip_to_latest(self, earliest: datetime | None) -> datetime:
        """Start of the newest interval that is over by now; not before `earliest`. A subclass may have its own."""
        return self._latest_start(TimeRestriction(earliest, None, False).present(), earliest)

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        raise NotImplementedError

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last, earliest = last_automated_data_interval, restriction.earliest
        if earliest is not None:
            earliest = like(utc(earliest), earliest)
        if not restriction.catchup:
            if type(self)._skip_to_latest is _Intervals._skip_to_latest:
                earliest = self._latest_start(restriction.present(), earliest)
            else:
                earliest = self._skip_to_latest(earliest)
        elif earliest is not None:
            earliest = self._align_to_next(earliest)
        if last is None:
            if earliest is None:
                return None
            start = earliest
        else:
            # The schedule may have changed since the last run: its end need not be a boundary any more.
            start = self._align_to_prev(like(utc(last.end), last.end))
            if earliest is not None:
                start = max(start, earliest)
            if self.dialect == 3 and start <= last.start:
                start = self._get_next(start)
                if start <= last.start:
                    raise ValueError(f"{self.summary} does not get past the last run, {last.start.isoformat()}")
        if not no_later(start, restriction.latest):
            return None
        return DagRunInfo.interval(start, self._get_next(start))


class CronDataIntervalTimetable(CronSteps, _Intervals):
    """From one match of the cron expression to the next; the run starts at the end."""

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        last = self._get_prev(now)
        start = last if self._get_next(last) == now else self._get_prev(last)
        return start if earliest is None else max(start, self._align_to_next(earliest))

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = self._align_to_prev(like(utc(run_after), run_after))
        return DataInterval(self._get_prev(end), end)

    def serialize(self) -> dict[str, Any]:
        return {"type": "cron", **self._cron_form()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(data["expression"], data["timezone"])


class DeltaDataIntervalTimetable(DeltaSteps, _Intervals):
    """Intervals of one length, counted from the start date."""

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        start = self._get_prev(self._floor(now, earliest))
        return start if earliest is None else max(start, earliest)

    def _floor(self, now: datetime, earliest: datetime | None) -> datetime:
        if self.dialect != 2 and spans.has_months(self._delta):
            # Months have no fixed length: counted from the start date, one by one, as they are with catchup.
            boundary = earliest if earliest is not None else now
            while (following := self._get_next(boundary)) <= now:
                boundary = following
            return boundary
        # Whole steps since the epoch, as in Airflow: asked twice within a step, the answer is the same.
        step = timedelta(seconds=spans.about_seconds(self._delta))
        return like(utc(now) - (utc(now) - _EPOCH) % step, now)

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = like(utc(run_after), run_after)
        return DataInterval(self._get_prev(end), end)

    def serialize(self) -> dict[str, Any]:
        return {"type": "delta", "seconds": spans.encode(self._delta)}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(spans.decode(data["seconds"]))
