"""Removes old history from the metastore: what policy says, archived first where an archive is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError, UsageError
from opskit.ops.db_clean_archive import Archive, ArchivedChunk
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms.base import Platform
from opskit.platforms.retention import STATES, TABLES, Removed, RetentionPlan, RetentionPolicy
from opskit.system.locks import locked
from opskit.telemetry import metrics


@dataclass(frozen=True, slots=True)
class DbCleanReport:
    """What was planned (on a dry run), or what has gone."""

    dry_run: bool
    before: datetime
    """What has no rule of its own goes when it is older."""
    plan: RetentionPlan | None
    done: Removed | None
    archived: tuple[ArchivedChunk, ...] = ()
    archive: str = ""

    @property
    def is_complete(self) -> bool:
        return self.done is None or not (self.done.left or self.done.failed)


def policy(config: Config, max_age_days: float | None = None) -> RetentionPolicy:
    """The rules of [cleanup]. ConfigError for one that can't be followed."""
    days = float(config.get("cleanup", "max_age_days") if max_age_days is None else max_age_days)
    if days < 0:
        raise UsageError("an age is not negative")
    tables = {name: _days(value, f"cleanup.tables.{name}") for name, value in config.get("cleanup", "tables").items()}
    for name in tables:
        if name not in TABLES:
            raise ConfigError(
                f"cleanup.tables names {name!r}, which has no age of its own",
                hint=f"choose from {', '.join(TABLES)}; runs and task instances: cleanup.max_age_days",
            )
    states = _by_state(config.get("cleanup", "states"), "cleanup.states")
    dags = []
    for pattern, value in config.get("cleanup", "dags").items():
        where = f"cleanup.dags.{pattern}"
        by_state = _by_state(value, where) if isinstance(value, Mapping) else {"*": _days(value, where)}
        dags.append((str(pattern), by_state))
    return RetentionPolicy(days, tables, states, tuple(dags))


def _by_state(value: Mapping[str, Any], where: str) -> dict[str, float]:
    for state in value:
        if state not in STATES:
            raise ConfigError(f"{where} names the state {state!r}", hint=f"a run ends in {' or '.join(STATES)}")
    return {state: _days(days, f"{where}.{state}") for state, days in value.items()}


def _days(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigError(f"{where} is {value!r}: a number of days is wanted")
    return float(value)


def clean(
    platform: Platform,
    *,
    now: datetime,
    max_age_days: float | None = None,
    batch_size: int | None = None,
    deadline_seconds: float | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> DbCleanReport:
    """Remove runs that ended longer ago than policy allows, with all that belongs to them, and other old rows.

    MetastoreUnavailable when the metastore is away or not current, LockHeld while another one is at it, StoreError or
    VerificationFailed when rows can't be archived: these rows stay. What was removed before a failure stays removed;
    the next call goes on from there. A table that fails does not stop the others: see `Removed.failed`.
    """
    config = platform.config
    size = int(config.get("cleanup", "batch_size") if batch_size is None else batch_size)
    if size < 1:
        raise UsageError("a batch has at least one row")
    rules = policy(config, max_age_days)
    before = now - timedelta(days=rules.days)
    if dry_run:
        return DbCleanReport(True, before, platform.retention.plan(rules, now), None)
    archive = Archive.of(config, now)
    with locked(config.run_folder, "db-clean"):

        def tell(so_far: Mapping[str, int]) -> None:
            on_progress(Progress("remove", sum(so_far.values()), 0, "rows"))

        done = platform.retention.remove(
            rules,
            now,
            batch_size=size,
            deadline_seconds=deadline_seconds,
            keep=archive.write if archive else None,
            told=tell,
        )
    chunks = tuple(archive.written) if archive else ()
    if done.rows or done.failed:
        extra: dict[str, Any] = {"before": before.isoformat(), **done.rows}
        if done.failed:
            extra["failed"] = dict(done.failed)
        if chunks:
            extra["archived"] = [chunk.key for chunk in chunks]
        platform.audit.write("db clean", now, extra)
    _measure(done)
    return DbCleanReport(False, before, None, done, chunks, archive.url if archive else "")


def _measure(done: Removed) -> None:
    for table, rows in done.rows.items():
        metrics.gauge("opskit_db_clean_removed_rows", rows, table=table)
    for space in done.space:
        metrics.gauge("opskit_db_clean_table_bytes", space.after_bytes, table=space.table)
        metrics.gauge("opskit_db_clean_reusable_bytes", space.reusable_bytes, table=space.table)
    metrics.gauge("opskit_db_clean_longest_transaction_seconds", done.longest_transaction_seconds)
    metrics.gauge("opskit_db_clean_failed_tables", len(done.failed))
