"""uvicorn in one process of the webserver: by itself, or as a worker that a supervisor gives its connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from opskit.config import Config
from opskit.errors import ConfigError
from opskit.web import live
from opskit.web.board import Seat
from opskit.web.turns import Turns

log = logging.getLogger(__name__)
PROOF_SECONDS = 2.0
TURN_SECONDS = 0.5
_AT_ONCE = 16
"""Connections that are taken before the event loop goes on."""


def settings_of(config: Config, app: FastAPI) -> uvicorn.Config:
    """Loaded, so that forks share it. ConfigError when the certificate can't be used."""
    certificate, key = (str(config.get("webserver", f"web_server_ssl_{part}")) or None for part in ("cert", "key"))
    made = uvicorn.Config(
        app,
        loop="uvloop",  # one way, whatever else is installed here
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        made.load()
    except (OSError, ssl.SSLError, ValueError) as error:
        if certificate is None and key is None:
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"the webserver can't use certificate {certificate or '(none)'} with key {key or '(none)'}: {reason}",
            hint="see webserver.web_server_ssl_cert and webserver.web_server_ssl_key: both PEM, and readable",
        ) from error
    return made


class Server(uvicorn.Server):
    """uvicorn, that shows on its seat that it gets on, and may get its connections through a channel.

    `ready` is called when it serves, `proven` each time that it could have answered.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        seat: Seat,
        threads: int,
        *,
        channel: socket.socket | None = None,
        ready: Callable[[], None] = lambda: None,
        proven: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._seat = seat
        self._threads = threads
        assert isinstance(config.app, FastAPI)
        self._turns: Turns = config.app.state.turns
        self._channel = channel
        self._ready = ready
        self._proven = proven
        self._taken = 0
        self._not_said = 0
        self._own: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = self._threads
        self._turns.open(self._threads)
        await super().startup(sockets if self._channel is None else [])
        if self._channel is not None:
            self._channel.setblocking(False)
            asyncio.get_running_loop().add_reader(self._channel, self._take)
            self._seat.turn()
            self._say_taken(0)  # the supervisor need not wait for its next look
        self._begin(self._turn())
        self._begin(self._prove())
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hang_up()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if isinstance(self.config.app, FastAPI):
            live.close(self.config.app)  # streams end only when they are told to
        super().handle_exit(sig, frame)

    def _begin(self, what: Any) -> None:
        task = asyncio.create_task(what)
        self._own.add(task)
        task.add_done_callback(self._own.discard)

    async def _turn(self) -> None:
        while True:
            self._seat.turn(self._taken, len(self.server_state.connections))
            await asyncio.sleep(TURN_SECONDS)

    async def _prove(self) -> None:
        """The event loop turns, and a thread for a handler becomes free: what answering a request takes."""
        while True:
            await self._turns.prove()
            self._seat.prove()
            self._proven()
            await asyncio.sleep(PROOF_SECONDS)

    # --- connections of a worker

    def _take(self) -> None:
        assert self._channel is not None
        for _ in range(_AT_ONCE):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._hang_up()
                self.should_exit = True  # nobody will ever give us one again
                return
            for descriptor in descriptors:
                self._taken += 1
                self._say_taken(1)
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                self._begin(self._serve_one(connection))

    def _say_taken(self, count: int) -> None:
        """The supervisor keeps what we have not taken, for others."""
        assert self._channel is not None
        self._not_said += count
        try:
            self._channel.send(self._not_said.to_bytes(4, "big"))
            self._not_said = 0
        except OSError:
            pass  # with the next one

    async def _serve_one(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl)
        except (OSError, TimeoutError) as error:
            # Whoever called speaks no TLS, or has gone.
            log.debug("a connection came to nothing: %s", error)
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    def _hang_up(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
            self._channel = None
