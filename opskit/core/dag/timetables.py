"""Timetables: when a DAG runs and for which data interval. Airflow's protocol and results; nothing heavy is imported
before a cron expression has to be computed.

Datetimes that come out are plain, aware and in UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from opskit.core.dag.cron import Cron, cron_words, duration_words
from opskit.core.dag.zones import load_zone, utc, zone_name
from opskit.errors import DagInvalid


class DataInterval(NamedTuple):
    """The period that a run works on: `start` included, `end` not."""

    start: datetime
    end: datetime

    @classmethod
    def exact(cls, at: datetime) -> DataInterval:
        """An interval without length."""
        return cls(at, at)


class TimeRestriction(NamedTuple):
    """What a DAG asks of its timetable. `now` is the present; None (as code for Airflow has it): the clock's."""

    earliest: datetime | None
    latest: datetime | None
    catchup: bool
    now: datetime | None = None

    def present(self) -> datetime:
        return utc(self.now) if self.now is not None else datetime.now(UTC)


class DagRunInfo(NamedTuple):
    """One run: not before `run_after`, for `data_interval`."""

    run_after: datetime
    data_interval: DataInterval

    @classmethod
    def exact(cls, at: datetime) -> DagRunInfo:
        return cls(at, DataInterval.exact(at))

    @classmethod
    def interval(cls, start: datetime, end: datetime) -> DagRunInfo:
        return cls(end, DataInterval(start, end))

    @property
    def logical_date(self) -> datetime:
        return self.data_interval.start


