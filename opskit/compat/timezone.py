"""What `airflow.utils.timezone` offers. Moments are pendulum datetimes where Airflow's are."""

from __future__ import annotations

import datetime as dt
from typing import Any

from opskit.core.dag import zones

__all__ = [
    "coerce_datetime",
    "convert_to_utc",
    "datetime",
    "from_timestamp",
    "initialize",
    "is_localized",
    "is_naive",
    "local_timezone",
    "make_aware",
    "make_naive",
    "parse",
    "parse_timezone",
    "td_format",
    "utc",
    "utc_epoch",
    "utcnow",
]


utc: Any


def __getattr__(name: str) -> Any:
    if name == "utc":
        import pendulum

        return pendulum.UTC
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _utc() -> Any:
    import pendulum

    return pendulum.UTC


def is_localized(value: dt.datetime) -> bool:
    """Whether it is aware."""
    return value.utcoffset() is not None


def is_naive(value: dt.datetime) -> bool:
    return value.utcoffset() is None


def utcnow() -> dt.datetime:
    return dt.datetime.now(tz=_utc())


def utc_epoch() -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=_utc())


def convert_to_utc(value: dt.datetime | None) -> Any:
    """In UTC; a naive one is read in the default zone. None stays None."""
    if value is None:
        return None
    import pendulum

    return pendulum.instance(zones.aware(value).astimezone(_utc()))


def make_aware(value: dt.datetime | None, timezone: dt.tzinfo | None = None) -> dt.datetime | None:
    """A naive one, read in this zone (None: the default zone). ValueError for an aware one."""
    if not value:
        return None
    if is_localized(value):
        raise ValueError(f"{value} is aware already")
    zone = timezone or local_timezone()
    convert = getattr(zone, "convert", None)
    if convert is not None:  # of pendulum
        made: dt.datetime = convert(value.replace(fold=1))
        return made
    localize = getattr(zone, "localize", None)
    if localize is not None:  # of pytz
        return localize(value)  # type: ignore[no-any-return]
    return value.replace(tzinfo=zone, fold=1)


def make_naive(value: dt.datetime, timezone: dt.tzinfo | None = None) -> dt.datetime:
    """The wall time of an aware one in this zone (None: the default zone). ValueError for a naive one."""
    if is_naive(value):
        raise ValueError(f"{value} is naive already")
    wall = value.astimezone(timezone or local_timezone())
    return dt.datetime(  # noqa: DTZ001 - a naive one is asked for
        wall.year, wall.month, wall.day, wall.hour, wall.minute, wall.second, wall.microsecond
    )


def datetime(*args: Any, **kwargs: Any) -> dt.datetime:
    """datetime.datetime, in the default zone where no tzinfo is given."""
    kwargs.setdefault("tzinfo", local_timezone())
    return dt.datetime(*args, **kwargs)  # noqa: DTZ001 - tzinfo is among the arguments


def parse(string: str, timezone: Any = None, *, strict: bool = False) -> Any:
    """A pendulum datetime of a text; without a zone in it, of `timezone` (None: the default zone)."""
    import pendulum

    return pendulum.parse(string, tz=timezone or local_timezone(), strict=strict)


def coerce_datetime(v: dt.datetime | None, tz: dt.tzinfo | None = None) -> Any:
    """A pendulum datetime; a naive one is read in `tz` (None: UTC). None stays None."""
    if v is None:
        return None
    import pendulum

    if isinstance(v, pendulum.DateTime) and v.tzinfo:
        return v
    aware = v if v.tzinfo else make_aware(v, tz or _utc())
    assert aware is not None
    return pendulum.instance(aware)


def td_format(td_object: dt.timedelta | float | None) -> str | None:
    """`1d:2h:3M:4s`, `<1s`; None for nothing."""
    if not td_object:
        return None
    delta = td_object if isinstance(td_object, dt.timedelta) else dt.timedelta(seconds=td_object)
    seconds = int(delta.total_seconds())
    days, seconds = divmod(seconds, 86400)
    months, days = divmod(days, 30)
    years, months = divmod(months, 12)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    parts = zip((years, months, days, hours, minutes, seconds), ("y", "m", "d", "h", "M", "s"), strict=True)
    return ":".join(f"{number}{unit}" for number, unit in parts if number) or "<1s"


def parse_timezone(name: str | int) -> Any:
    """The pendulum zone of a name, or of an offset in seconds."""
    import pendulum

    return pendulum.timezone(name)


def local_timezone() -> Any:
    """The default zone (core.default_timezone), as a pendulum zone."""
    import pendulum

    zone = zones.default_zone()
    return pendulum.UTC if zone is dt.UTC else pendulum.timezone(zones.zone_name(zone))


def from_timestamp(timestamp: float, tz: Any = None) -> Any:
    """A pendulum datetime of seconds since the epoch; in UTC unless a zone (or "local") is given."""
    import pendulum

    zone = _utc() if tz is None else local_timezone() if tz == "local" else tz
    return pendulum.from_timestamp(timestamp, tz=zone)


def initialize(default_timezone: str) -> None:
    """Set the default zone of this process."""
    zones.set_default_zone("UTC" if default_timezone == "system" else default_timezone)
