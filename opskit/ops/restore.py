"""Brings a backup back: beside the live metastore, compared with its manifest, and swapped in as the last step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from opskit.errors import (
    GuardRefused,
    MetastoreUnavailable,
    OpskitError,
    SchemaNotCurrent,
    UsageError,
    VerificationFailed,
)
from opskit.ops.backup_catalog import FULL, Backup, Manifest
from opskit.ops.drill import compare, is_genuine, load, require_same_kind, small_set_of, timed
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms import Platform
from opskit.platforms.metastore import Secrets
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore
from opskit.system.programs import ProgramFailed
from opskit.telemetry import metrics


@dataclass(frozen=True, slots=True)
class TablePlan:
    """Rows of one table; None: it is not there."""

    table: str
    rows_now: int | None
    rows_then: int | None


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do, and what speaks against it."""

    backup_id: str
    tier: str
    state: str
    taken_at: datetime
    age_seconds: float
    target: str
    found: str
    """What is there now, in words."""
    rows: int
    size_bytes: int
    revision: str | None
    needed_revision: str
    expected_seconds: float | None
    """Of the last drill; None: there was none."""
    secrets: int
    unreadable_secrets: tuple[str, ...]
    refusals: tuple[str, ...]
    steps: tuple[str, ...]
    tables: tuple[TablePlan, ...] = ()
    proof: str = ""
    """What the receipt of its last drill says, and whether it is genuine."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    plan: RestorePlan
    seconds: float
    phases: dict[str, float]
    changes: dict[str, int]
    """What was made consistent in the restored copy."""
    migrated: bool = False
    kept: str = ""
    """Where the old metastore is until `opskit restore commit`; empty: there was none."""
    way_back: tuple[str, ...] = field(default=())
    """Commands that put the old metastore back."""
    next_backup: str = ""
    """Why a backup of the restored metastore would fail; empty: a rehearsal of one went well."""
    warnings: tuple[str, ...] = ()


def plan(
    platform: Platform,
    store: ObjectStore,
    backup: Backup,
    now: datetime,
    *,
    url: str = "",
    identities: Sequence[str] = (),
) -> RestorePlan:
    """Look at the backup, at the target and at whatever speaks against it. Changes nothing."""
    metastore, manifest = platform.metastore, backup.usable()
    small = small_set_of(store, manifest, identities)
    secrets = metastore.secrets(small)
    needed = metastore.needed_revision()
    where, what = _look(platform, url)
    present = metastore.row_counts(url)
    rows = {name: content.rows for name, content in manifest.tables.items()}
    tables = [
        TablePlan(name, present.get(name), rows.get(name))
        for name in sorted(present.keys() | (rows.keys() - {"alembic_version"}))
    ]
    return RestorePlan(
        backup_id=backup.id,
        tier=manifest.tier,
        state=backup.state,
        taken_at=manifest.taken_at,
        age_seconds=(now - manifest.taken_at).total_seconds(),
        target=where,
        found=what,
        rows=manifest.rows,
        size_bytes=manifest.size_bytes,
        revision=manifest.revision,
        needed_revision=needed,
        expected_seconds=backup.receipt.seconds if backup.receipt else None,
        secrets=secrets.total,
        unreadable_secrets=secrets.unreadable,
        refusals=tuple(_refusals(platform, backup, manifest, secrets, needed, now, url)),
        steps=tuple(_steps(manifest, needed, where)),
        tables=tuple(tables),
        proof=proof_of(platform, backup),
    )


def restore(
    platform: Platform,
    store: ObjectStore,
    backup: Backup,
    now: datetime,
    *,
    url: str = "",
    identities: Sequence[str] = (),
    without_key: bool = False,
    unpause: bool = False,
    on_progress: OnProgress = silent,
) -> RestoreReport:
    """Restore a backup of the whole metastore into the live one, or into the database of `url`.

    GuardRefused while anything of opskit uses it, or when the Fernet key can't read the backup's secrets (unless
    `without_key`). Whenever it is killed, the live metastore is as it was, or as restored. A DAG that is paused now
    stays so unless `unpause`. The old metastore is kept until it is committed: see restore_kept.
    """
    started = time.monotonic()
    manifest = backup.usable()
    if manifest.tier != FULL:
        raise UsageError(f"{manifest.id} is no backup of the whole metastore", hint="add: --tier config")
    with locked(platform.config.run_folder, "restore"):
        planned = plan(platform, store, backup, now, url=url, identities=identities)
        refusals = [text for text in planned.refusals if not (without_key and text.startswith(_NO_KEY))]
        if refusals:
            raise GuardRefused(
                f"not restored: {refusals[0]}",
                hint=_HINT_KEY if refusals[0].startswith(_NO_KEY) else "see: opskit restore --plan",
            )
        dump_bytes = manifest.plain_size_of(platform.metastore.dump_name)
        platform.metastore.require_room(int(manifest.source.get("size_bytes") or 0), dump_bytes, url)
        report = _restore_whole(platform, store, manifest, identities, planned, now, url, unpause, on_progress)
        report = replace(report, seconds=round(time.monotonic() - started, 3))
        if not url:
            report = _after(platform, store, report, now, on_progress)
    metrics.gauge("opskit_restore_seconds", report.seconds)
    metrics.gauge("opskit_restore_rows", report.plan.rows)
    return report


def _after(
    platform: Platform, store: ObjectStore, report: RestoreReport, now: datetime, on_progress: OnProgress
) -> RestoreReport:
    """The audit line, and a rehearsal of the next backup. The restore stands, whatever becomes of them."""
    extra = {"backup_id": report.plan.backup_id, "store": store.url, "kept": report.kept, **report.changes}
    warnings: tuple[str, ...] = ()
    try:
        platform.audit.write("restore", now, extra)
    except MetastoreUnavailable as error:
        warnings = (f"the audit line was not written: {error.message}",)
    on_progress(Progress("rehearse the next backup"))
    trouble = ""
    try:
        with platform.metastore.snapshot() as snapshot, snapshot.dump() as chunks:
            if not sum(map(len, chunks)):
                trouble = "its dump is empty"
    except OpskitError as error:
        trouble = error.message
    return replace(report, next_backup=trouble, warnings=warnings)


def proof_of(platform: Platform, backup: Backup) -> str:
    """What the receipt of its last drill is worth, in words."""
    receipt = backup.receipt
    if receipt is None:
        return "no drill has restored it yet"
    genuine = {True: "signed", False: "its signature is FORGED", None: "signed with a key that is not here"}
    said = genuine[is_genuine(platform, receipt)] if receipt.signature else "not signed"
    return f"{'proven' if receipt.ok else 'found wrong'} by a drill of {receipt.drilled_at:%Y-%m-%d %H:%M} UTC ({said})"


def _restore_whole(
    platform: Platform,
    store: ObjectStore,
    manifest: Manifest,
    identities: Sequence[str],
    planned: RestorePlan,
    now: datetime,
    url: str,
    unpause: bool,
    on_progress: OnProgress,
) -> RestoreReport:
    metastore = platform.metastore
    phases: dict[str, float] = {}
    with metastore.replacement(url) as target:
        try:
            with timed(phases, "load"):
                load(store, manifest, identities, target, metastore.dump_name, on_progress, "restore")
        except ProgramFailed as error:
            raise VerificationFailed(
                f"backup {manifest.id} could not be restored: {error.message}", hint="the live metastore is as it was"
            ) from error
        with timed(phases, "check"):
            target.check()
            problems = compare(manifest, target, on_progress)
        if problems:
            raise VerificationFailed(
                f"backup {manifest.id} came back different: {'; '.join(problems[:5])}",
                hint="the live metastore is as it was",
            )
        with timed(phases, "make consistent"):
            migrated = metastore.migrate(target)
            changes = metastore.make_consistent(target, now, url, unpause=unpause)
        on_progress(Progress("swap"))
        # Someone may have started a scheduler while we were at work.
        users = metastore.in_use_by(now, url)
        if users:
            raise GuardRefused(
                f"not restored: {_in_use(users)}", hint="the live metastore is as it was: stop it, then restore again"
            )
        with timed(phases, "swap"):
            kept = target.swap(now)
    way_back = ("opskit restore undo",) if kept and not url else ()
    return RestoreReport(planned, 0.0, phases, changes, migrated, kept, way_back)


_NO_KEY = "the present Fernet key can't read"
_HINT_KEY = "put the key of the backup into core.fernet_key, or lose these secrets with --without-key"


def _refusals(
    platform: Platform,
    backup: Backup,
    manifest: Manifest,
    secrets: Secrets,
    needed: str,
    now: datetime,
    url: str,
) -> list[str]:
    found = []
    if backup.state == "failed":
        assert backup.receipt is not None
        found.append(f"its last drill failed: {'; '.join(backup.receipt.problems[:3])}")
    if backup.state == "damaged":
        found.append(f"it is damaged: {backup.problem}")
    require_same_kind(manifest, platform.metastore.kind_of(url))
    users = platform.metastore.in_use_by(now, url)
    if users:
        found.append(_in_use(users))
    if manifest.revision is not None and manifest.revision > needed:
        raise SchemaNotCurrent(
            f"backup {manifest.id} has schema revision {manifest.revision}, this opskit knows up to {needed}",
            hint=f"restore it with opskit {manifest.opskit_version} or newer",
        )
    if secrets.unreadable:
        some = ", ".join(secrets.unreadable[:3])
        found.append(
            f"{_NO_KEY} {len(secrets.unreadable)} of its {secrets.total} secrets ({some}); the backup was taken with "
            f"the key {', '.join(manifest.fernet_key_fingerprints) or 'unknown'}, "
            f"present: {', '.join(platform.metastore.key_fingerprints()) or 'none'}"
        )
    return found


def _in_use(users: list[str]) -> str:
    more = f" and {len(users) - 3} more" if len(users) > 3 else ""
    return f"the metastore is in use by {', '.join(users[:3])}{more}"


def _look(platform: Platform, url: str) -> tuple[str, str]:
    """The target without its password, and what is there now."""
    try:
        info = platform.metastore.describe_target(url)
    except MetastoreUnavailable as error:
        return platform.metastore.redacted(url), f"can't be read: {error.message}"
    if info.revision is None:
        return info.url, "nothing of opskit"
    return info.url, f"a metastore of {info.size_bytes >> 10} KiB with schema revision {info.revision}"


def _steps(manifest: Manifest, needed: str, target: str) -> list[str]:
    steps = [
        f"restore {manifest.size_bytes >> 10} KiB into a new database beside {target}",
        f"compare {len(manifest.tables)} tables with {manifest.rows} rows, their hashes and the schema revision",
    ]
    if manifest.revision != needed:
        steps.append(f"migrate the copy from revision {manifest.revision} to {needed}")
    return [
        *steps,
        "retry attempts that were running (or fail them, without retries left), end instances, give leases back",
        "keep paused what is paused now",
        "swap it in; the old metastore is kept beside it until: opskit restore commit",
        "rehearse the next backup",
    ]
