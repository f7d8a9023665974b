"""Which files other processes have open."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

_F_SETSIG = 10


def held_below(folder: str) -> frozenset[tuple[int, int]]:
    """(device, inode) of files below a folder that a process has open, as far as this user may see. Constant time for
    a file: it is asked for once, and tells what was so at that moment."""
    prefix = folder.rstrip("/") + "/"
    found = set()
    for pid in _numbers("/proc"):
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # ended, or another user's
        for number in descriptors:
            link = f"/proc/{pid}/fd/{number}"
            try:
                if os.readlink(link).startswith(prefix):
                    status = os.stat(link)
                    found.add((status.st_dev, status.st_ino))
            except OSError:
                continue
    return frozenset(found)


def is_open(directory: int, name: str) -> bool | None:
    """Whether any process has this file open now: the kernel grants a write lease only on a file that nobody has.
    None where that can't be told (another user's file, a file system without leases). OSError when there is none."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        # Whoever opens the file meanwhile has the kernel send us a signal; its default, SIGIO, would end this process.
        fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


def _numbers(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.isdigit()]
    except OSError:
        return []
