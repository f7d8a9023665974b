"""The DAG processor's process: one per OPSKIT_HOME, with its instance row, pid file, heartbeats and signals."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import time
import uuid
from datetime import UTC, datetime

from opskit.config import Config
from opskit.core.metastore import instances
from opskit.core.metastore.engine import Connection, Engine, open_engine, transaction
from opskit.core.scheduler.dag_loading import BackgroundLoader
from opskit.core.scheduler.dag_processor_loop import DagProcessor
from opskit.errors import MetastoreUnavailable
from opskit.system import daemon
from opskit.system.locks import locked
from opskit.system.wake import WakeSocket

log = logging.getLogger(__name__)
KIND = "dag_processor"


def run(config: Config) -> int:
    """Until SIGTERM or SIGINT, then 0. LockHeld when one runs in this OPSKIT_HOME already."""
    with locked(config.run_folder, "dag-processor"):
        daemon.enable_stack_dumps(config.run_folder)
        received: list[int] = []
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda arrived, _: received.append(arrived))
        loader = BackgroundLoader(config)
        engine = open_engine(config, pool_size=1)
        try:
            return _run(config, engine, loader, read_end, received)
        finally:
            loader.close()
            engine.dispose()
            signal.set_wakeup_fd(before)
            os.close(read_end)
            os.close(write_end)


def _run(config: Config, engine: Engine, loader: BackgroundLoader, signals: int, received: list[int]) -> int:
    started_at = datetime.now(UTC)
    me = str(uuid.uuid4())
    processor = DagProcessor(config, engine, loader)
    pulse = _Pulse(config, engine, me, started_at)
    woken = WakeSocket(config.run_folder, f"{KIND}.{me}")
    pid_file = daemon.write_pid_file(config.run_folder, KIND, me, started_at.isoformat())
    log.info("DAG folder %s, changes are seen by %s", config.dags_folder, processor.watching)
    ready = False
    try:
        while not received:
            processor.turn()
            if processor.loaded_all and not ready:
                ready = True
                log.info("all DAG files are loaded and stored %.2f s after the start", _age(started_at))
                daemon.notify("READY=1")
            pulse.beat(processor)
            poller = select.poll()
            for descriptor in (signals, woken.fileno(), *processor.filenos()):
                poller.register(descriptor, select.POLLIN)
            poller.poll(max(0.0, min(processor.sleep_seconds(), pulse.sleep_seconds())) * 1000 + 0.5)
            if woken.drain():
                processor.look_soon()
        log.info("%s: stopping", signal.Signals(received[0]).name)
        daemon.notify("STOPPING=1")
        return 0
    finally:
        processor.close()
        woken.close()
        pid_file.unlink(missing_ok=True)
        pulse.end()


def _age(started_at: datetime) -> float:
    return (datetime.now(UTC) - started_at).total_seconds()


class _Pulse:
    """The instance row: written every heartbeat, again from the start when someone deleted it."""

    def __init__(self, config: Config, engine: Engine, me: str, started_at: datetime) -> None:
        self._config = config
        self._engine = engine
        self._me = me
        self._started_at = started_at
        self._every = float(config.get("scheduler", "scheduler_heartbeat_sec"))
        self._next = 0.0
        self._registered = False
        self._failing = False

    def sleep_seconds(self) -> float:
        return self._next - time.monotonic()

    def beat(self, processor: DagProcessor) -> None:
        """Write a heartbeat when one is due."""
        clock = time.monotonic()
        if clock < self._next:
            return
        self._next = clock + self._every
        daemon.notify("WATCHDOG=1")
        now = datetime.now(UTC)
        detail = json.dumps(processor.detail())
        try:
            with transaction(self._engine) as connection:
                written = self._registered and instances.beat(
                    connection, self._me, now, processor.progress, processor.progress_at, detail
                )
                if not written:
                    self._register(connection, now, detail)
            self._registered = True
            self._failing = False
        except MetastoreUnavailable as error:
            if not self._failing:
                log.warning("no heartbeat could be written: %s", error)
            self._failing = True

    def _register(self, connection: Connection, now: datetime, detail: str) -> None:
        if self._registered:
            self._me = str(uuid.uuid4())  # the row was deleted, or ended by mistake: an end is final
        else:
            instances.end_dead_of_this_host(connection, socket.gethostname(), daemon.is_alive, now)
        instances.register(
            connection,
            instance_id=self._me,
            kind=KIND,
            hostname=socket.gethostname(),
            home=str(self._config.home),
            pid=os.getpid(),
            pid_started=daemon.process_started(os.getpid()) or 0.0,
            now=now,
            detail=detail,
        )

    def end(self) -> None:
        """Say that this instance has stopped; best effort, a stop never waits for the metastore."""
        if not self._registered:
            return
        try:
            with transaction(self._engine) as connection:
                instances.end(connection, self._me, datetime.now(UTC))
        except MetastoreUnavailable as error:
            log.warning("the end of this instance could not be written: %s", error)
