"""The gateway: holds the metastore connection of a worker and of all its attempts; started on demand, leaves when idle.

Attempts ask over `run/gateway.sock` (frames, see gateway_store.py); the worker owns the listening socket, so that a
restart of the gateway refuses nobody. The worker itself speaks packets on a socket pair:

    I 0 {instance}      the worker lives                     no answer
    T number [id, [result, …]]  store these results  → T number, or F number when the metastore is away
    Q 0                 the worker ends: end its row          → Q
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config import Config, load
from opskit.core.runner import packets, processes, wire
from opskit.core.runner.gateway_store import GatewayStore, decode, encode
from opskit.core.runner.loop import READ, WRITE, Loop
from opskit.errors import MetastoreUnavailable, OpskitError
from opskit.system.wake import wake

if TYPE_CHECKING:
    from opskit.core.dag.runtime import RuntimeStore
    from opskit.core.metastore.engine import Engine

__all__ = ["GatewayStore", "main"]

logger = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
CALLS = frozenset(name for name in vars(GatewayStore) if not name.startswith("_")) - {"close"}


class Gateway:
    def __init__(self, config: Config, listener: socket.socket, control: socket.socket) -> None:
        from opskit.core.metastore.direct_store import DirectStore
        from opskit.core.metastore.engine import open_engine

        self._config = config
        self._engine: Engine = open_engine(config)
        self._store: RuntimeStore = DirectStore.open(config)
        self._loop = Loop()
        self._listener = listener
        self._control = control
        self._clients: dict[int, wire.FrameConnection] = {}
        self._last_used = time.monotonic()
        self._left = False
        listener.setblocking(False)
        self._loop.watch(listener.fileno(), self._on_connect)
        self._loop.watch(control.fileno(), self._on_control)

    def serve(self) -> None:
        """Answer, one question of each attempt per turn, until the worker is gone or nobody has asked for a while."""
        while not self._left:
            left = self._last_used + IDLE_SECONDS - time.monotonic()
            if left <= 0:
                return
            self._loop.later(left, lambda: None)
            self._loop.run_once()

    def _on_connect(self, _: int) -> None:
        try:
            connected, _address = self._listener.accept()
        except BlockingIOError:
            return
        client = wire.FrameConnection(connected)
        self._clients[client.fileno()] = client
        self._loop.watch(client.fileno(), lambda bits: self._on_client(client, bits))

    def _on_client(self, client: wire.FrameConnection, bits: int) -> None:
        descriptor = client.fileno()
        try:
            if bits & ~WRITE:
                for request in client.receive():
                    client.put(self._answer(request))
            self._loop.modify(descriptor, READ if client.flush() else READ | WRITE)
        except (wire.ConnectionClosed, wire.ProtocolError):
            self._loop.forget(descriptor)
            del self._clients[descriptor]
            client.close()

    def _answer(self, request: wire.Frame) -> wire.Frame:
        self._last_used = time.monotonic()
        name = request.get("call")
        if name not in CALLS:
            return {"error": ["UsageError", f"there is no call {name!r}", None]}
        try:
            arguments, named = decode(request["args"]), decode(request["named"])
            return {"value": encode(getattr(self._store, name)(*arguments, **named))}
        except OpskitError as error:
            return {"error": [type(error).__name__, error.message, error.hint]}
        except Exception as error:
            logger.exception("%s failed", name)
            return {"error": [type(error).__name__, str(error), None]}
        finally:
            self._last_used = time.monotonic()

    def _on_control(self, _: int) -> None:
        packet = packets.receive(self._control)
        if packet is None:
            self._left = True
            return
        self._last_used = time.monotonic()
        try:
            if packet.kind == b"I":
                self._beat(json.loads(packet.data))
            elif packet.kind == b"T":
                kind = b"T" if self._keep(*json.loads(packet.data)) else b"F"
                packets.send(self._control, kind, packet.number)
            elif packet.kind == b"Q":
                self._end(packet.data.decode())
                packets.send(self._control, b"Q", 0)
        except (BrokenPipeError, ConnectionResetError):
            self._left = True

    def _beat(self, row: dict[str, Any]) -> None:
        from opskit.core.metastore import instances
        from opskit.core.metastore.engine import transaction

        now = datetime.now(UTC)
        try:
            with transaction(self._engine) as connection:
                if not instances.beat(connection, row["instance_id"], now):
                    instances.register(connection, kind="worker", now=now, **row)
        except MetastoreUnavailable as error:
            logger.warning("no heartbeat for the worker: %s", error)

    def _keep(self, worker_id: str, results: list[dict[str, Any]]) -> bool:
        from opskit.core.metastore import results as table
        from opskit.core.metastore.engine import transaction

        now = datetime.now(UTC)
        try:
            with transaction(self._engine) as connection:
                table.put_results(connection, worker_id, results, now)
        except MetastoreUnavailable as error:
            logger.warning("%d results wait for the metastore: %s", len(results), error)
            return False
        wake(self._config.run_folder, "")
        return True

    def _end(self, worker_id: str) -> None:
        from opskit.core.metastore import instances
        from opskit.core.metastore.engine import transaction

        try:
            with transaction(self._engine) as connection:
                instances.end(connection, worker_id, datetime.now(UTC))
        except MetastoreUnavailable as error:
            logger.warning("the worker's row stays open: %s", error)


def main(arguments: list[str]) -> int:
    """`gateway HOME LISTENER CONTROL PARENT`: the descriptors are inherited from the worker."""
    home, listener, control, parent = Path(arguments[0]), int(arguments[1]), int(arguments[2]), int(arguments[3])
    try:
        processes.die_with_parent(parent)
    except processes.ParentGone:
        return 0
    processes.set_name("opskit-gateway")
    from opskit.core.runner import asking
    from opskit.telemetry import logs

    config = load(home)
    logs.setup(config.get("logging", "logging_level"), component="gateway")
    asking.install(config)
    Gateway(config, socket.socket(fileno=listener), socket.socket(fileno=control)).serve()
    return 0


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except OpskitError as error:
        sys.stderr.write(f"opskit gateway: {error.message}\n")
        code = error.exit_code
    os._exit(code)  # nothing of ours is buffered, and connection pools may take their time to close
