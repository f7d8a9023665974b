"""The scheduler's process: instance row, pid file, heartbeats, signals, and patience when the metastore is down."""

from __future__ import annotations

import json
import logging
import os
import random
import select
import signal
import socket
import time
import uuid
from datetime import UTC, datetime
from types import FrameType

from opskit.config import Config
from opskit.core.executors.local import LocalExecutor
from opskit.core.metastore import instances, schema
from opskit.core.metastore.engine import Engine, open_engine, transaction
from opskit.core.metastore.faults import TransactionConflict
from opskit.core.scheduler.loop import Scheduler
from opskit.errors import MetastoreUnavailable, SchemaNotCurrent
from opskit.system import daemon
from opskit.system.wake import WakeSocket

logger = logging.getLogger(__name__)

_LONGEST_BACKOFF_SECONDS = 5.0


class _Signals:
    """SIGTERM and SIGINT as a readable descriptor, so that they end a sleep."""

    def __init__(self) -> None:
        self.received = 0
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or number


def run(config: Config) -> int:
    """Schedule until SIGTERM or SIGINT; the exit code is 0 after a clean stop.

    MetastoreUnavailable or SchemaNotCurrent when the metastore is not there at the start; later it is waited for.
    """
    signals = _Signals()
    daemon.enable_stack_dumps(config.run_folder)
    engine = open_engine(config)
    schema.check(engine)
    me = str(uuid.uuid4())
    now = datetime.now(UTC)
    _register(engine, config, me, now)
    pid_file = daemon.write_pid_file(config.run_folder, "scheduler", me, now.isoformat())
    wake = WakeSocket(config.run_folder, f"scheduler.{me}")
    executor = LocalExecutor(config.run_folder, me)
    scheduler = Scheduler(config, engine, me, executor, wake)
    logger.info("scheduler %s runs, pid %d", me, os.getpid())
    try:
        _turn(config, engine, me, scheduler, signals)
        daemon.notify("STOPPING=1")
        _stop(engine, me, scheduler)
    finally:
        executor.close()
        wake.close()
        pid_file.unlink(missing_ok=True)
        engine.dispose()
    return 0


def _turn(config: Config, engine: Engine, me: str, scheduler: Scheduler, signals: _Signals) -> None:
    """The loop. A metastore that is down is waited for: nobody dies of it, and nothing is dispatched meanwhile."""
    poller = select.poll()
    poller.register(signals.reader.fileno(), select.POLLIN)
    every = float(config.get("scheduler", "scheduler_heartbeat_sec"))
    next_beat = 0.0
    failures = 0
    progress_at = datetime.now(UTC)
    while not signals.received:
        try:
            clock = time.monotonic()
            if clock >= next_beat:
                _beat(engine, config, me, scheduler, progress_at)
                next_beat = clock + every
            sentence = scheduler.cycle(next_beat - time.monotonic(), poller)
        except SchemaNotCurrent:
            raise
        except TransactionConflict as error:
            # It gave way to another one: nothing was written, and all is read again at once.
            scheduler.forget()
            logger.info("%s", error)
            continue
        except MetastoreUnavailable as error:
            failures += 1
            scheduler.forget()
            if failures == 1:
                logger.warning("%s; waiting for it, attempts go on", error)
            # Still at it: systemd must not take a database that is down for a scheduler that hangs.
            # Before the first loop it is not ready, and systemd would give its start up.
            daemon.notify("STATUS=waiting for the metastore\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000")
            delay = min(_LONGEST_BACKOFF_SECONDS, 0.2 * 2 ** min(failures, 6))
            _rest(signals, delay * random.uniform(0.5, 1.0))
            next_beat = 0.0
            continue
        if failures:
            logger.warning("the metastore is back after %d attempts", failures)
            failures = 0
        progress_at = datetime.now(UTC)
        if scheduler.cycles == 1:
            daemon.notify("READY=1")
        if sentence:
            logger.info("%s", sentence)


def _rest(signals: _Signals, seconds: float) -> None:
    select.select([signals.reader], [], [], seconds)


def _register(engine: Engine, config: Config, me: str, now: datetime) -> None:
    hostname = socket.gethostname()
    with transaction(engine) as connection:
        # After a kill -9 the leases of the process that is gone need not expire first.
        instances.end_dead_of_this_host(connection, hostname, daemon.is_alive, now)
        _insert(connection, config, me, now)


def _insert(connection: instances.Connection, config: Config, me: str, now: datetime) -> None:
    started = daemon.process_started(os.getpid())
    assert started is not None
    instances.register(
        connection,
        instance_id=me,
        kind="scheduler",
        hostname=socket.gethostname(),
        home=str(config.home),
        pid=os.getpid(),
        pid_started=started,
        now=now,
    )


def _beat(engine: Engine, config: Config, me: str, scheduler: Scheduler, progress_at: datetime) -> None:
    now = datetime.now(UTC)
    detail = json.dumps({"dags": len(scheduler.owned), "in_flight": scheduler.in_flight})
    with transaction(engine) as connection:
        known = instances.beat(connection, me, now, scheduler.cycles, progress_at, detail)
        # Else it was taken for dead while it was frozen (its leases may be lost), or the table was cleaned.
        if not known:
            _insert(connection, config, me, now)
        worker = scheduler.executor.worker_id
        if worker is not None:
            instances.beat(connection, worker, now)
    daemon.notify("WATCHDOG=1")


def _stop(engine: Engine, me: str, scheduler: Scheduler) -> None:
    try:
        scheduler.stop()
        with transaction(engine) as connection:
            instances.end(connection, me, datetime.now(UTC))
    except MetastoreUnavailable as error:
        logger.warning("stopped without giving the leases back, they expire by themselves: %s", error)
