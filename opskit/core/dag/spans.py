"""Lengths of time that a schedule may have: a timedelta, or dateutil's relativedelta (a month has no fixed length)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from opskit.core.dag.cron import duration_words
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from dateutil.relativedelta import relativedelta

    Span: TypeAlias = timedelta | relativedelta

_LENGTHS = ("years", "months", "days", "hours", "minutes", "seconds", "microseconds", "leapdays")
_FIXED = ("year", "month", "day", "hour", "minute", "second", "microsecond")
"""What a relativedelta sets, rather than adds to."""
_SECONDS = {"years": 365 * 86400, "months": 30 * 86400, "days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def is_span(value: Any) -> bool:
    """Without importing dateutil: who has a relativedelta has imported it."""
    return isinstance(value, timedelta) or (
        type(value).__name__ == "relativedelta" and type(value).__module__.startswith("dateutil")
    )


def plain(value: Any) -> Span:
    """The span itself; of a subclass of timedelta, such as pendulum's durations, its exact length.

    DagInvalid for anything else."""
    if type(value) is timedelta:
        return value
    if isinstance(value, timedelta):
        return timedelta(seconds=value.total_seconds())
    if is_span(value):
        span: Span = value
        return span
    raise DagInvalid(f"{value!r} is no length of time", hint="use datetime.timedelta or dateutil's relativedelta")


def check_positive(span: Span) -> None:
    """DagInvalid for a span that does not move forward."""
    now = datetime(2024, 1, 1)  # noqa: DTZ001
    if now + span <= now:
        raise DagInvalid(f"the schedule {span} does not move forward", hint="use a timedelta above zero")


def about_seconds(span: Span) -> float:
    """Its length in seconds; a month counts 30 days, a year 365."""
    if isinstance(span, timedelta):
        return span.total_seconds()
    return float(sum(getattr(span, name) * seconds for name, seconds in _SECONDS.items()))


def has_months(span: Span) -> bool:
    return not isinstance(span, timedelta) and bool(span.months or span.years)


def encode(span: Span) -> float | dict[str, Any]:
    """Seconds, or a relativedelta's own numbers as a dict; `decode` reads both."""
    if isinstance(span, timedelta):
        return span.total_seconds()
    data: dict[str, Any] = {name: getattr(span, name) for name in _LENGTHS if getattr(span, name)}
    data.update({name: getattr(span, name) for name in _FIXED if getattr(span, name) is not None})
    if span.weekday is not None:
        data["weekday"] = [span.weekday.weekday, span.weekday.n]
    return data


def decode(data: float | dict[str, Any]) -> Span:
    if not isinstance(data, dict):
        return timedelta(seconds=data)
    from dateutil import relativedelta

    values = dict(data)
    if "weekday" in values:
        number, nth = values["weekday"]
        values["weekday"] = relativedelta.weekday(number, nth)
    return relativedelta.relativedelta(**values)


def words(span: Span) -> str:
    if isinstance(span, timedelta):
        return f"every {duration_words(span)}"
    parts = [
        f"{getattr(span, name)} {name if getattr(span, name) != 1 else name[:-1]}"
        for name in _SECONDS
        if getattr(span, name)
    ]
    form = encode(span)
    simple = bool(parts) and isinstance(form, dict) and set(form) <= set(_SECONDS)
    return f"every {' '.join(parts)}" if simple else f"every {span!r}"
