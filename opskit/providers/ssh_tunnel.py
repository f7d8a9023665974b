"""A port of this host whose connections end at a port that a remote host reaches, through SSH."""

from __future__ import annotations

import logging
import socketserver
import threading
from select import select
from typing import Any

_log = logging.getLogger("airflow.task.hooks.ssh_tunnel")
_BLOCK_BYTES = 65536


class Tunnel:
    """`start()` opens it, `stop()` closes it and its connections; a `with` block does both."""

    def __init__(self, hook: Any, remote_host: str, remote_port: int, local_port: int = 0) -> None:
        self._hook = hook
        self._target = (remote_host, remote_port)
        self._local_port = local_port
        self._server: _Server | None = None
        self._client: Any = None

    @property
    def is_active(self) -> bool:
        return self._server is not None

    @property
    def local_bind_port(self) -> int:
        """The port on this host. RuntimeError before start()."""
        if self._server is None:
            raise RuntimeError("the tunnel is not open: call start(), or use a with block")
        return int(self._server.server_address[1])

    @property
    def local_bind_address(self) -> tuple[str, int]:
        return "127.0.0.1", self.local_bind_port

    local_bind_host = "127.0.0.1"

    def start(self) -> None:
        if self._server is not None:
            return
        from opskit.providers.ssh import SSHHook

        self._client = SSHHook.get_conn(self._hook)
        try:
            self._server = _Server(("127.0.0.1", self._local_port), self._client.get_transport(), self._target)
        except BaseException:
            self._client.close()
            raise
        threading.Thread(target=lambda server: server.serve_forever(0.1), args=(self._server,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._client.close()  # ends the connections, which server_close waits for
            server.server_close()

    close = stop

    def __enter__(self) -> Tunnel:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], transport: Any, target: tuple[str, int]) -> None:
        self.transport = transport
        self.target = target
        super().__init__(address, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            channel = self.server.transport.open_channel("direct-tcpip", self.server.target, self.client_address)
        except Exception as error:  # noqa: BLE001 -- the one who connected sees a closed connection
            _log.warning("the tunnel can't reach %s:%s: %s", *self.server.target, error)
            return
        with channel:
            other = {channel: self.request, self.request: channel}
            while True:
                ready, _, _ = select(list(other), [], [])
                for side in ready:
                    try:
                        block = side.recv(_BLOCK_BYTES)
                        if block:
                            other[side].sendall(block)
                    except OSError:
                        return
                    if not block:
                        return
