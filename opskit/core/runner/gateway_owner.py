"""Who owns a gateway: holds the socket that it answers on, and starts it when someone connects there."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from opskit.core.runner import packets, processes
from opskit.system.wake import short_path

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 5.0
_QUICK_SECONDS = 10.0
"""A gateway that fails sooner than this fails for a lasting reason: there is a growing pause before the next one."""


class GatewayOwner:
    """A listening Unix socket that only this user may connect to, and at most one gateway that accepts there.

    Its user waits for the descriptors: while nothing `running`, for `fileno()` (someone connects: `start`), else for
    `control` (it closes when the gateway ends: `ended`)."""

    def __init__(self, home: Path, path: Path) -> None:
        """`path` is taken over from whoever had it: the caller knows that its owner is gone."""
        self._home = home
        self.path = path
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        """Non-blocking; packets as gateway.py tells."""
        self._began = 0.0
        self._backoff = 0.0
        self._not_before = 0.0
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        with short_path(path) as name:
            self._listener.bind(name)
            os.chmod(name, 0o600)  # nobody gets in before `listen`; a umask would hold for other threads too
        self._listener.listen(512)

    def fileno(self) -> int:
        """Of the listening socket; -1 once closed."""
        return self._listener.fileno()

    @property
    def running(self) -> bool:
        """Whether a gateway was started and is not known to have ended."""
        return self.process is not None

    def pause(self) -> float:
        """Seconds until a gateway may be started; 0.0: now."""
        return max(0.0, self._not_before - time.monotonic())

    def start(self) -> None:
        """Start a gateway; it accepts who has connected. Call it when none is `running` and `pause` is over."""
        ours, theirs = packets.pair()
        ours.setblocking(False)
        descriptors = (self._listener.fileno(), theirs.fileno())
        program = [sys.executable, "-P", "-m", "opskit.core.runner.gateway", str(self._home)]
        with theirs:
            self.process = subprocess.Popen(
                [*program, *map(str, descriptors), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                env={**os.environ, "OPSKIT_HOME": str(self._home)},
            )
        self.control = ours
        self._began = time.monotonic()

    def reap(self) -> None:
        """Take note of the gateway's end, where there was one. Not for a process that waits for all its children."""
        if self.process is not None and self.process.poll() is not None:
            self.ended(self.process.returncode)

    def ended(self, exit_code: int) -> None:
        """The gateway has ended and was reaped."""
        assert self.process is not None
        self.process.returncode = exit_code
        pid, self.process = self.process.pid, None
        self.close_control()
        if exit_code == 0:
            self._backoff = 0.0
        else:
            logger.warning("the gateway %d ended with status %d", pid, exit_code)
            quick = time.monotonic() - self._began < _QUICK_SECONDS
            self._backoff = min(_LONGEST_BACKOFF_SECONDS, self._backoff * 2 or 0.2) if quick else 0.0
        self._not_before = time.monotonic() + self._backoff

    def close_control(self) -> None:
        """Let go of the gateway: it ends by itself."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def close_listener(self) -> None:
        """From now on nobody can connect."""
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def close(self, patience: float = 3.0) -> None:
        """End the gateway (killed after `patience` seconds) and give the name back."""
        self.close_listener()
        self.close_control()
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            processes.kill(process.pid, signal.SIGKILL)
            process.wait()
