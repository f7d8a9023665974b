"""Removes task logs by age. The metastore says which logs are in use; the tree is walked by descriptors only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opskit.errors import GuardRefused, UsageError
from opskit.platforms.base import Folders, LiveLogs, Platform
from opskit.system.locks import locked
from opskit.system.trees import Entry, Obstacle, mounts_below, opened, walk

FUTURE = timedelta(minutes=10)
"""A log that was written so far after now shows that a clock is wrong."""
SHOWN = 100
"""Obstacles that a report names; all are counted."""


@dataclass(frozen=True, slots=True)
class Policy:
    max_age: timedelta
    max_percent: float
    """More than this share of all task logs is not removed without force."""


@dataclass(frozen=True, slots=True)
class LogsReport:
    """What a clean-up removed (on a dry run: would remove), what it left and why."""

    folder: Path
    dry_run: bool
    cutoff: datetime
    """Logs written before it are old."""
    logs: int
    size_bytes: int
    removed_logs: int
    removed_bytes: int
    removed_directories: int
    kept: Mapping[str, int]
    """Reason → number of entries."""
    obstacles: tuple[Obstacle, ...]
    """What could not be read or removed, the first SHOWN of them."""
    obstacle_count: int


@dataclass(slots=True)
class _Tally:
    logs: int = 0
    size_bytes: int = 0
    removed_logs: int = 0
    removed_bytes: int = 0
    removed_directories: int = 0
    future: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    obstacles: list[Obstacle] = field(default_factory=list)
    obstacle_count: int = 0

    def meet(self, obstacle: Obstacle) -> None:
        self.obstacle_count += 1
        if len(self.obstacles) < SHOWN:
            self.obstacles.append(obstacle)


def clean(
    platform: Platform,
    *,
    now: datetime,
    max_age_days: float | None = None,
    max_percent: float | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> LogsReport:
    """Remove the logs of attempts that ended more than `max_age_days` ago, and directories that are empty then.

    GuardRefused when the log folder is none, or when the clock seems wrong and `force` is not given, also on a dry
    run. MetastoreUnavailable when nobody can say which logs are in use. In both cases nothing was removed.
    """
    config = platform.config
    policy = Policy(
        timedelta(days=_given(max_age_days, config.get("logs", "max_age_days"))),
        _given(max_percent, config.get("logs", "max_percent")),
    )
    if policy.max_age < timedelta(0) or not 0 <= policy.max_percent <= 100:
        raise UsageError("an age is not negative, and a share is between 0 and 100 percent")
    folders = platform.folders
    with locked(config.run_folder, "logs"), opened(folders.logs) as root:
        _refuse_other_folders(root, folders)
        live = folders.live_logs()
        mounts = mounts_below(root)
        cutoff = now - policy.max_age
        tally = _sweep(root, folders, live, mounts, cutoff, now, _Dry())
        refusal = None if force else why_not(tally.logs, tally.removed_logs, tally.future, policy)
        if refusal:
            raise GuardRefused(
                f"{folders.logs}: {refusal}", hint="look at the clock and at --dry-run --force; then --force"
            )
        if not dry_run and (tally.removed_logs or tally.removed_directories):
            tally = _sweep(root, folders, live, mounts, cutoff, now, _Remover())
    report = LogsReport(
        folder=folders.logs,
        dry_run=dry_run,
        cutoff=cutoff,
        logs=tally.logs,
        size_bytes=tally.size_bytes,
        removed_logs=tally.removed_logs,
        removed_bytes=tally.removed_bytes,
        removed_directories=tally.removed_directories,
        kept=dict(sorted(tally.kept.items())),
        obstacles=tuple(tally.obstacles),
        obstacle_count=tally.obstacle_count,
    )
    if not dry_run and report.removed_logs:
        extra = {"logs": report.removed_logs, "bytes": report.removed_bytes, "older_than": cutoff.isoformat()}
        platform.audit.write("logs clean", now, extra)
    return report


def reason_to_keep(
    path: str, is_file: bool, written: datetime, cutoff: datetime, live: LiveLogs, folders: Folders
) -> str:
    """Why an entry stays; empty when it is an old log."""
    if not is_file:
        return "no regular file"
    if not folders.is_task_log(path):
        return "no task log"
    if written >= cutoff:
        return "young"
    if path.rsplit("/", 1)[0] in live.tasks:
        return "in use"
    return ""


def why_not(logs: int, old: int, future: int, policy: Policy) -> str:
    """Why a clean-up that would remove `old` of `logs` logs looks like a mistake; empty when it does not."""
    if future:
        return f"{future} of {logs} logs were written in the future: the clock is or was wrong"
    if logs and 100 * old > policy.max_percent * logs:
        return f"{old} of {logs} logs would go, which is more than {policy.max_percent:g} %"
    return ""


class _Dry:
    """Says what would be removed."""

    def log(self, entry: Entry) -> str:
        return ""

    def directory(self, entry: Entry) -> str:
        return ""


class _Remover:
    """Removes an entry if it is still what was seen. Gives the reason where it stays."""

    def log(self, entry: Entry) -> str:
        if entry.unchanged() is None:
            return "changed during the clean-up"
        try:
            os.unlink(entry.name, dir_fd=entry.directory)
        except FileNotFoundError:
            return "changed during the clean-up"
        return ""

    def directory(self, entry: Entry) -> str:
        try:
            os.rmdir(entry.name, dir_fd=entry.directory)
        except OSError:
            return "not empty"  # or swapped, or gone: rmdir removes nothing but an empty directory
        return ""


def _sweep(
    root: int,
    folders: Folders,
    live: LiveLogs,
    mounts: frozenset[str],
    cutoff: datetime,
    now: datetime,
    remover: _Dry | _Remover,
) -> _Tally:
    tally = _Tally()
    latest = (now + FUTURE).timestamp()
    limit = cutoff.timestamp()
    stay = [0]  # entries that stay, for each directory from the root to where we are
    emptied = ""  # path of what was removed last
    is_live: Callable[[str], bool] = lambda path: path in live.runs or path in live.tasks  # noqa: E731
    for entry in walk(root, obstacle=tally.meet, mounts=mounts):
        depth = entry.path.count("/")
        if entry.is_directory and not entry.left:
            del stay[depth + 1 :]
            stay[depth] += 1
            stay.append(0)
        elif entry.is_directory:
            worth = emptied.startswith(entry.path + "/") or entry.status.st_mtime < limit
            if stay[depth + 1] == 0 and worth and folders.is_log_directory(entry.path) and not is_live(entry.path):
                reason = remover.directory(entry)
                if not reason:
                    stay[depth] -= 1
                    tally.removed_directories += 1
                    emptied = entry.path
        else:
            del stay[depth + 1 :]
            written = entry.status.st_mtime
            moment = datetime.fromtimestamp(written, UTC) if written < latest else now
            reason = reason_to_keep(entry.path, entry.is_file, moment, cutoff, live, folders)
            if entry.is_file and folders.is_task_log(entry.path):
                tally.logs += 1
                tally.size_bytes += entry.status.st_size
                tally.future += written > latest
            if not reason:
                try:
                    reason = remover.log(entry)
                except OSError as error:
                    tally.meet(Obstacle(entry.path, error.strerror or str(error)))
                    reason = "could not be removed"
            if reason:
                stay[depth] += 1
                tally.kept[reason] += 1
            else:
                tally.removed_logs += 1
                tally.removed_bytes += entry.status.st_size
                emptied = entry.path
    return tally


def _refuse_other_folders(root: int, folders: Folders) -> None:
    if not folders.is_log_folder(os.listdir(root)):
        raise GuardRefused(
            f"{folders.logs} holds no task logs, but other things",
            hint="set base_log_folder in [logging] to the folder with the dag_id=… directories",
        )


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
