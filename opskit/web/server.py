"""The webserver's process: uvicorn in the foreground, with an instance row, a pid file and heartbeats."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import uuid
from datetime import UTC, datetime
from types import FrameType

import anyio.to_thread
import uvicorn
from fastapi import FastAPI

from opskit.config import Config
from opskit.core.metastore import instances
from opskit.core.metastore.engine import Engine, open_engine, transaction
from opskit.core.runner import asking
from opskit.errors import ConfigError, MetastoreUnavailable
from opskit.system import daemon
from opskit.web import live, verbs
from opskit.web.app import make_app
from opskit.web.security import first_user

log = logging.getLogger(__name__)
KIND = "webserver"
_THREADS = 20
"""Requests that are answered at once; each may hold a connection to the metastore."""
_CHANGES = 4
"""Connections for transactions that write; more wait."""
_PROOF_SECONDS = 2.0
_KEEP_SECONDS = 1.0


def run(config: Config) -> int:
    """Until SIGTERM or SIGINT, then 0. ConfigError when the address can't be had."""
    daemon.enable_stack_dumps(config.run_folder)
    asking.install(config)
    listening = _listen(config)
    engine = open_engine(config, pool_size=_CHANGES, pre_ping=True)
    reader = open_engine(config, pool_size=_THREADS, pre_ping=True, for_reading=True)
    me = str(uuid.uuid4())
    pid_file = daemon.write_pid_file(config.run_folder, KIND, me, datetime.now(UTC).isoformat())
    server = _Server(
        uvicorn.Config(
            make_app(config, engine, reader, _KEEP_SECONDS),
            loop="asyncio",  # one way, whatever else is installed here
            http="h11",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
            proxy_headers=False,
            ssl_certfile=str(config.get("webserver", "web_server_ssl_cert")) or None,
            ssl_keyfile=str(config.get("webserver", "web_server_ssl_key")) or None,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn has its own while it serves, and then raises them once more
    pulse = _Pulse(config, engine, me, server)
    pulse.start()
    host, port = listening.getsockname()[:2]
    scheme = "https" if server.config.is_ssl else "http"
    log.info("listening on %s://%s:%d", scheme, f"[{host}]" if ":" in host else host, port)
    try:
        server.run(sockets=[listening])
    finally:
        if isinstance(server.config.app, FastAPI):
            verbs.end_all(server.config.app)
        pulse.stop()
        engine.dispose()
        reader.dispose()
        pid_file.unlink(missing_ok=True)
    return 0


def _listen(config: Config) -> socket.socket:
    host, port = str(config.get("webserver", "web_server_host")), int(config.get("webserver", "web_server_port"))
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol named, asyncio sends what is small at once; else each answer waits 40 ms for an ACK.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        raise ConfigError(
            f"the webserver can't listen on {host}:{port}: {error.strerror}",
            hint="set webserver.web_server_host and webserver.web_server_port",
        ) from error
    return listening


class _Server(uvicorn.Server):
    """uvicorn, that says to systemd when it is ready, and counts how often it could have answered."""

    progress = 0
    progress_at = datetime.min.replace(tzinfo=UTC)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.progress_at = datetime.now(UTC)
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await super().startup(sockets)
        daemon.notify("READY=1")
        self._proof = asyncio.create_task(self._prove())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if isinstance(self.config.app, FastAPI):
            live.close(self.config.app)  # streams end only when they are told to
        super().handle_exit(sig, frame)

    async def _prove(self) -> None:
        """The event loop turns, and a thread for a handler becomes free: what answering a request takes."""
        while True:
            await anyio.to_thread.run_sync(lambda: None)
            self.progress, self.progress_at = self.progress + 1, datetime.now(UTC)
            daemon.notify("WATCHDOG=1")
            await asyncio.sleep(_PROOF_SECONDS)


class _Pulse(threading.Thread):
    """Writes the instance row: it lives as long as the process, whatever the handlers do."""

    def __init__(self, config: Config, engine: Engine, me: str, server: _Server) -> None:
        super().__init__(name="pulse", daemon=True)
        self._config = config
        self._engine = engine
        self._me = me
        self._server = server
        self._over = threading.Event()
        self._every = float(config.get("scheduler", "scheduler_heartbeat_sec"))

    def run(self) -> None:
        registered, may_be_empty = False, False
        while True:
            now = datetime.now(UTC)
            done = self._server.progress, self._server.progress_at
            try:
                with transaction(self._engine) as connection:
                    registered = registered and instances.beat(connection, self._me, now, *done)
                    if not registered:
                        self._register(connection, now)
                        registered = True
                        may_be_empty = True
                if may_be_empty:
                    first_user.make_if_none(self._engine)
                    may_be_empty = False
            except MetastoreUnavailable as error:
                log.warning("no heartbeat: %s", error.message)
            if self._over.wait(self._every):
                return

    def _register(self, connection: instances.Connection, now: datetime) -> None:
        pid = os.getpid()
        instances.register(
            connection,
            instance_id=self._me,
            kind=KIND,
            hostname=socket.gethostname(),
            home=str(self._config.home),
            pid=pid,
            pid_started=daemon.process_started(pid) or 0.0,
            now=now,
        )

    def stop(self) -> None:
        self._over.set()
        self.join(5)
        try:
            with transaction(self._engine) as connection:
                instances.end(connection, self._me, datetime.now(UTC))
        except MetastoreUnavailable as error:
            log.warning("the end could not be written: %s", error.message)
