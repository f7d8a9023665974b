"""Takes a backup of the metastore, proves it by a drill, and lets old ones go."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from opskit import __version__
from opskit.config import Config
from opskit.errors import ConfigError, GuardRefused, MetastoreUnavailable, OpskitError, VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import FULL, MANIFEST, SMALL_SET, BackupObject, Manifest
from opskit.ops.backup_keys import put_key, refuse_beside
from opskit.ops.backup_objects import put_object
from opskit.ops.backup_prune import prune_store
from opskit.ops.drill import DrillReport, drill
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.ops.retention import Keep
from opskit.platforms import Platform
from opskit.platforms.metastore import DatabaseInfo, Metastore, Snapshot, TableContent
from opskit.system import encryption
from opskit.system.limited_store import LimitedStore
from opskit.system.locks import locked
from opskit.system.object_store import ObjectLock, ObjectStore, StoreError, open_store
from opskit.system.streams import counted
from opskit.telemetry import metrics

PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_TYPICAL_RATIO = 8
"""A dump is about so much smaller than its database: a guess that only sizes parts and checks for room."""


class DrillFailed(VerificationFailed):
    """The backup was taken, and the drill found it wrong. `report` has both."""

    report: BackupReport


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What one run did. `backup_id` is empty after a dry run."""

    backup_id: str
    tier: str
    store: str
    verified: bool
    source: dict[str, Any]
    rows: int
    tables: int
    size_bytes: int
    seconds: dict[str, float]
    drill: DrillReport | None = None
    warnings: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    """Whom it is encrypted for; empty: it is not encrypted."""
    removed: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    """What a dry run would have done."""


def store_of(config: Config, url: str = "") -> ObjectStore:
    """The store of an installation, or the one that `url` names."""
    mode, days = str(config.get("backup", "object_lock_mode")), int(config.get("backup", "object_lock_days"))
    if bool(mode) != bool(days):
        raise ConfigError(
            "backup.object_lock_mode and backup.object_lock_days belong together", hint="set both, or none"
        )
    store = open_store(
        url or str(config.get("backup", "to")),
        endpoint_url=str(config.get("backup", "endpoint_url")),
        part_size_bytes=int(config.get("backup", "part_size")) << 20,
        max_parts=int(config.get("backup", "max_parts")),
        lock=ObjectLock(mode, days) if mode else None,
        patience_seconds=float(config.get("backup", "patience")),
    )
    limit = float(config.get("backup", "bandwidth_limit")) * (1 << 20)
    return LimitedStore(store, limit) if limit else store


def policy_of(config: Config) -> Keep:
    return Keep(**{period: int(config.get("backup", f"keep_{period}")) for period in PERIODS})


