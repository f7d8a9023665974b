"""Which partitions make up one larger partition, and how many of them must be there before a run is made of it.

Names and meanings are those of Airflow 3's `airflow.sdk`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar


class WaitPolicy:
    """When enough of a window's keys have arrived."""

    def is_satisfied(self, matched: int, expected: int) -> bool:
        raise NotImplementedError

    def form(self) -> dict[str, Any]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WaitPolicy) and self.form() == other.form()

    def __hash__(self) -> int:
        return hash(str(self.form()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class WaitForAll(WaitPolicy):
    """Every key of the window."""

    def is_satisfied(self, matched: int, expected: int) -> bool:
        return matched >= expected

    def form(self) -> dict[str, Any]:
        return {"type": "all"}


class MinimumCount(WaitPolicy):
    """At least `n` keys; with a negative `n` all but so many. ValueError for 0 and for what is no int."""

    def __init__(self, n: int) -> None:
        if not isinstance(n, int) or isinstance(n, bool) or n == 0:
            raise ValueError(f"MinimumCount needs a number of keys other than 0, not {n!r}")
        self.n = n

    def is_satisfied(self, matched: int, expected: int) -> bool:
        return matched >= (self.n if self.n > 0 else max(0, expected + self.n))

    def form(self) -> dict[str, Any]:
        return {"type": "count", "n": self.n}

    def __repr__(self) -> str:
        return f"MinimumCount({self.n})"


class Window:
    """Enumerates the parts of a period: forward from its start, or backward so that it ends there."""

    class Direction(StrEnum):
        BACKWARD = "backward"
        FORWARD = "forward"

    expected_decoded_type: ClassVar[type] = str
    """What the paired mapper must decode its keys to."""

    def __init__(self, *, direction: Direction = Direction.FORWARD) -> None:
        self.direction = self.Direction(direction)

    def to_upstream(self, decoded_downstream: Any) -> Iterable[Any]:
        """The decoded parts of this decoded period."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its parts are: it needs to_upstream()")

    def form(self) -> dict[str, Any]:
        return {"type": type(self).__name__, "direction": self.direction.value}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(direction={self.direction.value!r})"

    def _steps(self, start: datetime, count: int, step: Callable[[datetime, int], datetime]) -> list[datetime]:
        first = step(start, 1 - count) if self.direction is Window.Direction.BACKWARD else start
        return [step(first, number) for number in range(count)]


class _TemporalWindow(Window):
    expected_decoded_type = datetime

    def _first_of_month(self, start: datetime) -> None:
        if start.day != 1:
            raise ValueError(
                f"{type(self).__name__} begins on the first day of a month, not at {start.isoformat()}: "
                "its mapper must give such a day"
            )


class HourWindow(_TemporalWindow):
    """60 minutes."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        return self._steps(decoded_downstream, 60, lambda at, number: at + timedelta(minutes=number))


class DayWindow(_TemporalWindow):
    """24 hours, whatever the clocks of a zone do."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        return self._steps(decoded_downstream, 24, lambda at, number: at + timedelta(hours=number))


class WeekWindow(_TemporalWindow):
    """7 days."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        return self._steps(decoded_downstream, 7, lambda at, number: at + timedelta(days=number))


class MonthWindow(_TemporalWindow):
    """The days of a month; backward those after the first of the month before, up to the given day."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        self._first_of_month(decoded_downstream)
        if self.direction is Window.Direction.BACKWARD:
            before = _months_later(decoded_downstream, -1)
            return [before + timedelta(days=day + 1) for day in range((decoded_downstream - before).days)]
        after = _months_later(decoded_downstream, 1)
        return [decoded_downstream + timedelta(days=day) for day in range((after - decoded_downstream).days)]


class QuarterWindow(_TemporalWindow):
    """3 months."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        self._first_of_month(decoded_downstream)
        return self._steps(decoded_downstream, 3, _months_later)


class YearWindow(_TemporalWindow):
    """12 months."""

    def to_upstream(self, decoded_downstream: datetime) -> list[datetime]:
        self._first_of_month(decoded_downstream)
        return self._steps(decoded_downstream, 12, _months_later)


class SegmentWindow(Window):
    """A fixed set of keys. ValueError when there is none, or one that is no text."""

    def __init__(self, segments: Iterable[str]) -> None:
        super().__init__()
        keys = list(segments)
        for place, key in enumerate(keys):
            if not isinstance(key, str) or not key:
                raise ValueError(f"SegmentWindow: the key at place {place} is {key!r}, a text is needed")
        if not keys:
            raise ValueError("SegmentWindow has no key")
        self.segments: frozenset[str] = frozenset(keys)

    def to_upstream(self, decoded_downstream: Any) -> frozenset[str]:
        return self.segments

    def form(self) -> dict[str, Any]:
        return {"type": "SegmentWindow", "segments": sorted(self.segments)}

    def __repr__(self) -> str:
        return f"SegmentWindow({sorted(self.segments)})"


def _months_later(at: datetime, months: int) -> datetime:
    total = at.month - 1 + months
    return at.replace(year=at.year + total // 12, month=total % 12 + 1)


_TEMPORAL: dict[str, type[Window]] = {
    cls.__name__: cls for cls in (HourWindow, DayWindow, WeekWindow, MonthWindow, QuarterWindow, YearWindow)
}
BUILT_IN: Collection[type] = (*_TEMPORAL.values(), SegmentWindow)


def window_from(form: dict[str, Any]) -> Window:
    """The window of `form()`."""
    if form["type"] == "SegmentWindow":
        return SegmentWindow(form["segments"])
    return _TEMPORAL[form["type"]](direction=Window.Direction(form["direction"]))


def policy_from(form: dict[str, Any]) -> WaitPolicy:
    return WaitForAll() if form["type"] == "all" else MinimumCount(form["n"])
