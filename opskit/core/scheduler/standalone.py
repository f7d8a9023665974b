"""Runs scheduler, DAG processor, worker and webserver: starts them, starts again what died, stops them in order.

Scheduler and DAG processor are forks of this process, which has loaded what both need: its pages are there once. The
worker is a program of its own in a session of its own, so that neither our end nor a Ctrl-C takes attempts with it.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module

from opskit.config import Config
from opskit.core.runner.processes import ParentGone, die_with_parent, set_name
from opskit.errors import OpskitError
from opskit.system import daemon, home
from opskit.system.locks import locked
from opskit.telemetry import logs

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
"""A component that ran so long starts again without a pause."""
_STOP_GRACE_SECONDS = 20.0
_SHARED_MODULES = (
    "opskit.core.metastore.engine",
    "opskit.core.metastore.dags",
    "opskit.core.metastore.instances",
    "opskit.core.metastore.scheduling",
    "opskit.core.dag.timetables",
)


@dataclass(slots=True)
class Component:
    """One child. `start` gives its pid."""

    name: str
    start: Callable[[], int]
    grace_seconds: float = _STOP_GRACE_SECONDS
    pid: int | None = None
    pidfd: int = -1
    started_at: float = 0.0
    pause: float = 0.0
    due_at: float = 0.0
    """On the monotonic clock: when it is to be started, while it does not run."""
    adopted: bool = False
    """It was running before us, and is not our child."""


@dataclass(slots=True)
class _Signals:
    """What arrived, in order."""

    received: list[int] = field(default_factory=list)


def run(config: Config) -> int:
    """Until SIGTERM or SIGINT, then 0. A second signal kills what has not stopped yet.

    Raises LockHeld when another standalone runs in this OPSKIT_HOME, and what a migration of the metastore raises.
    """
    made = home.prepare(config)
    with locked(config.run_folder, "standalone"):
        for path in made:
            log.info("made %s", path)
        _migrate(config)
        for name in _SHARED_MODULES:
            import_module(name)
        gc.collect()
        gc.freeze()  # what is there now is never looked at again, so that its pages stay shared
        daemon.enable_stack_dumps(config.run_folder)
        pid_file = daemon.write_pid_file(
            config.run_folder, "standalone", str(uuid.uuid4()), datetime.now(UTC).isoformat()
        )
        try:
            return _Supervisor(config).run()
        finally:
            pid_file.unlink(missing_ok=True)


def _migrate(config: Config) -> None:
    """Bring the metastore up to date, in a child: neither Alembic nor a connection stays in this process."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            from opskit.core.metastore import schema
            from opskit.core.metastore.engine import open_engine

            schema.migrate(open_engine(config))
            code = 0
        except OpskitError as error:
            log.error("%s", error.message)
            if error.hint:
                log.error("%s", error.hint)
            code = error.exit_code
        except Exception:
            log.exception("the metastore could not be migrated")
        finally:
            logging.shutdown()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        failure = OpskitError("the metastore could not be made ready; the lines above say why")
        failure.exit_code = code if code > 0 else 1
        raise failure


def _worker_grace(config: Config) -> float:
    """It waits for attempts, then ends them, then says so."""
    return float(config.get("core", "worker_stop_grace")) + float(config.get("core", "killed_task_cleanup_time")) + 10.0


