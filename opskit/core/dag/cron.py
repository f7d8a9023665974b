"""The boundaries of a cron expression in a time zone, and words for it. The cron library is loaded on first use."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from opskit.core.dag import plain_cron
from opskit.core.dag.zones import localize
from opskit.errors import DagInvalid

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_PRESET_WORDS = {
    "0 * * * *": "every hour",
    "0 0 * * *": "every day at 00:00",
    "0 0 * * 0": "every Sunday at 00:00",
    "0 0 1 * *": "on day 1 of every month at 00:00",
    "0 0 1 */3 *": "every quarter at 00:00",
    "0 0 1 1 *": "every year on 1 January at 00:00",
}


class NeverMatches(DagInvalid):
    """The expression names a date that does not come: `0 0 31 2 *`."""


class Cron:
    """The boundaries of a cron expression in a zone, as Airflow computes them over changes of summer time."""

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self.expression = PRESETS.get(expression.strip(), expression.strip())
        self.zone = zone
        self._plain = plain_cron.read(self.expression)

    def check(self, *, may_never_match: bool = False) -> None:
        """DagInvalid when the expression is none."""
        if self._plain is not None:
            return
        from croniter import CroniterBadCronError, CroniterBadDateError, croniter

        try:
            cron = croniter(self.expression, datetime(2024, 1, 1))  # noqa: DTZ001
            if not may_never_match:
                cron.get_next(datetime)
        except CroniterBadDateError as error:
            raise NeverMatches(f"the cron expression {self.expression!r} never matches") from error
        except (CroniterBadCronError, ValueError, KeyError, AttributeError) as error:
            raise DagInvalid(
                f"{self.expression!r} is no cron expression: {error}", hint="minute hour day month weekday"
            ) from error

    def next(self, moment: datetime, *, as_airflow: bool = False) -> datetime:
        """The first match after `moment` (both plain, in UTC).

        Around a change of the clock Airflow can give the moment itself for the match before it, or a later one, and so
        loses a run now and then. `as_airflow` does the same: a DAG that moves here keeps its intervals."""
        return self._step(moment, True, as_airflow)

    def previous(self, moment: datetime, *, as_airflow: bool = False) -> datetime:
        """The last match before `moment`."""
        return self._step(moment, False, as_airflow)

    def at_or_after(self, moment: datetime, *, as_airflow: bool = False) -> datetime:
        following = self._step(moment, True, as_airflow)
        return moment if self._step(following, False, as_airflow) == moment else following

    def at_or_before(self, moment: datetime, *, as_airflow: bool = False) -> datetime:
        before = self._step(moment, False, as_airflow)
        return moment if self._step(before, True, as_airflow) == moment else before

    def _step(self, moment: datetime, forward: bool, as_airflow: bool) -> datetime:
        if self.zone is UTC:
            return self._wall_step(moment.replace(tzinfo=None), forward).replace(tzinfo=UTC)
        wall = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        found = self._wall_step(wall, forward)
        if self._every_hour():
            # Runs every hour: real hours count, so that none is lost or doubled when the clock changes.
            delta = found - wall
            if as_airflow or delta.days in (0, -1):
                return moment + delta
            shifted = localize(wall + timedelta(days=delta.days), self.zone)
            return shifted.astimezone(UTC) + timedelta(seconds=delta.seconds)
        while True:
            at = localize(found, self.zone).astimezone(UTC)
            # Wall times in the gap of a change to summer time fall together with later ones: go on until time moves.
            if as_airflow or ((at > moment) if forward else (at < moment)):
                return at
            found = self._wall_step(found, forward)

    def _wall_step(self, wall: datetime, forward: bool) -> datetime:
        """The next (or last) match of the expression in wall time."""
        if self._plain is not None:
            return self._plain.next(wall) if forward else self._plain.previous(wall)
        from croniter import CroniterBadDateError

        cron = copy.copy(_library(self.expression))  # it remembers where it is
        try:
            found: datetime = (cron.get_next if forward else cron.get_prev)(datetime, start_time=wall)
        except CroniterBadDateError as error:
            raise NeverMatches(f"the cron expression {self.expression!r} never matches") from error
        return found

    def _every_hour(self) -> bool:
        if self._plain is not None:
            return self._plain.every_hour
        return bool(_library(self.expression).expanded[1] == ["*"])


@lru_cache(maxsize=512)
def _library(expression: str) -> Any:
    """Reading an expression takes the library much longer than a step."""
    from croniter import croniter

    return croniter(expression, datetime(2024, 1, 1))  # noqa: DTZ001


_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY_NAMES = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}


def cron_words(expression: str, zone: str) -> str:
    words = _PRESET_WORDS.get(expression) or _common_words(expression.split())
    if words is None:
        return f"cron {expression} ({zone})"
    return words if words.startswith("every") and " at " not in words else f"{words} {zone}"


def _common_words(fields: list[str]) -> str | None:
    """Words for the shapes that make up nearly all schedules; None for others."""
    if len(fields) != 5:
        return None
    minute, hour, day, month, weekday = fields
    if month != "*":
        return None
    if hour == day == weekday == "*":
        if minute == "*":
            return "every minute"
        if minute.startswith("*/") and minute[2:].isdigit():
            return f"every {minute[2:]} minutes"
        if minute.isdigit():
            return f"every hour, {minute} minutes past"
    if not minute.isdigit():
        return None
    if hour.startswith("*/") and hour[2:].isdigit() and day == weekday == "*":
        return f"every {hour[2:]} hours, {minute} minutes past"
    if not hour.isdigit():
        return None
    clock = f"{int(hour):02d}:{int(minute):02d}"
    if day == "*" and weekday == "*":
        return f"every day at {clock}"
    if day == "*":
        if weekday.lower() in ("1-5", "mon-fri"):
            return f"Monday to Friday at {clock}"
        number = _DAY_NAMES.get(weekday.lower(), int(weekday) if weekday.isdigit() else -1)
        return f"every {_DAYS[number]} at {clock}" if 0 <= number < len(_DAYS) else None
    if weekday == "*" and day.isdigit():
        return f"on day {day} of every month at {clock}"
    return None


def duration_words(delta: timedelta) -> str:
    parts: list[str] = []
    seconds = int(delta.total_seconds())
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}{'s' if count != 1 else ''}")
    return " ".join(parts) or str(delta)
