"""Cron expressions of the plain kind (numbers, names, *, lists, ranges, steps), computed without the cron library.

Nearly all schedules are plain, and loading the library takes longer than loading a DAG file. A test proves that both
give the same times.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, time, timedelta
from functools import lru_cache

_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES: tuple[dict[str, int], ...] = (
    {},
    {},
    {},
    {name: number for number, name in enumerate(_MONTHS, 1)},
    {name: number for number, name in enumerate(_WEEKDAYS)},
)
_LONG_MONTHS = frozenset({1, 3, 5, 7, 8, 10, 12})


class PlainCron:
    """The wall times that a plain expression matches."""

    def __init__(self, fields: list[frozenset[int] | None]) -> None:
        minutes, hours, self._days, self._months, self._weekdays = fields
        self._times = [
            time(hour, minute) for hour in sorted(hours or range(24)) for minute in sorted(minutes or range(60))
        ]
        self.every_hour = hours is None or len(hours) == 24

    def next(self, wall: datetime) -> datetime:
        """The first match after `wall` (naive)."""
        at = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)
        day = at.date()
        if self._matches(day):
            position = bisect_left(self._times, at.time())
            if position < len(self._times):
                return datetime.combine(day, self._times[position])
        while True:
            day += timedelta(days=1)
            while self._months is not None and day.month not in self._months:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            if self._matches(day):
                return datetime.combine(day, self._times[0])

    def previous(self, wall: datetime) -> datetime:
        """The last match before `wall` (naive)."""
        day = wall.date()
        if self._matches(day):
            position = bisect_left(self._times, wall.time())
            if position:
                return datetime.combine(day, self._times[position - 1])
        while True:
            day -= timedelta(days=1)
            while self._months is not None and day.month not in self._months:
                day = day.replace(day=1) - timedelta(days=1)
            if self._matches(day):
                return datetime.combine(day, self._times[-1])

    def _matches(self, day: date) -> bool:
        if self._months is not None and day.month not in self._months:
            return False
        if self._weekdays is None:
            return self._days is None or day.day in self._days
        on_weekday = day.isoweekday() % 7 in self._weekdays
        if self._days is None:
            return on_weekday
        return on_weekday or day.day in self._days  # both given: either is enough, as cron has it


@lru_cache(maxsize=512)
def read(expression: str) -> PlainCron | None:
    """None when the expression is not plain: it may still be one that the library reads."""
    texts = expression.split()
    if len(texts) != 5:
        return None
    fields: list[frozenset[int] | None] = []
    for text, (low, high), names in zip(texts, _LIMITS, _NAMES, strict=True):
        if text == "*":
            fields.append(None)
            continue
        values: set[int] = set()
        for part in text.split(","):
            found = _part(part.lower(), low, high, names)
            if not found:
                return None
            values.update(found)
        fields.append(frozenset(value % 7 for value in values) if high == 7 else frozenset(values))
    days, months, weekdays = fields[2:]
    if days is not None and "*" in texts[2] and weekdays is not None:
        return None  # the library has a rule of its own for steps over all days
    if days is not None and min(days) > 28 and weekdays is None and months is not None and not months & _LONG_MONTHS:
        return None  # a day that may never come: the library knows
    return PlainCron(fields)


def _part(part: str, low: int, high: int, names: dict[str, int]) -> range | None:
    values, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and 1 <= int(step) <= high):
        return None
    by = int(step) if slash else 1
    if values == "*":
        return range(low, high + 1, by) if high != 7 else range(low, high, by)
    first, dash, last = (str(names.get(text, text)) for text in values.partition("-"))
    if not first.isdecimal() or not low <= int(first) <= high or (slash and not dash):
        return None
    if not dash:
        return range(int(first), int(first) + 1)
    if not last.isdecimal() or not int(first) < int(last) <= high:
        return None
    return range(int(first), int(last) + 1, by)