def take_backup(
    platform: Platform,
    store: ObjectStore,
    now: datetime,
    *,
    keep: Keep,
    recipients: Sequence[str] = (),
    max_percent: int = 100,
    with_drill: bool = True,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> BackupReport:
    """Take a backup, prove it, and prune. DrillFailed when it was taken and is wrong; any other error: not taken.

    Nothing is listed before it is complete. Pruning happens after a proof only. With `recipients` it is encrypted for
    them; the drill opens it with the data identity, which this process alone has, and forgets.
    """
    metastore = platform.metastore
    refuse_beside(store, platform.config.home / "fernet.key")
    source = metastore.describe()
    if dry_run:
        return _plan(store, source, with_drill, keep, now, recipients)
    with locked(platform.config.run_folder, "backup"):
        identity = encryption.new_identity() if recipients else ("", "")
        manifest, warnings = _take(platform, store, now, source, recipients, identity, on_progress)
        report = BackupReport(
            backup_id=manifest.id,
            tier=FULL,
            store=store.url,
            verified=False,
            source=manifest.source,
            rows=manifest.rows,
            tables=len(manifest.tables),
            size_bytes=manifest.size_bytes,
            seconds=manifest.seconds,
            warnings=tuple(warnings),
            recipients=tuple(recipients),
        )
        if with_drill:
            report = _prove(platform, store, now, report, identity[0], on_progress)
            on_progress(Progress("prune"))
            try:
                pruned = prune_store(store, keep, now, max_percent, dry_run=False)
                report = replace(report, removed=pruned.removed)
                for name in pruned.locked:
                    report = _warned(report, f"{name} should go, and is locked by the store")
            except (StoreError, GuardRefused) as error:
                # The backup stands; a credential without the right to delete is even a wise choice.
                report = _warned(report, f"old backups were not removed: {error.message}")
        _measure(report)
        return _audit(platform, now, report)


def _prove(
    platform: Platform,
    store: ObjectStore,
    now: datetime,
    report: BackupReport,
    identity: str,
    on_progress: OnProgress,
) -> BackupReport:
    started = time.monotonic()
    try:
        backup = catalog.find(store, report.backup_id)
        identities = [identity] if identity else []
        proof = drill(platform, store, backup, now, identities=identities, on_progress=on_progress)
    except OpskitError as error:
        failed = DrillFailed(
            f"the backup {report.backup_id} was taken, and is not proven: {error.message}",
            hint=error.hint or f"look into it, then try: opskit backup drill {report.backup_id}",
        )
        report = replace(report, drill=getattr(error, "report", None))
        _measure(report)
        failed.report = _audit(platform, now, report, error=error.message)
        raise failed from error
    seconds = {**report.seconds, "drill": round(time.monotonic() - started, 3)}
    return replace(report, drill=proof, verified=True, seconds=seconds)


def _take(
    platform: Platform,
    store: ObjectStore,
    now: datetime,
    source: DatabaseInfo,
    recipients: Sequence[str],
    identity: tuple[str, str],
    on_progress: OnProgress,
) -> tuple[Manifest, list[str]]:
    metastore = platform.metastore
    identifier, key_id = catalog.new_id(now), identity[1]
    started = time.monotonic()
    try:
        if key_id:
            put_key(store, identifier, key_id, identity[0], recipients, now)
        with metastore.snapshot() as snapshot:
            small = metastore.small_set(snapshot)
            dump, tables, seconds = _copy(store, identifier, key_id, snapshot, metastore, source, on_progress)
            revision, algorithm = snapshot.revision, snapshot.algorithm
        on_progress(Progress("write manifest"))
        text = json.dumps(small, indent=1, ensure_ascii=False, default=str).encode()
        objects = [*dump, *put_object(store, identifier, SMALL_SET, [text], key_id)]
        secrets = metastore.secrets(small)
        manifest = Manifest(
            id=identifier,
            tier=FULL,
            taken_at=now,
            source={**asdict(source), "revision": revision},
            objects=tuple(objects),
            tables=tables,
            hash_algorithm=algorithm,
            hash_text=metastore.algorithm_text(algorithm),
            fernet_key_fingerprints=tuple(metastore.key_fingerprints()),
            secrets=secrets.total,
            key_id=key_id,
            opskit_version=__version__,
            platform=platform.name,
            hostname=socket.gethostname(),
            seconds={**seconds, "backup": round(time.monotonic() - started, 3)},
        )
        store.put(catalog.key(identifier, MANIFEST), [manifest.sealed()], new=True)
    except BaseException:
        _clear_away(store, identifier)
        raise
    warnings = [f"{what} can't be decrypted with the present key" for what in secrets.unreadable[:20]]
    return manifest, warnings


def _copy(
    store: ObjectStore,
    identifier: str,
    key_id: str,
    snapshot: Snapshot,
    metastore: Metastore,
    source: DatabaseInfo,
    on_progress: OnProgress,
) -> tuple[list[BackupObject], dict[str, TableContent], dict[str, float]]:
    """Dump and count at the same time: both see the same state."""
    seconds: dict[str, float] = {}

    def count() -> dict[str, TableContent]:
        with _timed(seconds, "count"):
            return snapshot.contents()

    with ThreadPoolExecutor(1, thread_name_prefix="contents") as background:
        # The dump begins first: an engine may hold writers back until it has.
        with snapshot.dump() as chunks:
            counting = background.submit(count)
            try:
                with _timed(seconds, "dump"):
                    moving = counted(chunks, lambda size: on_progress(Progress("dump", size, 0, "bytes")))
                    expected = source.size_bytes // _TYPICAL_RATIO
                    dump = put_object(store, identifier, metastore.dump_name, moving, key_id, expected)
            except BaseException:
                snapshot.cancel()
                raise
        on_progress(Progress("count rows"))
        return dump, counting.result(), seconds


def _clear_away(store: ObjectStore, identifier: str) -> None:
    """Take the parts of a backup that failed away again. What can't be removed now, a later prune removes."""
    with suppress(OpskitError):
        store.delete(catalog.key(identifier, MANIFEST))
        for info in list(store.objects(f"{identifier}/")):
            store.delete(info.key)


def _plan(
    store: ObjectStore,
    source: DatabaseInfo,
    with_drill: bool,
    keep: Keep,
    now: datetime,
    recipients: Sequence[str],
) -> BackupReport:
    steps = [f"write the whole metastore of {source.url} to {store.url}/{catalog.new_id(now)[:16]}-…"]
    if recipients:
        steps.append(f"encrypt it for {len(recipients)} recipients: {', '.join(recipients)}")
    if with_drill:
        steps.append("restore it into a throw-away database and compare every table")
        steps += [f"remove {name}" for name in prune_store(store, keep, now, 100, dry_run=True).removed]
    return BackupReport("", FULL, store.url, False, asdict(source), 0, 0, source.size_bytes, {}, planned=tuple(steps))


def _measure(report: BackupReport) -> None:
    for name, value in (
        ("size_bytes", report.size_bytes),
        ("rows", report.rows),
        ("tables", report.tables),
        ("verified_bool", float(report.verified)),
        ("encrypted_bool", float(bool(report.recipients))),
        ("removed_backups", len(report.removed)),
        ("taking_seconds", report.seconds.get("backup", 0.0)),
        ("drill_seconds", report.seconds.get("drill", 0.0)),
    ):
        metrics.gauge(f"opskit_backup_{name}", value)


def _audit(platform: Platform, now: datetime, report: BackupReport, error: str = "") -> BackupReport:
    extra = {
        "backup_id": report.backup_id,
        "store": report.store,
        "tier": report.tier,
        "verified": report.verified,
        "recipients": report.recipients,
        "size_bytes": report.size_bytes,
        "removed": report.removed,
    }
    try:
        platform.audit.write("backup", now, {**extra, "error": error} if error else extra)
    except MetastoreUnavailable as unavailable:
        return _warned(report, f"the audit line was not written: {unavailable.message}")
    return report


def _warned(report: BackupReport, warning: str) -> BackupReport:
    return replace(report, warnings=(*report.warnings, warning))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 3)