class _Supervisor:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._signals = _Signals()
        self._stopping = False
        # In the order in which they are stopped.
        self._components = [
            Component("dag-processor", lambda: self._fork("dag-processor", "opskit.core.scheduler.dag_processor")),
            Component("scheduler", lambda: self._fork("scheduler", "opskit.core.scheduler.daemon")),
            Component("worker", self._spawn_worker, _worker_grace(config)),
        ]
        if config.get("webserver", "enabled"):
            self._components.insert(0, Component("webserver", self._spawn_webserver))
        self._poller = select.poll()

    def run(self) -> int:
        set_name("opskit")
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self._signals.received.append(received))
        self._poller.register(read_end, select.POLLIN)
        for component in reversed(self._components):
            self._start(component)
        daemon.notify("READY=1")
        while not self._signals.received:
            self._wait(read_end)
            for component in self._components:
                self._look_after(component)
        first = self._signals.received[0]
        log.info("%s: stopping", signal.Signals(first).name)
        daemon.notify("STOPPING=1")
        self._stop_all(read_end)
        return 0

    def _wait(self, read_end: int, until: float | None = None) -> None:
        """Until a signal, the end of a child, or the next thing that is due."""
        due = [component.due_at for component in self._components if component.pid is None and not self._stopping]
        if until is not None:
            due.append(until)
        timeout = max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None
        self._poller.poll(timeout)
        try:
            os.read(read_end, 4096)
        except BlockingIOError:
            pass

    # --- starting ---

    def _start(self, component: Component) -> None:
        if component.name == "worker" and (pid := self._living_worker()) is not None:
            log.info("worker: one runs already (pid %d), and goes on", pid)
            component.pid, component.adopted = pid, True
        else:
            component.pid, component.adopted = component.start(), False
            log.info("%s: started (pid %d)", component.name, component.pid)
        component.started_at = time.monotonic()
        try:
            component.pidfd = os.pidfd_open(component.pid)
        except ProcessLookupError:
            component.pidfd = -1  # an adopted one that has just ended: the next turn sees it
            component.pid, component.due_at = None, time.monotonic()
            return
        self._poller.register(component.pidfd, select.POLLIN)

    def _living_worker(self) -> int | None:
        for _, record in daemon.read_pid_files(self._config.run_folder, "worker"):
            if daemon.is_alive(record.pid, record.pid_started):
                return record.pid
        return None

    def _fork(self, name: str, module: str) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            # A process group of its own: Ctrl-C reaches the supervisor alone, which stops all in order.
            os.setpgid(0, 0)
            die_with_parent(parent)
            set_name(f"opskit-{name}")
            sys.orig_argv = [sys.executable, "-m", "opskit", name]  # what the pid file tells the watchdog
            logs.setup(str(self._config.get("logging", "logging_level")), component=name)
            code = import_module(module).run(self._config)
        except OpskitError as error:
            log.error("%s%s", error.message, f" ({error.hint})" if error.hint else "")
            code = error.exit_code
        except ParentGone:
            code = 1
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log.exception("%s ended by an error", name)
        finally:
            logging.shutdown()
            os._exit(code)

    def _spawn_worker(self) -> int:
        process = subprocess.Popen(
            [sys.executable, "-m", "opskit", "worker"], stdin=subprocess.DEVNULL, start_new_session=True
        )
        process.returncode = 0  # the supervisor waits for it itself
        return process.pid

    def _spawn_webserver(self) -> int:
        parent = os.getpid()
        process = subprocess.Popen(
            [sys.executable, "-m", "opskit", "webserver"],
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent),  # else it would keep the port of the next one
        )
        process.returncode = 0
        return process.pid

    # --- looking after ---

    def _look_after(self, component: Component) -> None:
        if component.pid is not None and (ended := self._ended(component)) is not None:
            lived = time.monotonic() - component.started_at
            component.pause = (
                0.0
                if lived >= _STABLE_SECONDS
                else min(_LONGEST_PAUSE_SECONDS, 2 * component.pause or _FIRST_PAUSE_SECONDS)
            )
            component.due_at = time.monotonic() + component.pause
            log.warning(
                "%s: %s after %.0f s; starting it again in %.1f s", component.name, ended, lived, component.pause
            )
            self._forget(component)
        if component.pid is None and time.monotonic() >= component.due_at:
            self._start(component)

    def _ended(self, component: Component) -> str | None:
        """How a component ended, None while it runs."""
        assert component.pid is not None
        if component.adopted:
            return "it ended" if select.select([component.pidfd], [], [], 0)[0] else None
        pid, status = os.waitpid(component.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    def _forget(self, component: Component) -> None:
        if component.pidfd >= 0:
            self._poller.unregister(component.pidfd)
            os.close(component.pidfd)
        component.pid, component.pidfd = None, -1

    # --- stopping ---

    def _stop_all(self, read_end: int) -> None:
        self._stopping = True
        for component in self._components:
            if component.pid is None:
                continue
            self._signal(component, signal.SIGTERM)
            deadline = time.monotonic() + component.grace_seconds
            while (ended := self._ended(component)) is None:
                if time.monotonic() >= deadline or len(self._signals.received) > 1:
                    log.warning("%s: killed, it did not stop", component.name)
                    self._signal(component, signal.SIGKILL)
                    deadline = time.monotonic() + 3600
                    self._signals.received = self._signals.received[:1] * 2
                self._wait(read_end, deadline)
            log.info("%s: %s", component.name, ended)
            self._forget(component)

    def _signal(self, component: Component, number: int) -> None:
        try:
            signal.pidfd_send_signal(component.pidfd, number)
        except ProcessLookupError:
            pass
