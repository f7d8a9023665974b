"""Removes ended DagRuns by age from the metastore, in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.errors import UsageError
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms.base import OldRows, Platform
from opskit.system.locks import locked


@dataclass(frozen=True, slots=True)
class DbCleanReport:
    """What was planned, and what has gone (nothing on a dry run)."""

    dry_run: bool
    before: datetime
    planned: tuple[OldRows, ...]
    removed: Mapping[str, int]
    """Table → rows."""


def clean(
    platform: Platform,
    *,
    now: datetime,
    max_age_days: float | None = None,
    batch_size: int | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> DbCleanReport:
    """Remove runs that ended more than `max_age_days` ago, with all that belongs to them.

    MetastoreUnavailable when the metastore is away or not current. What was removed before a failure stays removed;
    the next call goes on from there.
    """
    config = platform.config
    days = config.get("cleanup", "max_age_days") if max_age_days is None else max_age_days
    size = config.get("cleanup", "batch_size") if batch_size is None else batch_size
    if days < 0 or size < 1:
        raise UsageError("an age is not negative, and a batch has at least one DagRun")
    before = now - timedelta(days=days)
    with locked(config.run_folder, "db-clean"):
        planned = tuple(platform.retention.plan(before))
        removed: Mapping[str, int] = {}
        if planned and not dry_run:
            total = sum(rows.rows for rows in planned)

            def tell(so_far: Mapping[str, int]) -> None:
                on_progress(Progress("remove", sum(so_far.values()), total, "rows"))

            removed = platform.retention.remove(before, batch_size=size, after_batch=tell)
    if removed:
        platform.audit.write("db clean", now, {"before": before.isoformat(), **removed})
    return DbCleanReport(dry_run, before, planned, removed)
