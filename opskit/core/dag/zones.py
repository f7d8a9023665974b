"""Time zones by name, and datetimes of DAG files made aware."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo

from opskit.errors import DagInvalid

_default: tzinfo = UTC
_loaded: dict[str, tzinfo] = {"UTC": UTC, "utc": UTC, "Etc/UTC": UTC}


def load_zone(name: str) -> tzinfo:
    """The zone of an IANA name or of a fixed offset such as `+02:00`. DagInvalid for an unknown one."""
    zone = _loaded.get(name)
    if zone is None:
        zone = _loaded[name] = _fixed(name) or _iana(name)
    return zone


def _iana(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DagInvalid(f"there is no time zone {name!r}", hint="use a name such as Europe/Berlin, or UTC") from error


def _fixed(name: str) -> tzinfo | None:
    sign = name[:1]
    hours, _, minutes = name[1:].partition(":")
    if sign not in ("+", "-") or not hours.isdigit() or not (minutes or "0").isdigit():
        return None
    offset = timedelta(hours=int(hours), minutes=int(minutes or "0"))
    if offset >= timedelta(hours=24):
        return None
    return timezone(-offset if sign == "-" else offset)


def zone_name(zone: tzinfo) -> str:
    """The name that `load_zone` reads back: of zoneinfo, pendulum, pytz and fixed-offset zones."""
    if zone is UTC:
        return "UTC"
    for attribute in ("key", "name", "zone"):
        name = getattr(zone, attribute, None)
        if isinstance(name, str) and name:
            return name
    offset = zone.utcoffset(None)
    if offset is None:
        raise DagInvalid(f"the time zone {zone!r} has no name", hint="use zoneinfo.ZoneInfo or pendulum.timezone")
    if not offset:
        return "UTC"
    minutes = int(offset.total_seconds() // 60)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def set_default_zone(name: str) -> None:
    """The zone of naive datetimes in DAG files of this process (core.default_timezone)."""
    global _default
    _default = load_zone(name)


def default_zone() -> tzinfo:
    return _default


def aware(moment: datetime, zone: tzinfo | None = None) -> datetime:
    """The datetime itself when it is aware, else read as wall time of `zone` (default: the default zone)."""
    return localize(moment, zone or _default) if moment.tzinfo is None else moment


def utc(moment: datetime) -> datetime:
    """A plain datetime in UTC. A naive one is read in the default zone."""
    if moment.tzinfo is UTC and type(moment) is datetime:
        return moment
    moment = aware(moment)
    moment = moment.astimezone(UTC)
    if type(moment) is not datetime:  # pendulum and others: plain values only beyond this point
        moment = datetime(
            moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond, UTC
        )
    return moment


def localize(wall: datetime, zone: tzinfo) -> datetime:
    """Naive wall time → aware. In the repeated hour of a change to winter time the second pass is meant; a time that
    a change to summer time leaves out moves forward by the gap. Both as in Airflow."""
    second = wall.replace(tzinfo=zone, fold=1)
    if second.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
        return second
    # Left out: the offset before the change (fold=0) carries it over the gap.
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)
