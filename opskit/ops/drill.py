"""Proves a backup: restores it into a throw-away database, and compares what came back with what was counted."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.errors import GuardRefused, OpskitError, VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import RECEIPT, SMALL_SET, Backup, Manifest
from opskit.ops.backup_objects import open_object, read_object
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms import Platform
from opskit.platforms.metastore import Target, differences
from opskit.platforms.receipts import Receipt, folder_of, kept_in
from opskit.system.object_store import ObjectStore
from opskit.system.programs import ProgramFailed
from opskit.system.streams import counted
from opskit.telemetry import metrics

_PURPOSE = "drill receipt"
_RECEIPTS = 400
"""Kept here; the ids of backups begin with their time."""


class NotProven(VerificationFailed):
    """The drill found the backup wrong. `report` says what."""

    report: DrillReport


@dataclass(frozen=True, slots=True)
class DrillReport:
    backup_id: str
    store: str
    ok: bool
    problems: tuple[str, ...]
    rows: int
    tables: int
    secrets_read: int
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each."""


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """A receipt as this installation or the store has it."""

    backup_id: str
    drilled_at: datetime
    ok: bool
    genuine: bool | None
    """Whether its signature fits; None: it has none, or its key is not here."""
    seconds: float
    rows: int
    secrets_read: int
    hostname: str
    problems: tuple[str, ...]


def drill(
    platform: Platform,
    store: ObjectStore,
    backup: Backup,
    now: datetime,
    *,
    identities: Sequence[str] = (),
    on_progress: OnProgress = silent,
) -> DrillReport:
    """Restore a backup into a throw-away database, compare, and leave a receipt beside it.

    `identities` open an encrypted one; GuardRefused when none of them fits.
    NotProven when it is not what its manifest says. An error of the place where the drill was to happen (no right to
    make a database, no room, server gone) is raised as itself, and leaves no receipt: it says nothing about the backup.
    """
    manifest = backup.usable()
    started = time.monotonic()
    secrets_read = 0
    phases: dict[str, float] = {}
    try:
        small = small_set_of(store, manifest, identities)
        problems = _drill(platform, store, manifest, identities, small, on_progress, phases)
        secrets = platform.metastore.secrets(small)
        secrets_read = secrets.total - len(secrets.unreadable)
        if secrets.total and not secrets_read:
            problems.append(
                f"none of its {secrets.total} secrets can be decrypted with the present Fernet key "
                f"(fingerprints {', '.join(platform.metastore.key_fingerprints()) or 'none'}, "
                f"the backup's {', '.join(manifest.fernet_key_fingerprints) or 'none'})"
            )
    except VerificationFailed as error:
        problems = [error.message]
    except ProgramFailed as error:
        # The backup, or the place (a full disk): the words of the program tell, and no receipt does.
        raise VerificationFailed(f"backup {backup.id} could not be restored: {error.message}") from error
    report = DrillReport(
        backup.id,
        store.url,
        not problems,
        tuple(problems),
        manifest.rows,
        len(manifest.tables),
        secrets_read,
        round(time.monotonic() - started, 3),
        phases,
    )
    _leave_receipt(platform, store, backup, report, manifest, now)
    metrics.gauge("opskit_drill_ok", int(report.ok))
    metrics.gauge("opskit_drill_restore_seconds", report.seconds)
    if report.ok:
        metrics.gauge("opskit_drill_last_proven_timestamp_seconds", now.timestamp())
        metrics.gauge("opskit_drill_proven_backup_age_seconds", (now - manifest.taken_at).total_seconds())
    if problems:
        failed = NotProven(
            f"the drill of {backup.id} failed: {'; '.join(problems[:5])}",
            hint="keep it for the inquiry, and take a new one with: opskit backup",
        )
        failed.report = report
        raise failed
    return report


def load(
    store: ObjectStore,
    manifest: Manifest,
    identities: Sequence[str],
    target: Target,
    dump_name: str,
    on_progress: OnProgress,
    step: str,
) -> None:
    """Fill an empty database from a backup; no damaged byte goes unnoticed. For `identities` see open_object."""
    total = manifest.plain_size_of(dump_name)
    with open_object(store, manifest, dump_name, identities) as chunks:
        target.load(counted(chunks, lambda size: on_progress(Progress(step, size, total, "bytes"))))


def compare(manifest: Manifest, target: Target, on_progress: OnProgress) -> list[str]:
    """What differs between a restored copy and the state that the backup was taken from."""
    rows = 0

    def counted_rows(_: str, more: int) -> None:
        nonlocal rows
        rows += more
        on_progress(Progress("compare", rows, manifest.rows, "rows"))

    return differences(manifest.tables, target.contents(manifest.hash_algorithm, counted_rows))


