"""How moments, durations, sizes and states look on a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from markupsafe import Markup, escape

DASH = "\N{EN DASH}"
MINUTE, HOUR, DAY = 60, 3600, 86400
SIGNS: dict[str, str] = {
    "success": "✓",
    "failed": "✕",
    "running": "▸",
    "queued": "Q",
    "scheduled": "S",
    "skipped": "»",
    "upstream_failed": "!",
    "up_for_retry": "↻",
    "up_for_reschedule": "R",
    "deferred": "D",
    "restarting": "↺",
    "removed": "x",
    "none": "·",
}
"""One character for each state, so that nobody needs to see its colour."""


def ago(moment: datetime | None, now: datetime) -> str:
    """`3 min ago`, `in 2 h`, `just now`; a dash for None."""
    if moment is None:
        return DASH
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 5:
        return "just now" if seconds >= 0 else "in a moment"
    words = _coarse(abs(seconds))
    return f"{words} ago" if seconds > 0 else f"in {words}"


def _coarse(seconds: float) -> str:
    for unit, length, limit in (("s", 1, MINUTE), ("min", MINUTE, HOUR), ("h", HOUR, 2 * DAY), ("d", DAY, 60 * DAY)):
        if seconds < limit:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // (30 * DAY))} months" if seconds < 730 * DAY else f"{int(seconds // (365 * DAY))} years"


def duration(value: float | timedelta | None) -> str:
    """Of seconds: `0.4 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`; a dash for None."""
    if value is None:
        return DASH
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, length, part in (("min", "s", MINUTE, 1), ("h", "min", HOUR, MINUTE), ("d", "h", DAY, HOUR)):
        if whole < length:
            break
        if whole < length * {"min": 60, "h": 24, "d": 10**9}[large]:
            rest = whole % length // part
            return f"{whole // length} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def stamp(value: datetime | None) -> str:
    """`2026-03-29 06:30:00 UTC`; a dash for None."""
    return DASH if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _time(value: datetime, text: str, relative: bool) -> Markup:
    exact = value.astimezone(UTC)
    # Put together by hand, from parts that need no escaping: a page has hundreds, and Markup.format is slow.
    return Markup(  # noqa: S704
        f'<time datetime="{exact:%Y-%m-%dT%H:%M:%SZ}" title="{exact:%Y-%m-%d %H:%M:%S} UTC"'
        f"{' data-relative' if relative else ''}>{text}</time>"
    )


def moment(value: datetime | None) -> Markup:
    """`2026-03-29 06:30` (UTC) in a time element that names the second and the zone in its title."""
    return escape(DASH) if value is None else _time(value, value.astimezone(UTC).strftime("%Y-%m-%d %H:%M"), False)


def relative(value: datetime | None, now: datetime) -> Markup:
    """`3 min ago` in a time element that the page keeps up to date."""
    return escape(DASH) if value is None else _time(value, ago(value, now), True)


def size(value: float | None) -> str:
    """Of bytes: `512 B`, `1.5 kB`, `20 MB`, by thousands; a dash for None."""
    if value is None:
        return DASH
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(amount) < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or abs(amount) >= 9.95 else f"{amount:.1f} {unit}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 run`, `2 runs`, `1,000 entries`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def state_name(state: str | None) -> str:
    """For people: `up for retry`; `no status` for None."""
    return state.replace("_", " ") if state else "no status"


def state_class(state: str | None) -> str:
    """The CSS class of a state; one that is not known looks like none."""
    return f"state-{state}" if state in SIGNS else "state-none"


def state_sign(state: str | None) -> str:
    """The character that stands for a state in small places."""
    return SIGNS.get(state or "none", "·")


def state_badge(state: str | None) -> Markup:
    """A state as a badge: sign and name."""
    return _badge(state if state is None or state in SIGNS else str(state))


@lru_cache(maxsize=64)
def _badge(state: str | None) -> Markup:
    return Markup('<span class="badge {}"><span class="sign" aria-hidden="true">{}</span>{}</span>').format(
        state_class(state), state_sign(state), state_name(state)
    )
