"""Ten thousand random schedules, each with what a scheduler asks of it; the same ones on every machine.

Needs the standard library only: it is used under real Airflow, too. Times are whole seconds since 1970 (UTC) but for
`now`, which has microseconds now and then.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

COUNT = 10_000
STEPS = 4
"""Runs that are asked for one after the other."""
_FIRST, _LAST = datetime(2018, 1, 1, tzinfo=UTC), datetime(2025, 6, 1, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Santiago",
    "America/St_Johns",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Antarctica/Troll",
    "+05:30",
    "-03:00",
]
"""Changes of an hour, half an hour and two hours, at midnight and otherwise, and none."""


@dataclass(frozen=True, slots=True)
class Case:
    number: int
    dialect: int
    kind: str
    """schedule (what an author gives), or the name of a class"""
    args: dict[str, Any]
    zone: str
    start: int | None
    end: int | None
    catchup: bool
    now: float
    last: tuple[int, int] | None
    manual: tuple[int, ...]
    """Moments at which somebody triggers a run."""

    def __str__(self) -> str:
        last = "none" if self.last is None else " to ".join(_text(moment) for moment in self.last)
        return (
            f"case {self.number}: Airflow {self.dialect}, {self.kind} {self.args}, {self.zone}, "
            f"start {_text(self.start)}, "
            f"end {_text(self.end)}, catchup {self.catchup}, now {_text(self.now)}, last run {last}"
        )


Run = tuple[float, float, float]
"""run_after, start and end of its interval"""


def compact(case: Case, runs: list[Run | str | None], manual: list[tuple[float, float] | str]) -> list[Any]:
    """The answer to a case in small numbers: of each run the seconds from the run before (the first: from `now`), the
    length of its interval, and how long after its end it is due; of manual runs the start and end from the moment."""
    found: list[Any] = []
    before = float(int(case.now))
    for run in runs:
        if run is None or isinstance(run, str):
            found.append(run)
        else:
            found.append([_short(run[1] - before), _short(run[2] - run[1]), _short(run[0] - run[2])])
            before = run[2]
    for at, interval in zip(case.manual, manual, strict=True):
        found.append(interval if isinstance(interval, str) else [_short(edge - at) for edge in interval])
    return found


def _short(seconds: float) -> float:
    seconds = round(seconds, 6)
    return int(seconds) if seconds.is_integer() else seconds


def full(case: Case, answer: list[Any]) -> str:
    """An answer in words."""
    before = float(int(case.now))
    lines = []
    for each in answer[: len(answer) - len(case.manual)]:
        if isinstance(each, list):
            start = before + each[0]
            before = start + each[1]
            lines.append(f"{_text(start)} to {_text(before)}, due at {_text(before + each[2])}")
        else:
            lines.append(str(each))
    for at, each in zip(case.manual, answer[-len(case.manual) :], strict=True):
        edges = " to ".join(_text(at + edge) for edge in each) if isinstance(each, list) else str(each)
        lines.append(f"triggered at {_text(at)}: {edges}")
    return "\n    ".join(lines)


def _text(moment: float | None) -> str:
    return "none" if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def all_cases() -> list[Case]:
    return [_case(number) for number in range(COUNT)]


def _case(number: int) -> Case:
    r = random.Random(f"opskit timetables {number}")
    dialect = r.choice((2, 3))
    zone = r.choice(ZONES)
    kind, args = _schedule(r, dialect)
    start = _moment(r, zone)
    if r.random() < 0.3:
        start -= start % 86400
    now = start + r.choice((0, 60, 3600, 86400, 7 * 86400, 45 * 86400)) * r.uniform(-0.3, 1.5)
    now = float(round(now)) if r.random() < 0.7 else round(now, 6)
    if r.random() < 0.3:
        now = float(_moment(r, zone))
    if r.random() < 0.25:
        now -= now % 3600
    end = None if r.random() < 0.8 else start + round(86400 * r.uniform(-1, 20))
    last = None
    if r.random() < 0.25:
        last_end = _moment(r, zone) if r.random() < 0.4 else round(now) - r.randrange(0, 3 * 86400)
        last_end -= last_end % r.choice((1, 60, 3600))
        last = (last_end - r.choice((0, 60, 3600, 86400, 7 * 86400)), last_end)
    if kind == "schedule" and args.get("schedule") == "@continuous":
        # Before its start date Airflow gives intervals that end before they begin.
        now = max(now, start + 60.0, last[1] + 60.0 if last else 0.0)
    given_start = None if r.random() < 0.08 else start
    manual = (round(now), _moment(r, zone))
    return Case(number, dialect, kind, args, zone, given_start, end, r.random() < 0.5, now, last, manual)


def _moment(r: random.Random, zone: str) -> int:
    """Often close to a change of the clock in the zone, where there is any."""
    changes = _changes(zone)
    if changes and r.random() < 0.6:
        at = r.choice(changes) + r.choice((60, 1800, 3600, 86400, 3 * 86400)) * r.uniform(-1.5, 1.5)
    else:
        at = r.uniform(_FIRST.timestamp(), _LAST.timestamp())
    return int(at - at % r.choice((1, 60, 900, 1800, 3600)))


@cache
def _changes(zone: str) -> tuple[int, ...]:
    """When the offset from UTC changes."""
    if zone[0] in "+-":
        return ()
    place = ZoneInfo(zone)
    found = []
    day, step = _FIRST, timedelta(days=3)
    while day < _LAST:
        before = day.astimezone(place).utcoffset()
        if (day + step).astimezone(place).utcoffset() != before:
            seconds = range(int(day.timestamp()), int((day + step).timestamp()), 900)
            position = bisect_left(
                seconds, True, key=lambda at: datetime.fromtimestamp(at, place).utcoffset() != before
            )
            found.append(seconds[position])
        day += step
    return tuple(found)


def _schedule(r: random.Random, dialect: int) -> tuple[str, dict[str, Any]]:
    which = r.random()
    if which < 0.3:
        return "schedule", {"schedule": _cron(r)}
    if which < 0.36:
        presets = ["@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@once", "@continuous"]
        return "schedule", {"schedule": r.choice(presets)}
    if which < 0.44:
        return "schedule", {"delta": _delta(r)}
    if which < 0.62:
        return "CronDataIntervalTimetable", {"cron": _cron(r)}
    if which < 0.70:
        return "DeltaDataIntervalTimetable", {"delta": _delta(r)}
    args: dict[str, Any] = {"interval": _delta(r) if r.random() < 0.5 else {}}
    if which < 0.88:
        args["cron"] = _cron(r)
        if dialect == 3 and r.random() < 0.3:
            args["run_immediately"] = r.choice((True, False, 3600, 86400))
        return "CronTriggerTimetable", args
    if which < 0.93:
        return "DeltaTriggerTimetable", {**args, "delta": _delta(r)}
    if which < 0.96 and dialect == 3:
        args["crons"] = [_cron(r) for _ in range(r.randint(1, 3))]
        if r.random() < 0.3:
            args["run_immediately"] = r.choice((True, False, 7200))
        return "MultipleCronTriggerTimetable", args
    middle = r.uniform(_FIRST.timestamp(), _LAST.timestamp())
    events = [round(middle + r.uniform(-40, 40) * 86400) for _ in range(r.randint(0, 12))]
    return "EventsTimetable", {"events": events + events[:1], "restrict_to_events": r.random() < 0.5}


_MINUTES = ["0", "0", "0", "30", "15", "5,35", "*/15", "*/10", "*/7", "10-20", "1-50/9", "59", "*", "0,30"]
_HOURS = [
    "0",
    "0",
    "2",
    "2",
    "3",
    "1",
    "23",
    "*",
    "*",
    "*",
    "*/2",
    "*/3",
    "1-4",
    "2,3",
    "0-23",
    "6-18/4",
    "2,14",
    "1,2,3",
]
_DAYS = ["*", "*", "*", "*", "*", "*", "*", "1", "15", "2,15", "28", "31", "*/9", "3-9", "*/2"]
_MONTHS = ["*", "*", "*", "*", "*", "*", "*", "1", "3,10", "*/3", "2-5", "jan,jul"]
_WEEKDAYS = [
    "*",
    "*",
    "*",
    "*",
    "*",
    "*",
    "0",
    "7",
    "1-5",
    "mon-fri",
    "0,6",
    "sun",
    "5",
    "*/2",
    "5-7",
    "0-6",
    "sat,sun",
]
_SPECIAL = (
    "0 0 L * *",
    "30 2 * * fri#2",
    "0 6 * * L5",
    "0 12 * * 1#1,3#3",
    "0 0 29 2 *",
    "0 0 30 * *",
    "@midnight",
    "@annually",
    "30 4 1,15 * 5",
    "0 0 * * 0 30",
    "*/5 * * * * */20",
    "0 2 * * * 15",
    "0 3 1-7 * mon",
)


def _cron(r: random.Random) -> str:
    if r.random() < 0.025:
        return r.choice(_SPECIAL)
    fields = [_MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS]
    if r.random() < 0.5:
        fields[2:] = [["*"]] * 3
    return " ".join(r.choice(field) for field in fields)


def _delta(r: random.Random) -> dict[str, Any]:
    """Arguments of a timedelta, or of a relativedelta (`relative`)."""
    if r.random() < 0.3:
        lengths = (
            {"months": 1},
            {"months": 3},
            {"years": 1},
            {"weeks": 2},
            {"days": 1, "hours": 6},
            {"months": 1, "days": 1},
            {"hours": 12},
        )
        return {"relative": True, **r.choice(lengths)}
    return r.choice(
        (
            {"days": 1},
            {"hours": 1},
            {"minutes": r.choice((1, 5, 7, 15, 30, 90))},
            {"days": 7},
            {"hours": r.choice((2, 5, 6, 12, 36))},
            {"seconds": r.choice((10, 3601, 86399))},
        )
    )