def small_set_of(store: ObjectStore, manifest: Manifest, identities: Sequence[str]) -> dict[str, Any]:
    """The small set of a backup. VerificationFailed when it is damaged. For `identities` see open_object."""
    data: dict[str, Any] = json.loads(read_object(store, manifest, SMALL_SET, identities))
    return data


def require_same_kind(manifest: Manifest, kind: str) -> None:
    """GuardRefused when a dump of one kind of database meets a server of another."""
    taken_from = str(manifest.source.get("kind"))
    if _family(taken_from) != _family(kind):
        raise GuardRefused(
            f"backup {manifest.id} was taken from {taken_from}, this metastore is {kind}",
            hint="name a database of the same kind",
        )


def _family(kind: str) -> str:
    return "mysql" if kind == "mariadb" else kind


def _drill(
    platform: Platform,
    store: ObjectStore,
    manifest: Manifest,
    identities: Sequence[str],
    small: dict[str, Any],
    on_progress: OnProgress,
    phases: dict[str, float],
) -> list[str]:
    metastore = platform.metastore
    require_same_kind(manifest, metastore.kind_of())
    with ExitStack() as stack:
        with timed(phases, "make database"):
            target = stack.enter_context(metastore.throwaway())
        with timed(phases, "load"):
            load(store, manifest, identities, target, metastore.dump_name, on_progress, "drill: restore")
        with timed(phases, "check"):
            target.check()
        with timed(phases, "compare"):
            problems = compare(manifest, target, on_progress)
            if not problems:
                problems = _compare_meaning(platform, manifest, target, small)
    return problems


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block took."""
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 3)


def _compare_meaning(platform: Platform, manifest: Manifest, target: Target, small: dict[str, Any]) -> list[str]:
    problems = []
    revision = platform.metastore.revision(target)
    if revision != manifest.revision:
        problems.append(f"the restored schema has revision {revision}, the source had {manifest.revision}")
    if _plain(platform.metastore.small_set(target)) != small:
        problems.append("connections, variables, pools or pause states differ from the backup's own copy of them")
    return problems


def _plain(data: dict[str, Any]) -> Any:
    return json.loads(json.dumps(data, default=str))


def is_genuine(platform: Platform, receipt: Receipt) -> bool | None:
    """Whether the holder of a Fernet key wrote exactly this; None: it is not signed, or the key is not here."""
    if not receipt.signature:
        return None
    return platform.metastore.is_signed(_PURPOSE, receipt.signed_text(), receipt.key_fingerprint, receipt.signature)


def receipts(platform: Platform, backups: Sequence[Backup]) -> list[KeptReceipt]:
    """The receipts of these backups, and those that this installation has kept of others, the newest drill first."""
    found = {backup.id: backup.receipt for backup in backups if backup.receipt is not None}
    for own in kept_in(platform.config.home):  # the store's copy counts; one of a removed backup is history only
        stored = found.get(own.backup_id)
        if stored is None or own.drilled_at > stored.drilled_at:
            found[own.backup_id] = own
    return sorted(
        (
            KeptReceipt(
                one.backup_id,
                one.drilled_at,
                one.ok,
                is_genuine(platform, one),
                one.seconds,
                one.rows,
                one.secrets_read,
                one.hostname,
                one.problems,
            )
            for one in found.values()
        ),
        key=lambda one: one.drilled_at,
        reverse=True,
    )


def _leave_receipt(
    platform: Platform, store: ObjectStore, backup: Backup, report: DrillReport, manifest: Manifest, now: datetime
) -> None:
    receipt = Receipt(
        backup_id=backup.id,
        manifest_sha256=backup.manifest_sha256,
        drilled_at=now,
        ok=report.ok,
        problems=report.problems,
        seconds=report.seconds,
        rows=report.rows,
        tables=report.tables,
        secrets_read=report.secrets_read,
        server_version=str(manifest.source.get("server_version")),
        opskit_version=__version__,
        hostname=socket.gethostname(),
        phases=report.phases,
    )
    key_fingerprint, signature = platform.metastore.sign(_PURPOSE, receipt.signed_text())
    sealed = replace(receipt, key_fingerprint=key_fingerprint, signature=signature).sealed()
    store.put(catalog.key(backup.id, RECEIPT), [sealed])
    _keep_here(folder_of(platform.config.home), backup.id, sealed)


def _keep_here(folder: Path, backup_id: str, sealed: bytes) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f".{backup_id}.{os.getpid()}"
        fresh.write_bytes(sealed)
        fresh.replace(folder / f"{backup_id}.json")
        for path in sorted(folder.glob("*.json"))[:-_RECEIPTS]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OpskitError(
            f"the receipt is in the store, and can't be kept in {folder}: {error.strerror}", hint="make it writable"
        ) from error
