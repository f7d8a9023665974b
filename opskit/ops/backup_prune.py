"""Removes backups that no period keeps, and what unfinished ones have left behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from opskit.errors import GuardRefused
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import MANIFEST, Backup
from opskit.ops.retention import Decision, Keep, decide, too_many
from opskit.platforms import Platform
from opskit.platforms.receipts import time_of
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore

STALE_AFTER = timedelta(hours=24)
"""Unfinished uploads and backups without a manifest may belong to a run at work until they are this old."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    store: str
    dry_run: bool
    decisions: tuple[Decision, ...]
    removed: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    """Backups that should go, and that the store holds by Object Lock for now."""
    refusal: str = ""
    """Why the same without --dry-run would remove nothing."""
    debris: tuple[str, ...] = field(default=())
    """Objects of unfinished backups, and unfinished uploads, that are older than a day."""


def prune(
    platform: Platform,
    store: ObjectStore,
    now: datetime,
    *,
    keep: Keep,
    max_percent: int = 100,
    dry_run: bool = False,
) -> PruneReport:
    """Remove the backups that the policy does not keep, and what unfinished ones left behind.

    GuardRefused when more than `max_percent` of all backups (and more than a few) would go: a policy or a clock may be
    wrong. Those that the store has locked stay, and are reported.
    """
    if dry_run:
        return prune_store(store, keep, now, max_percent, dry_run=True)
    with locked(platform.config.run_folder, "backup"):
        report = prune_store(store, keep, now, max_percent, dry_run=False)
    if report.removed or report.debris:
        platform.audit.write("backup prune", now, {"store": report.store, "removed": report.removed})
    return report


def prune_store(store: ObjectStore, keep: Keep, now: datetime, max_percent: int, *, dry_run: bool) -> PruneReport:
    """What `prune` does, for one who holds the lock and writes an audit line of its own."""
    backups = catalog.list_backups(store)
    decisions = decide(backups, keep, now)
    refusal = too_many(decisions, max_percent)
    if refusal and not dry_run:
        raise GuardRefused(
            refusal,
            hint="look at: opskit backup prune --dry-run; when it is right: opskit backup prune --max-percent 100",
        )
    going = {decision.backup_id for decision in decisions if not decision.keep}
    held = {backup.id for backup in backups if backup.id in going and _is_locked(store, backup.id, now)}
    going -= held
    debris = [
        info.key
        for objects in catalog.incomplete(store).values()
        if all(now - info.modified_at > STALE_AFTER for info in objects)
        for info in objects
    ]
    uploads = [
        upload
        for upload in store.stale_uploads()
        if now - upload.started_at > STALE_AFTER and time_of(upload.key.partition("/")[0])
    ]
    report = PruneReport(
        store.url,
        dry_run,
        tuple(decisions),
        tuple(sorted(going)),
        tuple(sorted(held)),
        refusal,
        (*debris, *(f"{upload.key} (unfinished upload)" for upload in uploads)),
    )
    if dry_run:
        return report
    for backup in backups:
        if backup.id in going:
            _remove(store, backup)
    for name in debris:
        if not _holds(store, name, now):
            store.delete(name)
    for upload in uploads:
        store.abort_upload(upload)
    return report


def _is_locked(store: ObjectStore, identifier: str, now: datetime) -> bool:
    return any(_holds(store, info.key, now) for info in store.objects(f"{identifier}/"))


def _holds(store: ObjectStore, key: str, now: datetime) -> bool:
    until = store.locked_until(key)
    return until is not None and until > now


def _remove(store: ObjectStore, backup: Backup) -> None:
    # Without its manifest it is no backup any more; a kill after that leaves debris, not half a backup.
    store.delete(catalog.key(backup.id, MANIFEST))
    for info in list(store.objects(f"{backup.id}/")):
        store.delete(info.key)
