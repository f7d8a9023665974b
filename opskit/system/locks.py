"""Single flight: one process per verb and OPSKIT_HOME. A lock goes with its holder, so none is ever stale."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from opskit.errors import GuardRefused, LockHeld, OpskitError
from opskit.system.daemon import is_alive, process_started


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds a lock, as the lock file tells it. The file is for people; the lock itself is the kernel's."""

    name: str
    pid: int
    pid_started: float
    """As `daemon.process_started` gives it."""
    boot_id: str
    hostname: str
    since: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.hostname} since {self.since}"


@contextmanager
def locked(run_folder: Path, name: str) -> Iterator[LockOwner]:
    """Hold `run_folder/<name>.lock` for the block. Raises LockHeld, naming the holder, when another process has it.

    The file stays after the block: removing it would let two processes lock two different files of one name.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / f"{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise OpskitError(
            f"{path} can't be opened by this user: {error.strerror}", hint=f"chown --reference={run_folder} {path}"
        ) from error
    try:
        _give_to_owner(descriptor, path, run_folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = read_owner(path)
            who = str(owner) if owner else "another process"
            raise LockHeld(
                f"{name} is running already: {who} holds {path}",
                hint="wait until it has ended; the lock goes with its process, there is nothing to clean up",
            ) from None
        owner = _this_process(name)
        _write(descriptor, json.dumps(asdict(owner)).encode())
        try:
            yield owner
        finally:
            _write(descriptor, b"")
    finally:
        os.close(descriptor)


def _give_to_owner(descriptor: int, path: Path, run_folder: Path) -> None:
    """What root has locked once must not be locked for ever for the user of this OPSKIT_HOME."""
    if os.geteuid() != 0:
        return
    status, folder = os.fstat(descriptor), run_folder.stat()
    if status.st_nlink != 1:
        raise GuardRefused(f"{path} has {status.st_nlink} links: it may be somebody else's file", hint="remove it")
    if status.st_uid == 0 and folder.st_uid != 0:
        os.fchown(descriptor, folder.st_uid, folder.st_gid)


def read_owner(path: Path) -> LockOwner | None:
    """Whoever wrote the lock file last; None for a free lock. It may have ended since: see `holds`."""
    try:
        return LockOwner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def holds(owner: LockOwner) -> bool:
    """Whether the process of an owner on this host lives (another boot, or another process with its pid, is not it)."""
    return owner.boot_id == boot_id() and is_alive(owner.pid, owner.pid_started)


def boot_id() -> str:
    """Changes with every start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _this_process(name: str) -> LockOwner:
    pid = os.getpid()
    return LockOwner(
        name=name,
        pid=pid,
        pid_started=process_started(pid) or 0.0,
        boot_id=boot_id(),
        hostname=socket.gethostname(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _write(descriptor: int, content: bytes) -> None:
    # The new text first, then the cut: a reader never finds the file empty while the lock is held.
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
