"""A schedule in words: `every day at 02:30 UTC`. What has no short words stays the expression that it is."""

from __future__ import annotations

import re

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: tuple[str, ...] = ("January", "February", "March", "April", "May", "June", "July", "August", "September")
_MONTHS += ("October", "November", "December")
_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_OTHERS = {"@once": "once", "@continuous": "always, one run after another", "None": "only when triggered", "": ""}
_RANGE = re.compile(r"(\d+)-(\d+)(?:/(\d+))?")
_MOST_TIMES = 4
"""So many times of a day are named one by one."""


def schedule_words(expression: str, zone: str = "UTC", stored: str = "") -> str:
    """Words for a schedule as the list of DAGs has it. `stored` are the words that its timetable has for itself; they
    are taken where it is no cron expression, or one without words here."""
    text = _OTHERS.get(expression)
    if text is not None:
        return stored or text
    fields = _PRESETS.get(expression, expression).split()
    words = _cron(fields, zone) if len(fields) == 5 else None
    return (
        words
        or (stored if not stored.startswith("cron ") else "")
        or (f"{expression} ({zone})" if zone else expression)
    )


def _cron(fields: list[str], zone: str) -> str | None:
    minute, hour, day, month, weekday = fields
    days = _days(day, month, weekday)
    if days is None:
        return None
    times = _times(minute, hour)
    if times is None:
        return None
    at, has_clock = times
    if at.startswith("at "):
        return f"{days or 'every day'} {at} {zone}"
    return at + (f", {days}" if days else "") + (f" {zone}" if has_clock or days else "")


def _times(minute: str, hour: str) -> tuple[str, bool] | None:
    """(words, whether they name a time of the day)."""
    minutes, hours = _numbers(minute, 59), _numbers(hour, 23)
    every = _step(minute, 60)
    if every is not None:
        word = "every minute" if every == 1 else f"every {every} minutes"
        span = _RANGE.fullmatch(hour)
        if hour == "*":
            return word, False
        if span and not span[3]:
            return f"{word} from {int(span[1]):02d}:00 to {int(span[2]):02d}:59", True
        if hours and len(hours) == 1:
            return f"{word} from {hours[0]:02d}:00 to {hours[0]:02d}:59", True
        return None
    if not minutes:
        return None
    if hours and len(hours) * len(minutes) <= _MOST_TIMES:
        return "at " + _listed([f"{h:02d}:{m:02d}" for h in hours for m in minutes]), True
    if len(minutes) > _MOST_TIMES:
        return None
    past = "" if minutes == [0] else f" at {_listed([f':{m:02d}' for m in minutes])}"
    each = _step(hour, 24)
    if each is not None:
        return ("every hour" if each == 1 else f"every {each} hours") + past, each != 1
    span = _RANGE.fullmatch(hour)
    if span and len(minutes) == 1:
        step = int(span[3] or 1)
        word = "every hour" if step == 1 else f"every {step} hours"
        return f"{word} from {int(span[1]):02d}:{minutes[0]:02d} to {int(span[2]):02d}:{minutes[0]:02d}", True
    return None


def _days(day: str, month: str, weekday: str) -> str | None:
    """Words for the days; empty: every day."""
    if weekday not in ("*", "?"):
        # Cron means *or* where both are given: no words are short and true.
        return _weekdays(weekday) if day in ("*", "?") and month == "*" else None
    if day in ("*", "?"):
        months = _month_numbers(month)
        return "" if month == "*" else f"every day in {_listed(_month_names(months))}" if months else None
    if day.upper() == "L":
        named = "the last day"
    else:
        numbers = _numbers(day, 31)
        if not numbers or len(numbers) > _MOST_TIMES:
            return None
        named = f"day {numbers[0]}" if len(numbers) == 1 else f"days {_listed([str(n) for n in numbers])}"
    if month == "*":
        return f"on {named} of every month"
    if (every := _step(month, 12)) is not None:
        return f"on {named} of every {_ordinal(every)} month"
    months = _month_numbers(month)
    if not months:
        return None
    return f"on {named} of {_listed(_month_names(months))}"


def _weekdays(text: str) -> str | None:
    lowered = text.lower()
    for number, name in enumerate(_DAYS):
        lowered = lowered.replace(name[:3].lower(), str(number))
    span = re.fullmatch(r"([0-7])-([0-7])", lowered)
    if span:
        return f"{_DAYS[int(span[1]) % 7]} to {_DAYS[int(span[2]) % 7]}"
    numbers = _numbers(lowered, 7)
    if not numbers:
        return None
    if len(numbers) == 1:
        return f"every {_DAYS[numbers[0] % 7]}"
    return f"every {_listed([_DAYS[n % 7] for n in sorted(numbers, key=lambda n: (n - 1) % 7)])}"


def _month_numbers(text: str) -> list[int]:
    lowered = text.lower()
    for number, name in enumerate(_MONTHS, 1):
        lowered = lowered.replace(name[:3].lower(), str(number))
    return [number for number in _numbers(lowered, 12) if number]


def _month_names(numbers: list[int]) -> list[str]:
    return [_MONTHS[number - 1] for number in numbers]


def _numbers(text: str, highest: int) -> list[int]:
    """Of `5` or `1,3,5`; empty for anything else."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) <= highest for part in parts):
        return []
    return sorted({int(part) for part in parts})


def _step(text: str, whole: int) -> int | None:
    """Of `*` (1) and `*/5`, where the steps are even all day long."""
    if text == "*":
        return 1
    head, _, step = text.partition("/")
    if head not in ("*", "0") or not step.isdecimal() or int(step) < 1 or whole % int(step):
        return None
    return int(step)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third", 4: "fourth", 6: "sixth"}.get(number, f"{number}th")
