"""Cleans the log folder by age and by how much room there is; spares what is in use, and explains what it did."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.errors import GuardRefused
from opskit.ops import logs_decide
from opskit.ops.logs_decide import MAX_SIZE, MIN_FREE, MIN_FREE_INODES, Chooser, Room
from opskit.ops.logs_policy import Policy, Wishes, read_policy
from opskit.ops.logs_remove import Census, Removed, Remover, room_of
from opskit.ops.logs_walk import Tally, Walk
from opskit.ops.progress import OnProgress, silent
from opskit.platforms.base import Platform
from opskit.platforms.folders import Folders, LogStates
from opskit.system.locks import locked
from opskit.system.pace import Pace, io_priority
from opskit.system.trees import Obstacle, opened
from opskit.telemetry import metrics

if TYPE_CHECKING:
    # Without an archive nobody pays for hashes and encryption.
    from opskit.ops.logs_archive import Packer

_ROUNDS = 4
"""A file system may give back less than files seemed to take: then once more, so many times in all."""
_SEEN = "logs-clean.json"


@dataclass(frozen=True, slots=True)
class Target:
    """A limit, and how it stands. Bytes, or inodes."""

    limit: str
    wanted: int
    before: int
    after: int
    """On a dry run: what is expected."""
    reached: bool


@dataclass(frozen=True, slots=True)
class LogsReport:
    """What a clean-up removed (on a dry run: would remove), what it left and why."""

    folder: Path
    at: datetime
    dry_run: bool
    first_use: bool
    """The dry run was not asked for: it was the first clean-up of this folder."""
    logs: int
    size_bytes: int
    disk_bytes: int
    """What the logs take of the disk."""
    removed_logs: int
    removed_bytes: int
    removed_disk_bytes: int
    removed_directories: int
    removed_links: int
    truncated_logs: int
    archived_logs: int
    removed: Mapping[str, int]
    """Reason → number of logs."""
    kept: Mapping[str, int]
    """Reason → number of entries."""
    targets: tuple[Target, ...]
    obstacles: tuple[Obstacle, ...]
    """What could not be read or removed, the first of them."""
    obstacle_count: int

    @property
    def missed(self) -> tuple[Target, ...]:
        return tuple(target for target in self.targets if not target.reached)


def clean(
    platform: Platform,
    *,
    now: datetime,
    wishes: Wishes | None = None,
    dry_run: bool | None = None,
    force: bool = False,
    on_progress: OnProgress = silent,
) -> LogsReport:
    """Remove what is past its age, the oldest of the rest while the limits are not met, and directories that are empty.

    `dry_run` None: dry when this folder is cleaned for the first time. GuardRefused when the log folder is none, or
    when the clock seems wrong and `force` is not given, also on a dry run. MetastoreUnavailable when nobody can say
    which logs are in use. In all these cases nothing was removed (but what had gone before the metastore went away).
    """
    config = platform.config
    policy = read_policy(config, wishes or Wishes())
    folders = platform.folders
    with ExitStack() as stack:
        stack.enter_context(locked(config.run_folder, "logs"))
        root = stack.enter_context(opened(folders.logs))
        _refuse_other_folders(root, folders)
        first_use = dry_run is None and not _was_seen(config, root)
        is_dry = first_use if dry_run is None else dry_run
        stack.enter_context(io_priority(config.get("logs", "io_priority")))
        states = stack.enter_context(folders.log_states())
        job = _Job(root, folders.logs, states, policy, now, is_dry, force, config, on_progress)
        try:
            report = job.run(first_use)
        finally:
            # Also of a clean-up that broke off: what has gone has gone.
            gone = job.removed
            if not is_dry and (gone.logs or gone.directories or gone.truncated):
                extra = {"logs": gone.logs, "bytes": gone.size_bytes, "archived": gone.archived, "why": dict(gone.why)}
                platform.audit.write("logs clean", now, extra)
        _remember(config, root, folders.logs)
    _measure(report)
    return report


class _Job:
    def __init__(
        self,
        root: int,
        folder: Path,
        states: LogStates,
        policy: Policy,
        now: datetime,
        dry_run: bool,
        force: bool,
        config: Config,
        on_progress: OnProgress,
    ) -> None:
        self._root, self._folder, self._states, self._policy, self._now = root, folder, states, policy, now
        self._dry_run, self._force, self._progress = dry_run, force, on_progress
        self._pace = Pace(float(config.get("logs", "rate_limit")))
        self.removed = Removed()
        self._packer: Packer | None = None
        if config.get("logs", "archive_to"):
            from opskit.ops.logs_archive import Packer, archive_store

            store, recipients = archive_store(config), config.get("logs", "recipients")
            assert store is not None
            self._packer = Packer(store, recipients, root, now, self.removed, self._pace)

    def run(self, first_use: bool) -> LogsReport:
        removed = self.removed
        first: Tally
        before: Room
        for turn in range(_ROUNDS):
            census = Census()
            seen = self._walk(census, "looking at logs")
            room = room_of(self._root, seen.disk_bytes)
            wanted = logs_decide.needs(census.histogram, room, self._policy)
            cuts = [logs_decide.cut(census.histogram, need) for need in wanted]
            if turn == 0:
                first, before = seen, room
                self._guard(seen, logs_decide.going(census.histogram, cuts))
            gone_before = (removed.logs, removed.truncated, removed.directories)
            remover = Remover(
                self._root,
                Chooser(cuts),
                self._policy,
                room,
                removed,
                dry_run=self._dry_run,
                pace=self._pace,
                archiver=self._packer,
            )
            last = self._walk(remover, "removing logs" if not self._dry_run else "choosing logs")
            targets = self._targets(before, removed)
            progressed = (removed.logs, removed.truncated, removed.directories) != gone_before
            if self._dry_run or not progressed or all(target.reached for target in targets):
                break
        whole = last if first.weight > 1 else first  # a sample is no count
        return LogsReport(
            folder=self._folder,
            at=self._now,
            dry_run=self._dry_run,
            first_use=first_use,
            logs=whole.logs,
            size_bytes=whole.size_bytes,
            disk_bytes=whole.disk_bytes,
            removed_logs=removed.logs,
            removed_bytes=removed.size_bytes,
            removed_disk_bytes=removed.disk_bytes,
            removed_directories=removed.directories,
            removed_links=removed.links,
            truncated_logs=removed.truncated,
            archived_logs=removed.archived,
            removed=dict(sorted(removed.why.items())),
            kept=dict(sorted(last.kept.items())),
            targets=targets,
            obstacles=tuple(last.obstacles),
            obstacle_count=last.obstacle_count,
        )

    def _walk(self, hands: Census | Remover, step: str) -> Tally:
        measured = self._policy.has_limits
        # Without limits the first look is only there to notice a wrong clock: that shows in a part of a large tree too.
        sampling = isinstance(hands, Census) and not measured
        walk = Walk(
            self._states,
            self._policy,
            self._now.timestamp(),
            hands,
            self._progress,
            step,
            measured=measured,
            sampling=sampling,
        )
        hands.tally = walk.tally
        if self._packer:
            self._packer.tally = walk.tally
        walk.run(self._root)
        if self._packer and isinstance(hands, Remover):
            self._packer.flush()
        return walk.tally

    def _guard(self, seen: Tally, going: int) -> None:
        refusal = logs_decide.why_not(seen.logs, going, seen.future, self._policy.max_percent)
        if refusal and not self._force:
            raise GuardRefused(
                f"{self._folder}: {refusal}", hint="look at the clock and at --dry-run --force; then --force"
            )

    def _targets(self, before: Room, removed: Removed) -> tuple[Target, ...]:
        policy, won, names = self._policy, removed.disk_bytes, removed.logs + removed.directories + removed.links
        after = before if self._dry_run else room_of(self._root, 0)
        found = []
        if policy.max_size:
            wanted, left = policy.max_size.of(before.size_bytes), before.logs_disk_bytes - won
            found.append(Target(MAX_SIZE, wanted, before.logs_disk_bytes, left, left <= wanted))
        if policy.min_free:
            wanted, free = policy.min_free.of(before.size_bytes), after.free_bytes + (won if self._dry_run else 0)
            found.append(Target(MIN_FREE, wanted, before.free_bytes, free, free >= wanted))
        if policy.min_free_inodes and before.inodes:
            wanted, free = policy.min_free_inodes.of(before.inodes), after.free_inodes + (names if self._dry_run else 0)
            found.append(Target(MIN_FREE_INODES, wanted, before.free_inodes, free, free >= wanted))
        return tuple(found)


def _refuse_other_folders(root: int, folders: Folders) -> None:
    if not folders.is_log_folder(os.listdir(root)):
        raise GuardRefused(
            f"{folders.logs} holds no task logs, but other things",
            hint="set base_log_folder in [logging] to the folder with the dag_id=… directories",
        )


def _was_seen(config: Config, root: int) -> bool:
    """Whether this very folder was cleaned, or shown in a dry run, before."""
    try:
        seen = json.loads((config.run_folder / _SEEN).read_text())
        return bool(seen["inode"] == os.fstat(root).st_ino)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _remember(config: Config, root: int, folder: Path) -> None:
    if not _was_seen(config, root):
        path = config.run_folder / _SEEN
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps({"folder": str(folder), "inode": os.fstat(root).st_ino}))
        fresh.replace(path)


def _measure(report: LogsReport) -> None:
    if not report.dry_run:
        metrics.gauge("opskit_logs_clean_removed_logs", report.removed_logs)
        metrics.gauge("opskit_logs_clean_removed_bytes", report.removed_disk_bytes)
        metrics.gauge("opskit_logs_clean_removed_directories", report.removed_directories)
        metrics.gauge("opskit_logs_clean_archived_logs", report.archived_logs)
    metrics.gauge("opskit_logs_clean_logs", report.logs)
    metrics.gauge("opskit_logs_clean_logs_bytes", report.disk_bytes)
    metrics.gauge("opskit_logs_clean_obstacles", report.obstacle_count)
    for target in report.targets:
        metrics.gauge("opskit_logs_clean_target_reached", target.reached, limit=target.limit)
