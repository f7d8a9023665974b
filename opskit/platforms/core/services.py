"""How components of the core are nudged, stopped and started on this host."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from opskit.config import Config
from opskit.errors import GuardRefused, LockHeld, MetastoreUnavailable, OpskitError
from opskit.platforms.health import Component, RunsAlready
from opskit.system import systemd
from opskit.system.daemon import PidFile, is_alive, process_started, read_pid_files, stacks_path
from opskit.system.processes import (
    Process,
    describe,
    family,
    process_state,
    python_stacks,
    send,
    still_listening,
    tail,
    tcp_sockets,
    wait_gone,
)

_LOG_LINES = 200


class CoreServices:
    def __init__(self, config: Config) -> None:
        self._config = config

    def nudge(self, component: Component) -> str:
        from opskit.system.wake import wake

        reached = wake(self._config.run_folder, f"{component.kind}.{component.instance_id}")
        return f"woke {component.label}" if reached else f"{component.label} has no wake socket"

    def resume(self, component: Component) -> str:
        process = self._mine(component)
        # The family too: whoever stopped the group stopped them all.
        for member in [process, *family(process.pid, self._spared(component))]:
            if process_state(member.pid, member.started) == "frozen":
                _send(member, signal.SIGCONT)
        return f"sent SIGCONT to {component.label}"

    def reset_work(self) -> str:
        from opskit.core.metastore import dags, live_runs, scheduling
        from opskit.core.metastore.engine import open_engine, transaction
        from opskit.system.wake import wake

        engine = open_engine(self._config)
        try:
            with transaction(engine) as connection:
                waiting = sorted({dag_id for dag_id, _ in live_runs.unfinished_runs(connection)})
                dags.touch(connection, waiting, datetime.now(UTC))
                scheduling.recount_pools(connection)
        finally:
            engine.dispose()
        wake(self._config.run_folder, "scheduler")
        return f"let {len(waiting)} DAGs with unfinished runs be read anew, and counted the pools' used slots again"

    @contextmanager
    def turn(self, deed: str, seconds: float) -> Iterator[None]:
        if self._config.database_url.startswith("sqlite"):
            # One host, and the watchdog's lock is enough there: what is to be restarted may hold the file's write lock.
            yield
            return
        from opskit.core.metastore import restart_turn
        from opskit.core.metastore.engine import open_engine, transaction

        me = process_started(os.getpid()) or 0.0
        engine = open_engine(self._config)
        try:
            with transaction(engine) as connection:
                holder = restart_turn.take(connection, str(self._config.home), me, deed, datetime.now(UTC), seconds)
            if holder:
                raise LockHeld(f"one restart at a time: {holder}", hint="this one comes when that one has ended")
            try:
                yield
            finally:
                try:
                    with transaction(engine) as connection:
                        restart_turn.give_back(connection, me, datetime.now(UTC))
                except MetastoreUnavailable:
                    pass  # it ends by itself
        finally:
            engine.dispose()

    def capture(self, component: Component, heading: list[str]) -> Path:
        config = self._config
        process = Process(component.pid, component.pid_started)
        now = datetime.now(UTC)
        folder = config.logs_folder / "watchdog"
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        path = folder / f"{now.strftime('%Y%m%dT%H%M%S.%fZ')}-{component.kind}-{component.pid}.txt"
        parts: list[tuple[str, list[str]]] = [(f"{component.label} at {now.isoformat()}", heading)]
        with open(path, "x", opener=_private) as file:
            if process.alive:
                parts += [
                    ("process", describe(process)),
                    ("stacks", python_stacks(process, stacks_path(config.run_folder, component.pid))),
                ]
                for member in family(process.pid, {component.pid, *self._spared(component)}):
                    parts.append((f"its process {member.pid}", describe(member)))
                    dump = stacks_path(config.run_folder, member.pid)
                    if dump.exists():
                        parts.append((f"stacks of {member.pid}", python_stacks(member, dump)))
            from opskit.platforms.core.health import CoreHealth

            parts.append(("sessions of the database", CoreHealth(config).lock_waits()))
            parts.append(("last log lines", self._log_lines(component)))
            for title, lines in parts:
                file.write(f"== {title}\n" + "".join(f"{line}\n" for line in lines) + "\n")
        return path

    def stop(self, component: Component, grace_seconds: float) -> str:
        process = self._mine(component)
        members = family(process.pid, self._spared(component))
        if not members:
            return f"{component.label} was gone already"
        ports = [one for member in members for one in tcp_sockets(member.pid) if one.listens]
        _send(process, signal.SIGTERM)
        # A frozen process takes no SIGTERM before it runs again.
        _send(process, signal.SIGCONT)
        how = "SIGTERM"
        if wait_gone([process], grace_seconds):
            how = f"SIGKILL, {grace_seconds:g} s after a SIGTERM without effect"
            # What it started during the grace is its own, too.
            members += [member for member in family(process.pid, self._spared(component)) if member not in members]
            _send(process, signal.SIGKILL)
        left = wait_gone(members, 0.2)
        for member in left:
            _send(member, signal.SIGKILL)
        left = wait_gone(members, 5.0)
        if left:
            raise OpskitError(
                f"{component.label}: {', '.join(f'pid {member.pid}' for member in left)} survived SIGKILL",
                hint="such a process hangs in the kernel, mostly in a disk or network file system that does not answer",
            )
        if taken := still_listening(ports):
            raise OpskitError(
                f"{component.label} has ended, but port {taken[0].port} is still taken by a process that it started",
                hint=f"find it with: ss -ltnp 'sport = :{taken[0].port}'",
            )
        more = f" and {len(members) - 1} processes of its own" if len(members) > 1 else ""
        return f"ended {component.label}{more} by {how}"

    def start(self, kind: str, like: Component | None, within_seconds: float) -> str:
        deadline = time.monotonic() + within_seconds
        if living := self._fence(kind, like):
            raise RunsAlready(kind, living.pid)
        way = str(self._config.get("watchdog", "restart"))
        if way == "command":
            return self._start_by_command(kind)
        for standalone in self._living("standalone"):
            return self._await(kind, like, f"opskit standalone (pid {standalone.pid})", deadline)
        unit = self._unit_for(kind, like)
        if way == "systemd" or (way == "auto" and unit):
            return self._start_unit(kind, like, unit or str(self._config.get("watchdog", "unit")), deadline)
        return self._start_directly(kind, like)

    def send(self, component: Component, number: int) -> None:
        _send(self._mine(component), signal.Signals(number))

    @contextmanager
    def block_metastore(self, seconds: float) -> Iterator[str]:
        from opskit.core.metastore.blockade import blocked

        with blocked(self._config, seconds) as what:
            yield what

    def forget(self, component: Component) -> None:
        if component.local and component.pid_file and not is_alive(component.pid, component.pid_started):
            component.pid_file.unlink(missing_ok=True)
            stacks_path(self._config.run_folder, component.pid).unlink(missing_ok=True)

    def _start_by_command(self, kind: str) -> str:
        command = str(self._config.get("watchdog", "restart_command"))
        if not command:
            raise OpskitError("watchdog.restart is command, but watchdog.restart_command is empty")
        try:
            done = subprocess.run(
                shlex.split(command),
                env={**self._environment(), "OPSKIT_COMPONENT": kind},
                cwd=self._config.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise OpskitError(f"watchdog.restart_command failed: {error}") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise OpskitError(f"watchdog.restart_command ended with {done.returncode}: {said[-500:]}")
        return f"ran {command}"

    def _start_unit(self, kind: str, like: Component | None, unit: str, deadline: float) -> str:
        state = systemd.unit_state(unit)
        if state.masked:
            raise GuardRefused(f"{unit} is masked: an operator forbade its start")
        if state.restarting or state.active:
            try:
                return self._await(kind, like, unit, min(deadline, time.monotonic() + state.restart_seconds + 10))
            except OpskitError:
                state = systemd.unit_state(unit)
                if state.restarting:
                    raise
        if living := self._fence(kind, like):
            return f"{unit} has started {kind} as pid {living.pid}"
        # `restart` also for a unit that counts as active while its process does nothing.
        systemd.start_unit(unit)
        return f"started {unit}"

    def _start_directly(self, kind: str, like: Component | None) -> str:
        argv = list(like.argv) if like else []
        for record in self._records("standalone"):
            # Nobody stopped it, else its pid file were gone: what it supervised comes back with it.
            kind, argv = "standalone", list(record.argv)
            (self._config.run_folder / f"standalone.{record.instance_id}.pid.json").unlink(missing_ok=True)
        if not argv or not os.access(argv[0], os.X_OK):
            argv = [sys.executable, "-m", "opskit", kind.replace("_", "-")]
        log = self._config.logs_folder / f"{kind}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            try:
                # A launcher in between, so that init and not we must reap it, however long we live.
                subprocess.run(
                    [sys.executable, "-I", "-c", _LAUNCHER, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._config.home,
                    env=self._environment(),
                    check=True,
                    timeout=30,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise OpskitError(f"{shlex.join(argv)} could not be started: {error}") from error
        return f"started {shlex.join(argv)}, its log is {log}"

    def _environment(self) -> dict[str, str]:
        """Ours, without what systemd or cron meant for us alone."""
        foreign = ("INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS")
        environment = {key: value for key, value in os.environ.items() if key not in foreign}
        return {**environment, "OPSKIT_HOME": str(self._config.home)}

    def _await(self, kind: str, like: Component | None, who: str, deadline: float) -> str:
        while time.monotonic() < deadline:
            if living := self._fence(kind, like):
                return f"{who} has started {kind} as pid {living.pid}"
            time.sleep(0.1)
        raise OpskitError(f"{who} should start {kind} again, but has not", hint="its log tells why")

    def _fence(self, kind: str, like: Component | None) -> PidFile | None:
        """The living one that a start would double, if there is one.

        Several schedulers may run here: those that lived beside the one that is to be replaced are not in its place.
        """
        living = self._living(kind)
        if kind != "scheduler" or like is None:
            return next(iter(living), None)
        last = like.heartbeat_at or like.started_at
        for record in living:
            if record.instance_id == like.instance_id or datetime.fromisoformat(record.started_at) > last:
                return record
        return None

    def _living(self, kind: str) -> list[PidFile]:
        return [record for record in self._records(kind) if is_alive(record.pid, record.pid_started)]

    def _records(self, kind: str) -> list[PidFile]:
        files = read_pid_files(self._config.run_folder)
        return [record for _, record in files if record.kind.replace("-", "_") == kind]

    def _spared(self, component: Component) -> set[int]:
        """Every other living instance: a worker keeps its attempts, a supervisor its other children."""
        return {
            record.pid
            for _, record in read_pid_files(self._config.run_folder)
            if record.instance_id != component.instance_id and is_alive(record.pid, record.pid_started)
        }

    def _mine(self, component: Component) -> Process:
        if not component.local:
            raise GuardRefused(f"{component.label} is not of this host and OPSKIT_HOME: it is not touched")
        return Process(component.pid, component.pid_started)

    def _unit_for(self, kind: str, like: Component | None) -> str:
        """The unit that runs this component; empty when none does."""
        state = systemd.unit_state(like.unit) if like and like.unit else systemd.UnitState()
        if like and (state.runs("opskit") or state.masked):
            return like.unit
        unit = (
            str(self._config.get("watchdog", "unit"))
            if kind == "scheduler"
            else f"opskit-{kind.replace('_', '-')}.service"
        )
        return unit if not (like and like.argv) and systemd.unit_state(unit).runs("opskit") else ""

    def _log_lines(self, component: Component) -> list[str]:
        if component.unit:
            lines = systemd.journal(component.unit, _LOG_LINES)
            if lines:
                return lines
        return tail(self._config.logs_folder / f"{component.kind}.log")[-_LOG_LINES:]


_LAUNCHER = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)


def _send(process: Process, number: signal.Signals) -> None:
    try:
        send(process, number)
    except PermissionError as error:
        raise OpskitError(
            f"{number.name} to pid {process.pid}: permission denied",
            hint="run the watchdog as the user of the scheduler, or as root",
        ) from error
