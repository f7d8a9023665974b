"""Brings the history of one DAG out of a backup of the whole metastore into the live one, which goes on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opskit.errors import MetastoreUnavailable, UsageError, VerificationFailed
from opskit.ops.backup_catalog import FULL, Backup
from opskit.ops.drill import compare, load, require_same_kind
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms import Platform
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore
from opskit.system.programs import ProgramFailed


@dataclass(frozen=True, slots=True)
class HistoryReport:
    dag_id: str
    backup_id: str
    dry_run: bool
    rows: dict[str, int]
    """Inserted (or, after a dry run, missing), by table."""
    skipped: dict[str, int]
    """DagRuns that were left alone, by reason."""
    seconds: float
    warnings: tuple[str, ...] = ()


def restore_history(
    platform: Platform,
    store: ObjectStore,
    backup: Backup,
    dag_id: str,
    now: datetime,
    *,
    identities: Sequence[str] = (),
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> HistoryReport:
    """Load a backup into a throw-away database, compare it, and insert what the live metastore lacks of one DAG.

    Nothing that is there is touched; a second run finds nothing to do. A dry run does all but insert.
    """
    started = time.monotonic()
    metastore, manifest = platform.metastore, backup.usable()
    if manifest.tier != FULL:
        raise UsageError(f"{manifest.id} holds no history", hint="choose a backup of the whole metastore")
    require_same_kind(manifest, metastore.kind_of())
    with locked(platform.config.run_folder, "restore"):
        dump_bytes = manifest.plain_size_of(metastore.dump_name)
        metastore.require_room(int(manifest.source.get("size_bytes") or 0), dump_bytes)
        with metastore.throwaway() as target:
            try:
                load(store, manifest, identities, target, metastore.dump_name, on_progress, "load the backup")
            except ProgramFailed as error:
                raise VerificationFailed(f"backup {manifest.id} could not be loaded: {error.message}") from error
            target.check()
            problems = compare(manifest, target, on_progress)
            if problems:
                raise VerificationFailed(
                    f"backup {manifest.id} came back different: {'; '.join(problems[:5])}", hint="nothing was inserted"
                )
            metastore.migrate(target)

            def shown(done: int, total: int) -> None:
                on_progress(Progress("insert", done, total, "runs"))

            brought = metastore.bring_history(target, dag_id, now, shown, dry_run=dry_run)
        warnings: tuple[str, ...] = ()
        if not dry_run:
            extra = {"backup_id": backup.id, "dag_id": dag_id, "rows": brought.rows, "skipped": brought.skipped}
            try:
                platform.audit.write("restore history", now, extra)
            except MetastoreUnavailable as error:
                warnings = (f"the audit line was not written: {error.message}",)
    seconds = round(time.monotonic() - started, 3)
    return HistoryReport(dag_id, backup.id, dry_run, brought.rows, brought.skipped, seconds, warnings)
