"""Rotates the Fernet key, tells which secrets which key reads, and repairs those that none does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opskit.errors import GuardRefused, UsageError
from opskit.ops import env_apply
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms.base import Platform
from opskit.platforms.secret_keys import SecretKeys
from opskit.system.locks import locked
from opskit.telemetry import metrics

STAGES = ("all", "prepare", "promote", "finish")
BATCH_SIZE = 500
SETTLE_SECONDS = 2.0
"""Time in which a write that began with the old key has ended. Its value is then brought under the new one."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Which key reads what. Keys are fingerprints, the newest first; names are as in `connections/pg/password`."""

    origin: str
    keys: tuple[str, ...]
    counts: Mapping[str, int]
    """Key → secrets that it reads."""
    outdated: tuple[str, ...]
    """Read by an older key only."""
    unreadable: tuple[str, ...]
    in_the_clear: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Whether the newest key alone reads everything."""
        return not (self.outdated or self.unreadable or self.in_the_clear)


@dataclass(frozen=True, slots=True)
class RotateReport:
    dry_run: bool
    steps: tuple[str, ...]
    """What was, or would be, done, in words."""
    newest: str
    reencrypted: int
    retired: tuple[str, ...]
    """Keys that are out of use."""
    still_needed: tuple[str, ...]
    """Older keys that stay, because something is not proven or because they stand in a setting."""
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepairReport:
    dry_run: bool
    recovered: tuple[str, ...]
    """Read by a key of the given files, and brought under the newest one."""
    set: tuple[str, ...]
    emptied: tuple[str, ...]
    unreadable: tuple[str, ...]
    """What is left."""


def audit(platform: Platform) -> AuditReport:
    """Decrypt every secret. ConfigError when there is no key."""
    keys = platform.secret_keys
    known = keys.fingerprints()
    found = keys.secrets()
    report = AuditReport(
        keys.origin,
        tuple(known),
        {key: sum(item.key == key for item in found) for key in known},
        tuple(item.name for item in found if item.key and item.key != known[0]),
        tuple(item.name for item in found if item.is_encrypted and not item.key),
        tuple(item.name for item in found if not item.is_encrypted),
    )
    metrics.gauge("opskit_fernet_secrets_count", len(found))
    metrics.gauge("opskit_fernet_outdated_count", len(report.outdated))
    metrics.gauge("opskit_fernet_unreadable_count", len(report.unreadable))
    return report


def rotate(
    platform: Platform,
    now: datetime,
    *,
    stage: str = "all",
    dry_run: bool = False,
    settle_seconds: float = SETTLE_SECONDS,
    on_progress: OnProgress = silent,
) -> RotateReport:
    """Put a new key in front, bring every secret under it, prove that it alone reads all, then retire the old one.

    Begun again after a kill at any point it goes on where it was: with several keys in the file none is added. Secrets
    that no key reads are named, and keep the old keys in use. GuardRefused while processes on other hosts are alive
    and no `stage` is named: their key files must follow. UsageError for a setting that holds one key only.
    """
    keys = platform.secret_keys
    with locked(platform.config.run_folder, "fernet"):
        before = audit(platform)
        steps = _steps(keys, before, stage)
        if stage == "all":
            _refuse_other_hosts(platform, now)
        if dry_run:
            return RotateReport(True, tuple(steps.values()), before.keys[0], 0, (), before.keys[1:], before.unreadable)
        if "add" in steps:
            keys.add(first=stage == "all")
        if "promote" in steps:
            keys.promote()
        changed, retired = 0, []
        if "reencrypt" in steps:
            changed = _reencrypt(platform, on_progress)
        after = audit(platform)
        if "retire" in steps and after.proven and len(after.keys) > 1:
            retired = keys.retire()
            if _somebody_writes(platform, now):
                time.sleep(settle_seconds)
            changed += _reencrypt(platform, on_progress)
            after = audit(platform)
        platform.audit.write(
            "fernet rotate",
            now,
            {"stage": stage, "newest": after.keys[0], "reencrypted": changed, "retired": retired},
        )
    metrics.gauge("opskit_fernet_rotate_reencrypted_count", changed)
    return RotateReport(
        False, tuple(steps.values()), after.keys[0], changed, tuple(retired), after.keys[1:], after.unreadable
    )


def _steps(keys: SecretKeys, before: AuditReport, stage: str) -> dict[str, str]:
    """What a stage does, by name, in words."""
    if not keys.are_in_a_file:
        if stage in ("prepare", "promote") or (len(before.keys) == 1 and before.proven):
            raise UsageError(
                f"the Fernet keys stand in {keys.origin}, which opskit does not change",
                hint="put a new one (opskit fernet new) in front there, restart what runs, then rotate",
            )
        return {"reencrypt": f"bring all secrets under {before.keys[0]}"}
    several = len(before.keys) > 1
    if stage == "prepare":
        return {} if several else {"add": f"add a key to {keys.origin} that decrypts only"}
    if stage == "promote":
        if not several:
            raise UsageError("there is one key only", hint="first: opskit fernet rotate --stage prepare")
        return {"promote": "encrypt with the last key from now on"}
    steps = {}
    if not several and stage == "all":
        steps["add"] = f"put a new key in front of {keys.origin}"
    if "add" in steps or several or not before.proven:
        steps["reencrypt"] = "bring all secrets under the newest key"
    if "add" in steps or several:
        steps["retire"] = "prove that it alone reads all of them, and take the old keys out of use"
    return steps


def _refuse_other_hosts(platform: Platform, now: datetime) -> None:
    others = sorted(
        {
            component.hostname
            for component in platform.health.observe(now).components
            if not component.local and component.ended_at is None and component.process in ("unknown", "running")
        }
    )
    if others:
        raise GuardRefused(
            f"processes on other hosts use these secrets: {', '.join(others)}",
            hint="rotate in stages, and copy fernet.key to every host after each: --stage prepare, promote, finish",
        )


def _somebody_writes(platform: Platform, now: datetime) -> bool:
    return any(component.ended_at is None for component in platform.health.observe(now).components)


def _reencrypt(platform: Platform, on_progress: OnProgress) -> int:
    def tell(done: int, total: int) -> None:
        on_progress(Progress("re-encrypt", done, total, "rows"))

    changed = platform.secret_keys.reencrypt(BATCH_SIZE, tell)
    with locked(platform.config.run_folder, "env"):
        env_apply.reseal(platform)
    return changed


def repair(
    platform: Platform,
    now: datetime,
    *,
    key_files: Sequence[Path] = (),
    values: Mapping[str, str | None] | None = None,
    dry_run: bool = False,
) -> RepairReport:
    """Bring back secrets that no key of this installation reads: with keys of other files, or with new `values` (None
    empties one). Only secrets that can't be read may be given anew: GuardRefused for another one."""
    keys = platform.secret_keys
    given = dict(values or {})
    with locked(platform.config.run_folder, "fernet"):
        unreadable = audit(platform).unreadable
        wrong = [name for name in given if name not in unreadable]
        if wrong:
            raise GuardRefused(
                f"{wrong[0]} is not among the secrets that can't be read", hint="opskit fernet audit names them"
            )
        recovered: list[str] = []
        if not dry_run:
            if key_files or unreadable:
                recovered = keys.adopt(key_files)
            given = {name: value for name, value in given.items() if name not in recovered}
            if given:
                keys.set(given, now)
            if recovered:
                platform.audit.write("fernet repair", now, {"recovered": recovered})
            unreadable = audit(platform).unreadable
    return RepairReport(
        dry_run,
        tuple(recovered),
        tuple(sorted(name for name, value in given.items() if value is not None)),
        tuple(sorted(name for name, value in given.items() if value is None)),
        unreadable,
    )


def new_key(platform: Platform) -> str:
    """A fresh key, for a setting."""
    return platform.secret_keys.new()
