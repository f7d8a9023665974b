"""How much room this machine has: file systems, memory, and what processes use of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that a folder lies on."""

    path: Path
    size_bytes: int
    free_bytes: int
    """For users other than root."""
    inodes: int
    """0: this file system has no fixed number of them."""
    free_inodes: int
    device: int


def disk_of(path: Path) -> Disk:
    """Of the nearest folder that exists. OSError when it can't be read."""
    while not path.exists() and path != path.parent:
        path = path.parent
    found = os.statvfs(path)
    return Disk(
        path,
        found.f_blocks * found.f_frsize,
        found.f_bavail * found.f_frsize,
        found.f_files,
        found.f_favail,
        path.stat().st_dev,
    )


def memory_bytes() -> int:
    """RAM of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int | None:
    """RAM that a process uses; None when it is gone or not ours to see."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
