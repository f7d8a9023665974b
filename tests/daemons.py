"""Daemons of opskit as processes, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import warm
from tests.waiting import wait_until


class Daemon:
    """A running `opskit <command>`; its log lines go to a file."""

    def __init__(self, command: str, log: Path, environment: dict[str, str]) -> None:
        self._log = log
        with log.open("ab") as file:
            self.process = warm.start(command, env=environment, output=file.fileno())
        self.pid = self.process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_line(self, text: str, count: int = 1, timeout: float = 30.0) -> None:
        """Until the log has `text` so often."""
        wait_until(lambda: self.log().count(text) >= count, timeout, what=lambda: f"{text!r} in:\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Send a signal and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not stop:\n{self.log()}") from None


@contextmanager
def running(command: str, home: Path, **settings: str) -> Iterator[Daemon]:
    """A daemon of this OPSKIT_HOME; `settings` are environment variables without their prefix `OPSKIT__`."""
    environment = {**os.environ, "OPSKIT_HOME": str(home)}
    environment.update({f"OPSKIT__{name.upper()}": value for name, value in settings.items()})
    daemon = Daemon(command, home / f"{command}.log", environment)
    try:
        yield daemon
    finally:
        daemon.stop()
