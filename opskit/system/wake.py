"""Wake-ups between processes of one OPSKIT_HOME: a datagram socket per sleeper. A wake-up is a hint and may be lost."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path


class WakeSocket:
    """A sleeper's end: `fileno()` becomes readable when someone calls `wake`."""

    def __init__(self, run_folder: Path, name: str) -> None:
        self._folder = run_folder / "wake"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / name
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with short_path(self._path) as path:
            self._socket.bind(path)

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> bool:
        """Take all wake-ups that are there; whether there was one."""
        woken = False
        try:
            while self._socket.recv(16):
                woken = True
        except BlockingIOError:
            pass
        return woken

    def wait(self, seconds: float) -> bool:
        """Until a wake-up, or so many seconds; whether there was one."""
        poller = select.poll()  # select() takes no descriptor above 1,023
        poller.register(self._socket, select.POLLIN)
        poller.poll(max(0.0, seconds) * 1000)
        return self.drain()

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


def wake(run_folder: Path, prefix: str = "") -> int:
    """Wake every sleeper of this OPSKIT_HOME whose name starts with `prefix`; how many were there."""
    reached = 0
    folder = run_folder / "wake"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for name in names:
            if not name.startswith(prefix):
                continue
            try:
                with short_path(folder / name) as path:
                    sender.sendto(b"w", path)
                reached += 1
            except ConnectionRefusedError:
                # Its process is gone without a goodbye.
                (folder / name).unlink(missing_ok=True)
            except BlockingIOError:
                reached += 1  # it has unread wake-ups
            except OSError:
                continue
    return reached


class short_path:  # noqa: N801 -- used as a function
    """The path of a Unix socket in at most 107 bytes: a longer one goes through the folder's descriptor."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 100:
            return str(self._path)
        self._descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
