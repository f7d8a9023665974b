"""What the processes that the supervisor forks do: workers answer requests, the keeper writes the instance row and runs
the jobs that pages start."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

import uvicorn
from fastapi import FastAPI

from opskit.config import Config
from opskit.core.metastore.engine import open_engine
from opskit.system.processes import Process
from opskit.web.board import Board, Rounds, Seat
from opskit.web.job_files import JobFiles
from opskit.web.job_runner import JobRunner
from opskit.web.pulse import Pulse
from opskit.web.serving import Server
from opskit.web.verbs import PROGRAM, Verbs

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0


def threads_of(workers: int) -> tuple[int, int]:
    """Of each worker: requests that are answered at once, each of which may hold a connection to the metastore; and
    connections for transactions that write."""
    return max(8, 20 // workers), max(2, 4 // workers)


def give_way(config: Config) -> None:
    """Let the scheduler go first where both want the processor."""
    wanted = int(config.get("webserver", "nice"))
    try:
        if os.getpriority(os.PRIO_PROCESS, 0) < wanted:
            os.setpriority(os.PRIO_PROCESS, 0, wanted)
    except OSError as error:  # a sandbox of somebody's own
        log.warning("the niceness can't be set to %d: %s", wanted, error.strerror)


def serve(config: Config, made: uvicorn.Config, seat: Seat, channel: socket.socket, webserver: Process, n: int) -> int:
    """A worker: until SIGTERM. `made.app` has engines that nobody has used before the fork; `n`: how many workers."""
    give_way(config)
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.setLevel(max(uvicorn_log.getEffectiveLevel(), logging.WARNING))  # the supervisor says who starts
    threads, _ = threads_of(n)
    app = made.app
    assert isinstance(app, FastAPI)
    app.state.verbs = Verbs(config, webserver=webserver, most_patient=threads // 4)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn has its own while it serves, and then raises it once more
    try:
        Server(made, seat, threads, channel=channel).run()
    finally:
        store = app.state.store
        for engine in (store.engine, store.reader):
            if engine is not None:
                engine.dispose()
    return 0


def keep(config: Config, board: Board, seat: Seat, instance_id: str, webserver: Process) -> int:
    """The keeper: until SIGTERM. Jobs outlive the workers that were asked for them; they end with the keeper."""
    ended = _told_to_end()
    engine = open_engine(config, pool_size=1, pre_ping=True)
    rounds = Rounds(board.seats[0], board.seats[2:])
    pulse = Pulse(
        config, engine, instance_id, webserver, lambda: (rounds.count, datetime.fromtimestamp(rounds.at, UTC))
    )
    files = JobFiles(config.run_folder)
    runner = JobRunner(files, config.home, config.run_folder, PROGRAM, webserver=webserver, stays=True)
    pulse.start()
    runner.look()
    while not ended(_LOOK_SECONDS):
        seat.turn()
        rounds.look()
    runner.close()
    pulse.stop()
    engine.dispose()
    return 0


def _told_to_end() -> Callable[[float], bool]:
    """Of a process that waits in its main thread: whether SIGTERM came within so many seconds."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    poller = select.poll()
    poller.register(read_end, select.POLLIN)

    def within(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not received and (left := until - time.monotonic()) > 0:
            poller.poll(left * 1000)
        return bool(received)

    return within
