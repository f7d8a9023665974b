"""Reads every stored byte of backups again and compares it with what was written down. Finds each damaged byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opskit.errors import VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import Backup
from opskit.ops.backup_keys import key_problems
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.system.object_store import ObjectMissing, ObjectStore
from opskit.system.streams import checked, counted


@dataclass(frozen=True, slots=True)
class Verified:
    backup_id: str
    state: str
    """verified, unverified or failed, as the last drill left it; damaged."""
    ok: bool
    problems: tuple[str, ...]
    size_bytes: int


class Damaged(VerificationFailed):
    """At least one backup is damaged. `reports` has all that were read."""

    reports: list[Verified]


def verify(store: ObjectStore, backups: Sequence[Backup], *, on_progress: OnProgress = silent) -> list[Verified]:
    """Read every object of these backups. Damaged when one is not as it was written."""
    reports = [_verify(store, backup, on_progress) for backup in backups]
    bad = [report for report in reports if not report.ok]
    if bad:
        error = Damaged(
            f"{len(bad)} of {len(reports)} backups are damaged: {bad[0].backup_id}: {bad[0].problems[0]}",
            hint="take a new one with: opskit backup; keep the damaged one for the inquiry",
        )
        error.reports = reports
        raise error
    return reports


def _verify(store: ObjectStore, backup: Backup, on_progress: OnProgress) -> Verified:
    problems = [backup.problem] if backup.problem else []
    read = 0
    if backup.manifest is not None:
        total = backup.manifest.size_bytes
        expected = {item.key: item for item in backup.manifest.objects}
        for name, item in expected.items():
            full = catalog.key(backup.id, name)
            before = read

            def moved(size: int, before: int = before, total: int = total) -> None:
                on_progress(Progress(f"verify {backup.id}", before + size, total, "bytes"))

            try:
                for _ in counted(checked(store.get(full), full, size_bytes=item.size_bytes, sha256=item.sha256), moved):
                    pass
            except ObjectMissing:
                problems.append(f"{full} is missing")
            except VerificationFailed as error:
                problems.append(error.message)
            read += item.size_bytes
        if backup.manifest.key_id:
            problems += key_problems(store, backup.id, backup.manifest.key_id)
        known = {catalog.key(backup.id, name) for name in (*expected, *catalog.DOCUMENTS)}
        problems += [
            f"{info.key} does not belong to it" for info in store.objects(f"{backup.id}/") if info.key not in known
        ]
    return Verified(backup.id, "damaged" if problems else backup.state, not problems, tuple(problems), read)
