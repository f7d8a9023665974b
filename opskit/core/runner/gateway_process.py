"""The worker's side of its gateway: owns the socket that attempts connect to, starts the gateway when one does."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from opskit.config import Config
from opskit.core.runner import packets, processes, wire
from opskit.core.runner.ledger import Attempt
from opskit.core.runner.loop import Loop
from opskit.system import daemon
from opskit.system.wake import short_path

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 5.0
_RESULTS_PER_PACKET = 200


def gateway_socket(run_folder: Path) -> Path:
    return run_folder / "gateway.sock"


class GatewayProcess:
    """At most one gateway. What is told to it while it is away starts it."""

    def __init__(
        self,
        config: Config,
        loop: Loop,
        worker_id: str,
        started_at: datetime,
        on_stored: Callable[[list[wire.Key]], None],
    ) -> None:
        self._config = config
        self._loop = loop
        self._worker_id = worker_id
        self._started_at = started_at
        self._on_stored = on_stored
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._began = 0.0
        self._backoff = 0.0
        self._not_before = 0.0
        self._registered = False
        self._numbers = itertools.count(1)
        self._storing: dict[int, list[wire.Key]] = {}
        self._listener = self._listen()
        self._wait_for_clients()

    def _listen(self) -> socket.socket:
        path = gateway_socket(self._config.run_folder)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with short_path(path) as name:
                listener.bind(name)
        finally:
            os.umask(before)
        listener.listen(512)
        return listener

    def _wait_for_clients(self) -> None:
        self._loop.watch(self._listener.fileno(), lambda _: self._on_client())

    def _on_client(self) -> None:
        """An attempt connects: it is the gateway that accepts."""
        self._loop.forget(self._listener.fileno())
        self._start()

    def _start(self) -> bool:
        """Whether a gateway runs. After one that failed at once there is a pause."""
        if self._process is not None:
            return True
        now = time.monotonic()
        if now < self._not_before:
            self._loop.forget(self._listener.fileno())
            self._loop.later(self._not_before - now, self._wait_for_clients_again)
            return False
        self._loop.forget(self._listener.fileno())
        ours, theirs = packets.pair()
        ours.setblocking(False)
        descriptors = (self._listener.fileno(), theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "opskit.core.runner.gateway",
                    str(self._config.home),
                    *map(str, descriptors),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                env={**os.environ, "OPSKIT_HOME": str(self._config.home)},
            )
        self._control = ours
        self._began = now
        self._loop.watch(ours.fileno(), lambda _: self._on_control())
        return True

    def _wait_for_clients_again(self) -> None:
        if self._process is None and self._listener.fileno() >= 0:
            self._loop.forget(self._listener.fileno())
            self._wait_for_clients()

    def own_pids(self) -> set[int]:
        return set() if self._process is None else {self._process.pid}

    def reaped(self, pid: int, status: int) -> bool:
        """The worker has reaped a child; whether it was the gateway."""
        if self._process is None or pid != self._process.pid:
            return False
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._process = None
        self._close_control()
        self._storing.clear()  # what was not confirmed is stored again; a result that is there twice is taken once
        if status == 0:
            self._backoff = 0.0
        else:
            logger.warning("the gateway %d ended with status %d", pid, os.waitstatus_to_exitcode(status))
            quick = time.monotonic() - self._began < 10.0
            self._backoff = min(_LONGEST_BACKOFF_SECONDS, self._backoff * 2 or 0.2) if quick else 0.0
        self._not_before = time.monotonic() + self._backoff
        if self._listener.fileno() >= 0:
            self._wait_for_clients()
        return True

    def _close_control(self) -> None:
        if self._control is not None:
            self._loop.forget(self._control.fileno())
            self._control.close()
            self._control = None

    def _on_control(self) -> None:
        while self._control is not None:
            try:
                packet = packets.receive(self._control)
            except BlockingIOError:
                return
            if packet is None:
                self._close_control()
                return
            keys = self._storing.pop(packet.number, [])
            if packet.kind == b"T":
                self._on_stored(keys)

    def _send(self, kind: bytes, number: int, data: bytes) -> bool:
        if not self._start() or self._control is None:
            return False
        try:
            packets.send(self._control, kind, number, data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False  # it is busy or going: the next tick tries again
        return True

    def register_once(self) -> None:
        """Let the metastore know this worker, once after its start."""
        if not self._registered:
            self._registered = self._send(b"I", 0, self._instance())

    def beat(self) -> None:
        self._send(b"I", 0, self._instance())

    def _instance(self) -> bytes:
        return json.dumps(
            {
                "instance_id": self._worker_id,
                "hostname": socket.gethostname(),
                "home": str(self._config.home),
                "pid": os.getpid(),
                "pid_started": daemon.process_started(os.getpid()),
            }
        ).encode()

    def store(self, attempts: list[Attempt]) -> None:
        """Keep these results in the metastore; `on_stored` is called with the keys that are durable."""
        under_way = {key for keys in self._storing.values() for key in keys}
        wanted = [attempt for attempt in attempts if attempt.key not in under_way]
        for at in range(0, len(wanted), _RESULTS_PER_PACKET):
            some = wanted[at : at + _RESULTS_PER_PACKET]
            number = next(self._numbers)
            # The results are JSON already.
            data = b'["%s",[%s]]' % (self._worker_id.encode(), b",".join(attempt.result for attempt in some))
            if not self._send(b"T", number, data):
                return
            self._storing[number] = [attempt.key for attempt in some]

    def close(self) -> None:
        """End the worker's row where a gateway runs that can do it, and the gateway."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        gateway_socket(self._config.run_folder).unlink(missing_ok=True)
        process = self._process
        if process is None:
            return  # a scheduler or the watchdog finds by itself that our process is gone
        if self._control is not None:
            self._control.settimeout(3.0)
            try:
                packets.send(self._control, b"Q", 0, self._worker_id.encode())
                while (packet := packets.receive(self._control)) is not None and packet.kind != b"Q":
                    pass
            except OSError:
                logger.warning("the gateway did not end this worker's row")
        self._close_control()
        try:
            process.wait(3.0)
        except subprocess.TimeoutExpired:
            processes.kill(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None
