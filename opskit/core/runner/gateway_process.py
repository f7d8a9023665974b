"""The worker's side of its gateway: lets it register the worker and store results, beside what attempts ask of it."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from opskit.config import Config
from opskit.core.runner import packets, wire
from opskit.core.runner.gateway_owner import GatewayOwner
from opskit.core.runner.ledger import Attempt
from opskit.core.runner.loop import Loop
from opskit.system import daemon

logger = logging.getLogger(__name__)

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
        self._numbers = itertools.count(1)
        self._storing: dict[int, list[wire.Key]] = {}
        self._owner = GatewayOwner(config.home, gateway_socket(config.run_folder))
        self._wait_for_clients()

    def _wait_for_clients(self) -> None:
        self._loop.watch(self._owner.fileno(), lambda _: self._on_client())

    def _on_client(self) -> None:
        """An attempt connects: it is the gateway that accepts."""
        self._start()

    def _start(self) -> bool:
        """Whether a gateway runs. After one that failed at once there is a pause."""
        if self._owner.running:
            return True
        self._loop.forget(self._owner.fileno())
        pause = self._owner.pause()
        if pause > 0:
            self._loop.later(pause, self._wait_for_clients_again)
            return False
        self._owner.start()
        assert self._owner.control is not None
        self._loop.watch(self._owner.control.fileno(), lambda _: self._on_control())
        return True

    def _wait_for_clients_again(self) -> None:
        if not self._owner.running and self._owner.fileno() >= 0:
            self._loop.forget(self._owner.fileno())
            self._wait_for_clients()

    def own_pids(self) -> set[int]:
        return set() if self._owner.process is None else {self._owner.process.pid}

    def reaped(self, pid: int, status: int) -> bool:
        """The worker has reaped a child; whether it was the gateway."""
        if self._owner.process is None or pid != self._owner.process.pid:
            return False
        self._close_control()
        self._owner.ended(os.waitstatus_to_exitcode(status))
        self._storing.clear()  # what was not confirmed is stored again; a result that is there twice is taken once
        if self._owner.fileno() >= 0:
            self._wait_for_clients()
        return True

    def _close_control(self) -> None:
        if self._owner.control is not None:
            self._loop.forget(self._owner.control.fileno())
            self._owner.close_control()

    def _on_control(self) -> None:
        while self._owner.control is not None:
            try:
                packet = packets.receive(self._owner.control)
            except BlockingIOError:
                return
            if packet is None:
                self._close_control()
                return
            keys = self._storing.pop(packet.number, [])
            if packet.kind == b"T":
                self._on_stored(keys)

    def _send(self, kind: bytes, number: int, data: bytes) -> bool:
        if not self._start() or self._owner.control is None:
            return False
        try:
            packets.send(self._owner.control, kind, number, data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False  # it is busy or going: the next tick tries again
        return True

    def beat(self) -> None:
        """Write this worker's row, or its heartbeat. A scheduler that is connected does it for the worker."""
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

    def close(self, *, known: bool) -> None:
        """End the worker's row, and the gateway. `known`: there is a row; without a gateway one is started for it."""
        self._loop.forget(self._owner.fileno())
        if known and not self._owner.running:
            self._owner.start()
        self._owner.close_listener()
        control = self._owner.control
        if control is not None:
            self._loop.forget(control.fileno())
            control.settimeout(10.0)
            try:
                packets.send(control, b"Q", 0, self._worker_id.encode())
                while (packet := packets.receive(control)) is not None and packet.kind != b"Q":
                    pass
            except OSError:
                logger.warning("the gateway did not end this worker's row")
        self._owner.close()
