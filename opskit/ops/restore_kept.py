"""What restores have replaced: shown, put back, or let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opskit.errors import GuardRefused, MetastoreUnavailable, NotFound
from opskit.platforms import Platform
from opskit.platforms.metastore import Kept
from opskit.system.locks import locked


@dataclass(frozen=True, slots=True)
class KeptReport:
    """`kept` are the metastores that are kept now, the newest first."""

    live: str
    kept: tuple[Kept, ...]
    put_back: str = ""
    removed: tuple[str, ...] = ()
    dry_run: bool = False
    warnings: tuple[str, ...] = ()


def status(platform: Platform) -> KeptReport:
    """Which replaced metastores are kept beside the live one. An empty list: every restore is committed."""
    return KeptReport(platform.metastore.redacted(), tuple(platform.metastore.kept()))


def undo(platform: Platform, now: datetime, *, name: str = "", dry_run: bool = False) -> KeptReport:
    """Exchange the live metastore with the one that the last restore replaced (or with `name`), in one step.

    The live one is kept then, so that an undo of an undo brings it back. GuardRefused while anything uses it. The
    metastore comes back exactly as it was: its attempts that ran then are treated by the scheduler as after a crash.
    """
    with locked(platform.config.run_folder, "restore"):
        chosen = _choose(platform, name)
        users = platform.metastore.in_use_by(now)
        if users:
            raise GuardRefused(
                f"not undone: the metastore is in use by {', '.join(users[:3])}", hint="stop it, then try again"
            )
        if dry_run:
            return KeptReport(
                platform.metastore.redacted(), tuple(platform.metastore.kept()), put_back=chosen.name, dry_run=True
            )
        kept = platform.metastore.put_back(chosen.name, now)
        warnings = _audit(platform, "restore undo", now, {"put_back": chosen.name, "kept": kept})
        report = status(platform)
    return KeptReport(report.live, report.kept, put_back=chosen.name, warnings=warnings)


def commit(platform: Platform, now: datetime, *, name: str = "", dry_run: bool = False) -> KeptReport:
    """Remove the kept metastores (or only `name`) for good. Nothing kept: nothing to do."""
    with locked(platform.config.run_folder, "restore"):
        going: Sequence[Kept] = [_choose(platform, name)] if name else platform.metastore.kept()
        names = tuple(one.name for one in going)
        if dry_run or not names:
            return KeptReport(
                platform.metastore.redacted(), tuple(platform.metastore.kept()), removed=names, dry_run=dry_run
            )
        # The line first: it must not be lost with what it tells of.
        warnings = _audit(platform, "restore commit", now, {"removed": names})
        for one in names:
            platform.metastore.drop_kept(one)
        report = status(platform)
    return KeptReport(report.live, report.kept, removed=names, warnings=warnings)


def _choose(platform: Platform, name: str) -> Kept:
    kept = platform.metastore.kept()
    for one in kept:
        if not name or one.name == name:
            return one
    some = ", ".join(one.name for one in kept[:3])
    raise NotFound(
        f"no metastore {name!r} is kept" if name else "no replaced metastore is kept: there is nothing to undo",
        hint=f"there is {some}" if some else "a restore keeps what it replaces until: opskit restore commit",
    )


def _audit(platform: Platform, event: str, now: datetime, extra: dict[str, object]) -> tuple[str, ...]:
    try:
        platform.audit.write(event, now, extra)
    except MetastoreUnavailable as error:
        return (f"the audit line was not written: {error.message}",)
    return ()