class Timetable:
    """The protocol. A subclass answers the two questions below."""

    description: str = ""
    periodic: bool = True
    can_be_scheduled: bool = True
    active_runs_limit: int | None = None

    @property
    def summary(self) -> str:
        """A short text for lists: the cron expression, the preset …"""
        return type(self).__name__

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        """The interval of a run that somebody triggers at `run_after`."""
        raise NotImplementedError

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after the one with `last_automated_data_interval` (None: the first run). None: there is none."""
        raise NotImplementedError

    def serialize(self) -> dict[str, Any]:
        """Plain JSON that `deserialize` reads."""
        raise DagInvalid(
            f"the timetable {type(self).__name__} can't be used",
            hint="use a cron expression, a preset, a timedelta or None",
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timetable) or type(self) is not type(other):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.serialize().items())))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary}>"


class NullTimetable(Timetable):
    """schedule=None: only manual runs."""

    description = "never; only when triggered"
    periodic = False
    can_be_scheduled = False

    @property
    def summary(self) -> str:
        return "None"

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return DataInterval.exact(utc(run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        return None

    def serialize(self) -> dict[str, Any]:
        return {"type": "none"}


class OnceTimetable(Timetable):
    """schedule="@once": one run, at the start date."""

    description = "once, at the start date"
    periodic = False

    @property
    def summary(self) -> str:
        return "@once"

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return DataInterval.exact(utc(run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if last_automated_data_interval is not None or restriction.earliest is None:
            return None
        at = utc(restriction.earliest)
        if restriction.latest is not None and at > restriction.latest:
            return None
        return DagRunInfo.exact(at)

    def serialize(self) -> dict[str, Any]:
        return {"type": "once"}


class ContinuousTimetable(Timetable):
    """schedule="@continuous": a new run as soon as the last has ended."""

    description = "again as soon as the last run has ended"
    active_runs_limit = 1

    @property
    def summary(self) -> str:
        return "@continuous"

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return DataInterval.exact(utc(run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if restriction.earliest is None:
            return None
        now = restriction.present()
        if last_automated_data_interval is not None:
            start = utc(last_automated_data_interval.end)
            end = max(now, start)
        else:
            start = utc(restriction.earliest)
            end = max(now, start)
        if restriction.latest is not None and end > restriction.latest:
            return None
        return DagRunInfo.interval(start, end)

    def serialize(self) -> dict[str, Any]:
        return {"type": "continuous"}


class _IntervalTimetable(Timetable):
    """Intervals that follow one another; a run starts when its interval is over."""

    def _next(self, moment: datetime) -> datetime:
        """The first boundary after `moment`."""
        raise NotImplementedError

    def _previous(self, moment: datetime) -> datetime:
        """The last boundary before `moment`."""
        raise NotImplementedError

    def _at_or_after(self, moment: datetime) -> datetime:
        raise NotImplementedError

    def _at_or_before(self, moment: datetime) -> datetime:
        raise NotImplementedError

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        """Start of the newest interval that is over; not before `earliest`."""
        raise NotImplementedError

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        earliest = utc(restriction.earliest) if restriction.earliest is not None else None
        if not restriction.catchup:
            earliest = self._latest_start(restriction.present(), earliest)
        elif earliest is not None:
            earliest = self._at_or_after(earliest)
        if last_automated_data_interval is None:
            if earliest is None:
                return None
            start = earliest
        else:
            # The schedule may have changed since the last run: its end need not be a boundary any more.
            start = self._at_or_before(utc(last_automated_data_interval.end))
            if earliest is not None:
                start = max(start, earliest)
        if restriction.latest is not None and start > restriction.latest:
            return None
        return DagRunInfo.interval(start, self._next(start))


class CronDataIntervalTimetable(_IntervalTimetable):
    """From one match of the cron expression to the next; the run starts at the end."""

    def __init__(self, cron: str, timezone: str | tzinfo = "UTC") -> None:
        zone = load_zone(timezone) if isinstance(timezone, str) else timezone
        self._cron = Cron(cron, load_zone("UTC") if zone_name(zone) == "UTC" else zone)
        self._text = cron.strip()

    @property
    def expression(self) -> str:
        return self._cron.expression

    @property
    def summary(self) -> str:
        return self._text

    @property
    def description(self) -> str:  # type: ignore[override]
        return cron_words(self._cron.expression, zone_name(self._cron.zone))

    def check(self) -> None:
        """DagInvalid when the expression is none."""
        self._cron.check()

    def _next(self, moment: datetime) -> datetime:
        return self._cron.next(moment)

    def _previous(self, moment: datetime) -> datetime:
        return self._cron.previous(moment)

    def _at_or_after(self, moment: datetime) -> datetime:
        return self._cron.at_or_after(moment)

    def _at_or_before(self, moment: datetime) -> datetime:
        return self._cron.at_or_before(moment)

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        last = self._cron.previous(now)
        start = last if self._cron.next(last) == now else self._cron.previous(last)
        return start if earliest is None else max(start, self._cron.at_or_after(earliest))

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = self._cron.at_or_before(utc(run_after))
        return DataInterval(self._cron.previous(end), end)

    def serialize(self) -> dict[str, Any]:
        return {"type": "cron", "expression": self._text, "timezone": zone_name(self._cron.zone)}


class DeltaDataIntervalTimetable(_IntervalTimetable):
    """Intervals of one length, counted from the start date."""

    def __init__(self, delta: timedelta) -> None:
        if delta <= timedelta(0):
            raise DagInvalid(f"the schedule {delta} does not move forward", hint="use a timedelta above zero")
        self._delta = delta

    @property
    def delta(self) -> timedelta:
        return self._delta

    @property
    def summary(self) -> str:
        return str(self._delta)

    @property
    def description(self) -> str:  # type: ignore[override]
        return f"every {duration_words(self._delta)}"

    def _next(self, moment: datetime) -> datetime:
        return moment + self._delta

    def _previous(self, moment: datetime) -> datetime:
        return moment - self._delta

    def _at_or_after(self, moment: datetime) -> datetime:
        return moment

    def _at_or_before(self, moment: datetime) -> datetime:
        return moment

    def _latest_start(self, now: datetime, earliest: datetime | None) -> datetime:
        # Whole steps since the epoch, as in Airflow: asked twice within a step, the answer is the same.
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        start = now - (now - epoch) % self._delta - self._delta
        return start if earliest is None else max(start, earliest)

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = utc(run_after)
        return DataInterval(end - self._delta, end)

    def serialize(self) -> dict[str, Any]:
        return {"type": "delta", "seconds": self._delta.total_seconds()}


class CronTriggerTimetable(Timetable):
    """At each match of the cron expression, for the interval that ends then (default: one without length)."""

    def __init__(self, cron: str, *, timezone: str | tzinfo, interval: timedelta = timedelta()) -> None:
        zone = load_zone(timezone) if isinstance(timezone, str) else timezone
        self._cron = Cron(cron, load_zone("UTC") if zone_name(zone) == "UTC" else zone)
        self._text = cron.strip()
        self._interval = interval

    @property
    def summary(self) -> str:
        return self._text

    @property
    def description(self) -> str:  # type: ignore[override]
        return cron_words(self._cron.expression, zone_name(self._cron.zone))

    def check(self) -> None:
        """DagInvalid when the expression is none."""
        self._cron.check()

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        end = utc(run_after)
        return DataInterval(end - self._interval, end)

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last, earliest = last_automated_data_interval, restriction.earliest
        if restriction.catchup:
            if last is not None:
                at = self._cron.next(utc(last.end))
            elif earliest is not None:
                at = self._cron.at_or_after(utc(earliest))
            else:
                return None
        else:
            candidates = [self._cron.at_or_before(restriction.present())]
            if last is not None:
                candidates.append(self._cron.next(utc(last.end)))
            if earliest is not None:
                candidates.append(self._cron.at_or_after(utc(earliest)))
            at = max(candidates)
        if restriction.latest is not None and at > restriction.latest:
            return None
        return DagRunInfo.interval(at - self._interval, at)

    def serialize(self) -> dict[str, Any]:
        return {
            "type": "cron_trigger",
            "expression": self._text,
            "timezone": zone_name(self._cron.zone),
            "interval_seconds": self._interval.total_seconds(),
        }


def make_timetable(schedule: Any, zone: tzinfo) -> Timetable:
    """The timetable of an author's `schedule`: a cron expression, a preset, a timedelta, None, a timetable.

    The expression is not checked here (that would load the cron library in every process); `check` does it.
    DagInvalid for anything else."""
    if schedule is None:
        return NullTimetable()
    if isinstance(schedule, Timetable):
        return schedule
    if isinstance(schedule, timedelta):
        return DeltaDataIntervalTimetable(schedule)
    if isinstance(schedule, str):
        text = schedule.strip()
        if text == "@once":
            return OnceTimetable()
        if text == "@continuous":
            return ContinuousTimetable()
        if text in ("None", ""):
            raise DagInvalid(f"the schedule {schedule!r} is no cron expression", hint="write None without quotes")
        return CronDataIntervalTimetable(text, zone)
    raise DagInvalid(
        f"the schedule {schedule!r} can't be used", hint="use a cron expression, a preset, a timedelta or None"
    )


def check(timetable: Timetable) -> None:
    """DagInvalid when the cron expression of a timetable is none."""
    if isinstance(timetable, (CronDataIntervalTimetable, CronTriggerTimetable)):
        timetable.check()


def serialize(timetable: Timetable) -> dict[str, Any]:
    """Plain JSON; `deserialize` reads it back. DagInvalid for a timetable that has no such form."""
    return timetable.serialize()


def deserialize(data: dict[str, Any]) -> Timetable:
    """The timetable of `serialize`'s form. ValueError for an unknown type."""
    kind = data.get("type")
    if kind == "none":
        return NullTimetable()
    if kind == "once":
        return OnceTimetable()
    if kind == "continuous":
        return ContinuousTimetable()
    if kind == "delta":
        return DeltaDataIntervalTimetable(timedelta(seconds=data["seconds"]))
    if kind == "cron":
        return CronDataIntervalTimetable(data["expression"], data["timezone"])
    if kind == "cron_trigger":
        return CronTriggerTimetable(
            data["expression"], timezone=data["timezone"], interval=timedelta(seconds=data["interval_seconds"])
        )
    raise ValueError(f"timetable of unknown type {kind!r}")


def describe(timetable: Timetable) -> str:
    """Words for people: `every day at 06:30 Europe/Berlin`."""
    return timetable.description or timetable.summary
