"""The webserver in the foreground: one process, or a supervisor with workers, with an instance row and a pid file."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
import uuid
from datetime import UTC, datetime, timedelta

import uvicorn
from fastapi import FastAPI

from opskit.config import Config
from opskit.core.metastore.engine import open_engine
from opskit.core.runner import asking
from opskit.errors import ConfigError
from opskit.system import daemon
from opskit.web import render, verbs
from opskit.web.app import make_app
from opskit.web.board import Board
from opskit.web.job_runner import this_process
from opskit.web.pulse import KIND, Pulse
from opskit.web.serving import Server, settings_of
from opskit.web.supervisor import Supervisor
from opskit.web.worker_process import give_way, threads_of

log = logging.getLogger(__name__)
_KEEP_SECONDS = 1.0
_MOST_BY_ITSELF = 4


def run(config: Config) -> int:
    """Until SIGTERM or SIGINT, then 0. ConfigError when the address can't be had or the certificate can't be used;
    OpskitError when no worker starts."""
    daemon.enable_stack_dumps(config.run_folder)
    asking.install(config)
    workers = workers_of(config)
    listening = _listen(config)
    threads, changes = threads_of(workers)
    # Made, not connected: the engines of a supervisor are used in its forks only.
    engine = open_engine(config, pool_size=changes, pre_ping=True)
    reader = open_engine(config, pool_size=threads, pre_ping=True, for_reading=True)
    made = settings_of(config, make_app(config, engine, reader, _KEEP_SECONDS))
    me = str(uuid.uuid4())
    pid_file = daemon.write_pid_file(config.run_folder, KIND, me, datetime.now(UTC).isoformat())
    host, port = listening.getsockname()[:2]
    address = f"{'https' if made.is_ssl else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    render.prepare()
    log.info("listening on %s (%d %s)", address, workers, "process" if workers == 1 else "processes")
    try:
        if workers > 1:
            return Supervisor(config, made, listening, workers, me).run()
        return _run_alone(config, made, listening, threads, me)
    finally:
        engine.dispose()
        reader.dispose()
        pid_file.unlink(missing_ok=True)


def workers_of(config: Config) -> int:
    """How many processes answer requests."""
    wanted = int(config.get("webserver", "workers"))
    return wanted or min(_MOST_BY_ITSELF, len(os.sched_getaffinity(0)))


def _run_alone(config: Config, made: uvicorn.Config, listening: socket.socket, threads: int, me: str) -> int:
    give_way(config)
    seat = Board(1).seats[0]

    def ready() -> None:
        daemon.notify("READY=1")

    def proven() -> None:
        daemon.notify("WATCHDOG=1")

    def progress() -> tuple[int, datetime]:
        ago = time.monotonic() - (seat.proved_at or began)
        return seat.proofs, datetime.now(UTC) - timedelta(seconds=ago)

    began = time.monotonic()
    app = made.app
    assert isinstance(app, FastAPI)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn has its own while it serves, and then raises them once more
    pulse = Pulse(config, app.state.store.engine, me, this_process(), progress)
    pulse.start()
    try:
        Server(made, seat, threads, ready=ready, proven=proven).run(sockets=[listening])
    finally:
        verbs.end_all(app)
        pulse.stop()
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
