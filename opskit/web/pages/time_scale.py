"""Axes of time for drawings: places of moments, and lines at round times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opskit.web import formats

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)


@dataclass(frozen=True, slots=True)
class TimeScale:
    """From `start` to `end`, drawn from `left` over `width`."""

    start: datetime
    end: datetime
    left: float
    width: float

    def x(self, at: datetime) -> float:
        whole = (self.end - self.start).total_seconds() or 1.0
        share = (at - self.start).total_seconds() / whole
        return round(self.left + self.width * min(1.0, max(0.0, share)), 1)

    def ticks(self, most: int = 9) -> list[tuple[float, str]]:
        """`(x, text)`: round times, counted from the start of the day."""
        whole = (self.end - self.start).total_seconds() or 1.0
        step = next((step for step in _STEPS if whole / step <= most), int(whole / most) + 1)
        day = self.start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        first = int((self.start - day).total_seconds() // step) + 1
        form = "%m-%d %H:%M" if step >= 43200 or whole > 86400 else "%H:%M:%S" if step < 60 else "%H:%M"
        found = []
        for number in range(first, first + most + 2):
            at = day + timedelta(seconds=number * step)
            if at > self.end:
                break
            found.append((self.x(at), at.strftime(form)))
        return found


def seconds_ticks(longest: float, height: float, bottom: float, most: int = 4) -> list[tuple[float, str]]:
    """`(y, text)` for an axis of durations from 0 at `bottom` up to `longest` seconds."""
    if longest <= 0:
        return []
    small = (0.1, 0.2, 0.5)
    step = next((step for step in (*small, *_STEPS) if longest / step <= most), longest / most)
    return [
        (round(bottom - height * number * step / longest, 1), formats.duration(number * step) if number else "0")
        for number in range(int(longest / step) + 1)
    ]
