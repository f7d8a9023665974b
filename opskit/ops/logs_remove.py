"""What the walk's hands do: count what could go, and remove what has been chosen."""

from __future__ import annotations

import os
import stat
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from opskit.ops.logs_decide import (
    GOES,
    MAX_SIZE,
    MIN_FREE,
    MIN_FREE_INODES,
    STAYS,
    Chooser,
    Histogram,
    Room,
)
from opskit.ops.logs_policy import Policy
from opskit.ops.logs_walk import Log, Tally
from opskit.system.open_files import held_below, is_open
from opskit.system.pace import Pace
from opskit.system.trees import identity

_LOOK_EVERY = 64
"""Removals between two looks at the free room."""
_HELD_SECONDS = 15.0


def room_of(root: int, logs_disk_bytes: int) -> Room:
    status = os.fstatvfs(root)
    return Room(
        logs_disk_bytes=logs_disk_bytes,
        free_bytes=status.f_bavail * status.f_frsize,
        size_bytes=status.f_blocks * status.f_frsize,
        free_inodes=status.f_favail,
        inodes=status.f_files,
    )


class Census:
    """Counts what may go, by age. Touches nothing."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.tally = Tally()

    def log(self, log: Log) -> int:
        self.histogram.add(log.step, log.disk_bytes, self.tally.weight)
        return log.step

    def directory(self, parent: int, name: str, path: str, content: int, status: os.stat_result | None) -> int:
        step = min(content, GOES)
        self.histogram.add(step, status.st_blocks * 512 if status else 0, 0)
        return step

    def link(self, directory: int, name: str, path: str) -> int:
        return GOES


@dataclass(slots=True)
class Removed:
    """What has gone (on a dry run: would go), over all rounds."""

    logs: int = 0
    size_bytes: int = 0
    disk_bytes: int = 0
    directories: int = 0
    links: int = 0
    truncated: int = 0
    archived: int = 0
    why: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, log: Log, why: str) -> None:
        self.logs += 1
        self.size_bytes += log.status.st_size
        self.disk_bytes += log.disk_bytes
        self.why[why] += 1


class Archiver(Protocol):
    def add(self, log: Log, why: str) -> None:
        """Take a copy of a log; it is removed once the copy is proved."""
        ...


class Remover:
    """Removes what the chooser names, if it is still what was seen and where it was seen. Dry, it only counts."""

    def __init__(
        self,
        root: int,
        chooser: Chooser,
        policy: Policy,
        room: Room,
        removed: Removed,
        *,
        dry_run: bool,
        pace: Pace,
        archiver: Archiver | None = None,
    ) -> None:
        self.tally: Tally
        self._root, self._chooser, self._policy, self._room, self._removed = root, chooser, policy, room, removed
        self._dry_run, self._pace, self._archiver = dry_run, pace, archiver
        self._root_path = _path_of(root)
        self._checked = ""
        self._held: frozenset[tuple[int, int]] = frozenset()
        self._held_at = float("-inf")
        self._since_look = 0
        self._won = 0

    def log(self, log: Log) -> int:
        why = self._chooser.why(log.step, max(1, log.disk_bytes))
        if not why:
            return self._keep("young")
        if log.is_daemons:
            held = is_open(log.directory, log.name)
            if held or (held is None and self._is_held(log)):
                return self._truncate(log, why)
        elif self._is_held(log):
            return self._keep("open in a process")
        if self._dry_run:
            if self._archiver:
                self._removed.archived += 1
            return self._gone(log, why)
        if self._archiver:
            self._archiver.add(log, why)
            self._won += log.disk_bytes
            self._look()
            return STAYS  # until the archive is proved
        self._pace.step()
        if not self._is_in_place(log.directory, log.path):
            return self._keep("moved during the clean-up")
        if not unlink(log):
            return self._keep("changed during the clean-up")
        return self._gone(log, why)

    def directory(self, parent: int, name: str, path: str, content: int, status: os.stat_result | None) -> int:
        if content < GOES:
            return STAYS
        if not self._dry_run:
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError:
                return STAYS  # not empty any more, swapped or gone: rmdir removes nothing but an empty directory
        self._removed.directories += 1
        if status:
            self._removed.disk_bytes += status.st_blocks * 512
            self._won += status.st_blocks * 512
        return GOES

    def link(self, directory: int, name: str, path: str) -> int:
        if not self._dry_run:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode) or not self._is_in_place(directory, path):
                return self._keep("changed during the clean-up")
            os.unlink(name, dir_fd=directory)
        self._removed.links += 1
        return GOES

    def _gone(self, log: Log, why: str) -> int:
        self._removed.add(log, why)
        self._won += log.disk_bytes
        self._look()
        return GOES

    def _truncate(self, log: Log, why: str) -> int:
        """Give back the room of a file that a process holds: unlinked, it would keep its room and lose its name."""
        if not self._dry_run:
            if self._archiver:
                return self._keep("open in a process")  # what it writes meanwhile would be lost
            descriptor = os.open(log.name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=log.directory)
            try:
                if identity(os.fstat(descriptor)) != identity(log.status):
                    return self._keep("changed during the clean-up")
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
        self._removed.truncated += 1
        self._removed.size_bytes += log.status.st_size
        self._removed.disk_bytes += log.disk_bytes
        self._removed.why[why] += 1
        self._won += log.disk_bytes
        self._look()
        return STAYS

    def _look(self) -> None:
        """Take no more for a limit that is met."""
        self._since_look += 1
        limits = self._chooser.limits
        if not limits:
            return
        policy, room = self._policy, self._room
        if policy.max_size and room.logs_disk_bytes - self._won <= policy.max_size.of(room.size_bytes):
            self._chooser.enough(MAX_SIZE)
        if self._dry_run or self._since_look < _LOOK_EVERY:
            return
        self._since_look = 0
        now = room_of(self._root, 0)
        if policy.min_free and now.free_bytes >= policy.min_free.of(now.size_bytes):
            self._chooser.enough(MIN_FREE)
        if policy.min_free_inodes and now.free_inodes >= policy.min_free_inodes.of(now.inodes):
            self._chooser.enough(MIN_FREE_INODES)

    def _is_held(self, log: Log) -> bool:
        if time.monotonic() - self._held_at > _HELD_SECONDS:
            self._held = held_below(self._root_path)
            self._held_at = time.monotonic()
        return (log.status.st_dev, log.status.st_ino) in self._held

    def _is_in_place(self, directory: int, path: str) -> bool:
        """Whether an open directory still lies where the walk found it: what was moved out is no log any more."""
        if path != self._checked:
            where = f"{self._root_path}/{path}" if path else self._root_path
            if self._root_path and _path_of(directory) != where:
                return False
            self._checked = path
        return True

    def _keep(self, reason: str) -> int:
        self.tally.kept[reason] += 1
        return STAYS


def unlink(log: Log) -> bool:
    """Remove a log that is still the one that was judged, and was not written since; whether it was."""
    now = os.stat(log.name, dir_fd=log.directory, follow_symlinks=False)
    if identity(now) != identity(log.status) or now.st_mtime_ns != log.status.st_mtime_ns:
        return False
    os.unlink(log.name, dir_fd=log.directory)
    return True


def _path_of(descriptor: int) -> str:
    """Where an open directory lies now; empty where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
