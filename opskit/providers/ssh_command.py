"""One command over an open SSH connection: its output as it comes, and its end."""

from __future__ import annotations

import logging
import time
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from opskit.core.dag.exceptions import AirflowException

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 0.5
_BLOCK_BYTES = 32768


def run_command(
    client: Any,
    command: str,
    get_pty: bool,
    environment: dict[str, str] | None,
    seconds: float | None,
    log: logging.Logger,
) -> tuple[int, bytes, bytes]:
    """(exit status, stdout, stderr). AirflowException when it says nothing for `seconds` (None: any time)."""
    stdin, stdout, _ = client.exec_command(command=command, get_pty=get_pty, timeout=seconds, environment=environment)
    channel = stdout.channel
    stdin.close()
    channel.shutdown_write()
    out, err = _Lines(log.info), _Lines(log.warning)
    quiet_since = time.monotonic()
    ended_at: float | None = None
    try:
        while not (channel.eof_received or channel.closed) or channel.recv_ready() or channel.recv_stderr_ready():
            _wait(channel)
            now = time.monotonic()
            while channel.recv_ready():
                out.add(channel.recv(_BLOCK_BYTES))
                quiet_since = now
            while channel.recv_stderr_ready():
                err.add(channel.recv_stderr(_BLOCK_BYTES))
                quiet_since = now
            if channel.exit_status_ready():
                # What it started may hold the streams open for ever; what it wrote itself is on its way.
                ended_at = ended_at or now
                if now - ended_at > _GRACE_SECONDS:
                    break
            elif seconds is not None and now - quiet_since > seconds:
                raise AirflowException("SSH command timed out")
        while not channel.exit_status_ready():
            _wait(channel)
            if seconds is not None and time.monotonic() - quiet_since > seconds:
                raise AirflowException("SSH command timed out")
    finally:
        out.finish()
        err.finish()
        channel.close()
    return int(channel.recv_exit_status()), bytes(out.data), bytes(err.data)


def _wait(channel: Any) -> None:
    """Until something may have come, or a while has passed."""
    if channel.eof_received:
        channel.status_event.wait(_POLL_SECONDS)
        return
    with DefaultSelector() as selector:
        selector.register(channel, EVENT_READ)
        selector.select(_POLL_SECONDS)


class _Lines:
    """Bytes, logged line by line."""

    def __init__(self, log: Any) -> None:
        self.data = bytearray()
        self._log = log
        self._logged = 0

    def add(self, block: bytes) -> None:
        self.data += block
        end = self.data.rfind(b"\n")
        if end >= self._logged:
            self._write(end)
            self._logged = end + 1

    def finish(self) -> None:
        if self._logged < len(self.data):
            self._write(len(self.data))

    def _write(self, end: int) -> None:
        for line in self.data[self._logged : end].split(b"\n"):
            self._log("%s", line.decode("utf-8", "replace").rstrip("\r"))
