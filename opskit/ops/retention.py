"""Decides which backups stay: the newest of each of the last hours, days, weeks, months and years."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.ops.backup_catalog import FULL, Backup

_CLOCK_TOLERANCE = timedelta(minutes=10)
_YOUNG = timedelta(days=1)
_A_FEW = 10
_WRITE_TOLERANCE = timedelta(days=1)
"""A backup takes hours at most: when its own time and the store's are further apart, one of the clocks was wrong."""


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days, weeks, months, hours and years with backups the newest one is kept."""

    daily: int
    weekly: int
    monthly: int
    hourly: int = 0
    yearly: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    backup_id: str
    tier: str
    keep: bool
    reason: str


def decide(backups: Sequence[Backup], policy: Keep, now: datetime) -> list[Decision]:
    """What stays and what goes, in the order of `backups`, each with its reason.

    Periods are counted where there are backups, so a clock that jumps ahead and a pause in backups remove nothing.
    Within a period the newest verified backup counts, else the newest. Always kept: the newest backup and the newest
    verified one of each tier, those of the whole metastore that are younger than a day, and whatever has a time that
    can't be right, or is damaged: a person should look at it.
    """
    reasons: dict[str, list[str]] = {backup.id: [] for backup in backups}
    trusted: list[Backup] = []
    for backup in backups:
        if backup.manifest is None:
            reasons[backup.id].append("damaged: look at it before it goes")
        elif max(backup.taken_at, backup.written_at) > now + _CLOCK_TOLERANCE:
            reasons[backup.id].append("its time is in the future: a clock is or was wrong")
        elif abs(backup.taken_at - backup.written_at) > _WRITE_TOLERANCE:
            reasons[backup.id].append("its time and the store's differ: a clock was wrong, or it was copied")
        else:
            trusted.append(backup)
    for tier in sorted({backup.tier for backup in trusted}):
        of_tier = sorted((b for b in trusted if b.tier == tier), key=lambda b: (b.taken_at, b.id), reverse=True)
        reasons[of_tier[0].id].append("the newest")
        verified = next((backup for backup in of_tier if backup.state == "verified"), None)
        if verified:
            reasons[verified.id].append("the newest verified")
        if tier == FULL:
            for backup in of_tier:
                if now - backup.taken_at < _YOUNG:
                    reasons[backup.id].append("younger than a day")
        for name, count, period in _periods(policy):
            for backup in _newest_of_each(of_tier, count, period):
                reasons[backup.id].append(name)
    return [
        Decision(
            backup.id,
            backup.tier,
            bool(reasons[backup.id]),
            ", ".join(reasons[backup.id]) or "newer ones of its periods are kept, or these are too old",
        )
        for backup in backups
    ]


def too_many(decisions: Sequence[Decision], max_percent: int) -> str:
    """Why so many should not go at once; empty when they may. A few may always."""
    going = sum(not decision.keep for decision in decisions)
    if going <= _A_FEW or going * 100 <= len(decisions) * max_percent:
        return ""
    return f"{going} of {len(decisions)} backups would go at once, more than {max_percent} %"


def _periods(policy: Keep) -> list[tuple[str, int, Callable[[datetime], tuple[int, ...]]]]:
    return [
        ("hourly", policy.hourly, lambda at: (at.year, at.month, at.day, at.hour)),
        ("daily", policy.daily, lambda at: (at.year, at.month, at.day)),
        ("weekly", policy.weekly, lambda at: tuple(at.isocalendar()[:2])),
        ("monthly", policy.monthly, lambda at: (at.year, at.month)),
        ("yearly", policy.yearly, lambda at: (at.year,)),
    ]


def _newest_of_each(
    newest_first: Sequence[Backup], count: int, period: Callable[[datetime], tuple[int, ...]]
) -> list[Backup]:
    chosen: dict[tuple[int, ...], Backup] = {}
    for backup in newest_first:
        number = period(backup.taken_at)
        if number not in chosen:
            if len(chosen) == count:
                break
            chosen[number] = backup
        elif backup.state == "verified" and chosen[number].state != "verified":
            chosen[number] = backup
    return list(chosen.values())
