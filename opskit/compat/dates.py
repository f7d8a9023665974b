"""What `airflow.utils.dates` offers: days relative to today."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag.cron import PRESETS

__all__ = ["cron_presets", "date_range", "datetime", "days_ago", "parse_execution_date", "round_time", "timedelta"]

cron_presets = dict(PRESETS)
"""Preset names to cron expressions."""


def days_ago(n: int, hour: int = 0, minute: int = 0, second: int = 0, microsecond: int = 0) -> Any:
    """Today minus `n` days, at midnight UTC unless a time is given; a pendulum datetime."""
    import pendulum

    today = pendulum.now("UTC").replace(hour=hour, minute=minute, second=second, microsecond=microsecond)
    return today - timedelta(days=n)


def parse_execution_date(execution_date_str: str) -> Any:
    """A pendulum datetime of an ISO text; UTC where the text has no zone."""
    import pendulum

    return pendulum.parse(execution_date_str)


def date_range(
    start_date: datetime, end_date: datetime | None = None, num: int | None = None, delta: Any = None
) -> list[datetime]:
    """Moments from start_date on: up to end_date (included), or `num` of them (before it, if negative), a cron
    expression or a timedelta apart; the first is start_date itself. ValueError when neither or both ends are given."""
    from opskit.core.dag.cron import Cron
    from opskit.core.dag.zones import aware, default_zone

    if not delta:
        return []
    if (end_date is None) == (num is None):
        raise ValueError("give either end_date or num")
    if end_date is not None and aware(start_date) > aware(end_date):
        raise ValueError("start_date must lie before end_date")
    if isinstance(delta, (int, float)):
        delta = timedelta(seconds=delta)
    moment = aware(start_date)
    found: list[datetime] = []
    if isinstance(delta, timedelta):
        step = delta if num is None or num > 0 else -delta
        while len(found) < abs(num) if num is not None else moment <= aware(end_date or moment):
            found.append(moment)
            moment = moment + step
        return sorted(found)
    cron = Cron(delta, moment.tzinfo or default_zone())
    while len(found) < abs(num) if num is not None else moment <= aware(end_date or moment):
        found.append(moment)
        moment = cron.next(moment) if num is None or num > 0 else cron.previous(moment)
    return sorted(found)


def round_time(dt: datetime, delta: Any, start_date: datetime | None = None) -> datetime:
    """The multiple of `delta` (a timedelta or a cron expression) after start_date (default: the epoch) that is next
    to `dt`."""
    from opskit.core.dag.cron import Cron
    from opskit.core.dag.zones import default_zone

    if isinstance(delta, str):
        cron = Cron(delta, dt.tzinfo or default_zone())
        before, after = cron.previous(dt), cron.next(dt)
        return before if dt - before < after - dt else after
    origin = start_date or datetime(1970, 1, 1, tzinfo=dt.tzinfo)
    steps = (dt - origin) / delta
    rounded: datetime = origin + round(steps) * delta
    return rounded
