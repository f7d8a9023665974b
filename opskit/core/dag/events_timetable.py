"""A schedule that is a list of moments."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable, like, no_later
from opskit.core.dag.zones import utc


class EventsTimetable(Timetable):
    """A run at each of `event_dates`; a date that is there twice counts once.

    With `restrict_to_events` a manual run is for the last of them (or the first, before that), else for the moment it
    is triggered. `presorted` is believed."""

    def __init__(
        self,
        event_dates: Iterable[datetime],
        restrict_to_events: bool = False,
        presorted: bool = False,
        description: str | None = None,
    ) -> None:
        self.event_dates = [utc(moment) for moment in event_dates]
        if not presorted:
            self.event_dates.sort()
        self.restrict_to_events = restrict_to_events
        self._given = description
        self._summary = description if description is not None else f"{len(self.event_dates)} events"
        if description is not None:
            self.description = description
        elif self.event_dates:
            first, last = self.event_dates[0].isoformat(), self.event_dates[-1].isoformat()
            self.description = f"{len(self.event_dates)} events between {first} and {last}"
        else:
            self.description = "no events"

    @property
    def summary(self) -> str:
        return self._summary

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        at = utc(run_after)
        if self.restrict_to_events and self.event_dates:
            at = self.event_dates[max(0, bisect_right(self.event_dates, at) - 1)]
        return DataInterval.exact(like(at, run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        earliest = None if restriction.earliest is None else utc(restriction.earliest)
        now = restriction.present()
        if not restriction.catchup:
            earliest = utc(now) if earliest is None else max(earliest, utc(now))
        position = 0 if earliest is None else bisect_left(self.event_dates, earliest)
        if last_automated_data_interval is not None:
            position = max(position, bisect_right(self.event_dates, utc(last_automated_data_interval.end)))
        if position >= len(self.event_dates) or not no_later(self.event_dates[position], restriction.latest):
            return None
        return DagRunInfo.exact(like(self.event_dates[position], now))

    def serialize(self) -> dict[str, Any]:
        form: dict[str, Any] = {"type": "events", "event_dates": [moment.isoformat() for moment in self.event_dates]}
        if self.restrict_to_events:
            form["restrict_to_events"] = True
        if self._given is not None:
            form["description"] = self._given
        return form

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(
            [datetime.fromisoformat(text) for text in data["event_dates"]],
            data.get("restrict_to_events", False),
            presorted=True,
            description=data.get("description"),
        )
