"""Runs the maintenance verbs where there is neither systemd nor cron: as child processes, by the table of `jobs`.

One file, `run/agent.json`, is the state and the sign of life: what ran when, how it ended, what comes next. From it a
new agent knows what was missed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError, Unhealthy
from opskit.ops.jobs import DAYS, JOBS, At, Every, Job, When, parse_when, period
from opskit.system import daemon
from opskit.system.locks import locked
from opskit.telemetry import alerts

FILE = "agent.json"
SILENT_SECONDS = 60
"""An agent that has not written its file for so long is not well."""
_TICK = 10.0
_KILL_AFTER = 30.0
_DAYS = dict(zip(DAYS, ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), strict=True))

logger = logging.getLogger("opskit.agent")


@dataclass(frozen=True, slots=True)
class Planned:
    """A job and when it runs here."""

    job: Job
    when: When


@dataclass(slots=True)
class Record:
    """What is known of a job; times are aware UTC in ISO 8601, empty for never."""

    known_since: str
    started_at: str = ""
    ended_at: str = ""
    exit_code: int | None = None
    next_at: str = ""
    skipped: int = 0
    """Starts that were left out because the one before still ran."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `opskit agent --list`."""

    job: str
    when: str
    command: str
    last_start: str
    exit_code: int | None
    next: str


@dataclass(slots=True)
class _Running:
    planned: Planned
    process: subprocess.Popen[bytes]
    began: float
    deadline: float
    ended_by_us: str = ""


@dataclass(slots=True)
class _Waiting:
    planned: Planned
    not_before: float = field(default=0.0)


def plan(config: Config) -> list[Planned]:
    """The jobs with the times of [agent] jobs, without those that are off. ConfigError for what is no job or time."""
    times: dict[str, Any] = config.get("agent", "jobs")
    known = {job.name: job for job in JOBS}
    for name, text in times.items():
        if name not in known:
            raise ConfigError(f"[agent.jobs] names {name!r}, which is no job", hint=f"there are {', '.join(known)}")
        if not isinstance(text, str):
            raise ConfigError(f"[agent.jobs] {name} is {text!r}", hint='write "off" or a time such as "daily 02:30"')
    return [
        Planned(job, parse_when(times[job.name]) if job.name in times else job.when)
        for job in JOBS
        if times.get(job.name, "").strip().lower() != "off"
    ]


def read_state(config: Config) -> dict[str, Any]:
    """The agent's file; empty when there is none, or when it can't be read (then nothing counts as missed)."""
    try:
        found = json.loads((config.run_folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def overview(config: Config) -> list[Row]:
    """Each job with its time, what is known of it, and its next start while an agent runs."""
    records = _records(read_state(config))
    rows = []
    for item in plan(config):
        record = records.get(item.job.name, Record(""))
        words = (item.job.name, str(item.when), " ".join(item.job.command))
        rows.append(Row(*words, record.started_at, record.exit_code, record.next_at))
    return rows


def check(config: Config, now: datetime) -> str:
    """A sentence about an agent that is well; Unhealthy for one that is gone or silent."""
    state = read_state(config)
    if not state or not daemon.is_alive(state["pid"], state["pid_started"]):
        raise Unhealthy("no agent runs here", hint="opskit agent")
    silent = (now - datetime.fromisoformat(state["at"])).total_seconds()
    if silent > SILENT_SECONDS:
        raise Unhealthy(f"the agent (pid {state['pid']}) has been silent for {silent:.0f} s", hint="restart it")
    return f"the agent runs as pid {state['pid']} since {state['started_at']}"


def run(config: Config, planned: Sequence[Planned] | None = None, program: Sequence[str] = ()) -> int:
    """Run jobs until SIGTERM or SIGINT; 0. LockHeld while another agent runs for this OPSKIT_HOME."""
    chosen = plan(config) if planned is None else list(planned)
    with locked(config.run_folder, "agent"):
        return _Agent(config, chosen, list(program) or [sys.executable, "-m", "opskit"]).serve()


def _records(state: dict[str, Any]) -> dict[str, Record]:
    found = {}
    for name, row in state.get("jobs", {}).items():
        try:
            found[name] = Record(**row)
        except TypeError:
            continue  # written by another version
    return found


class _Agent:
    def __init__(self, config: Config, planned: list[Planned], program: list[str]) -> None:
        self._config = config
        self._planned = planned
        self._program = program
        self._path = config.run_folder / FILE
        self._started_at = _now()
        known = _records(read_state(config))
        self._records = {item.job.name: known.get(item.job.name, Record(self._started_at)) for item in planned}
        self._running: dict[str, _Running] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._stopping = 0.0
        self._wall_ahead = 0.0
        self._reader, self._writer = socket.socketpair()

    # -- life

    def serve(self) -> int:
        self._take_signals()
        self._make_schedule()
        self._catch_up()
        logger.info("%d jobs: %s", len(self._planned), ", ".join(item.job.name for item in self._planned))
        daemon.notify("READY=1")
        while True:
            self._look_after_children()
            if self._stopping and not self._running:
                break
            if not self._stopping:
                self._mend_after_a_clock_jump()
                self._schedule.run_pending()
                self._start_what_may()
            self._write()
            daemon.notify("WATCHDOG=1")
            self._sleep()
        self._write()
        logger.info("stopped")
        return 0

    def _take_signals(self) -> None:
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def _sleep(self) -> None:
        now = time.monotonic()
        moments = [now + _TICK, *(child.deadline for child in self._running.values())]
        if not self._stopping:
            moments.append(now + max(self._schedule.idle_seconds or 0.0, 0.0))
            moments += [item.not_before for item in self._waiting.values() if item.not_before > now]
        select.select([self._reader], [], [], max(0.01, min(moments) - now))
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()

    def _stop(self) -> None:
        """A first word asks the children to end, a second one ends them."""
        again = bool(self._stopping)
        if not again:
            daemon.notify("STOPPING=1")
            logger.info("stopping; %d jobs run", len(self._running))
            self._stopping = time.monotonic()
        self._waiting.clear()
        grace = float(self._config.get("agent", "stop_grace"))
        for child in self._running.values():
            child.ended_by_us = "the agent was stopped"
            self._signal(child, signal.SIGKILL if again else signal.SIGTERM)
            child.deadline = time.monotonic() + grace

    # -- what is due

    def _make_schedule(self) -> None:
        import schedule

        self._schedule = schedule.Scheduler()
        self._entries: dict[str, Any] = {}
        for item in self._planned:
            if isinstance(item.when, Every):
                entry = self._schedule.every(item.when.seconds).seconds
            else:
                entry = self._daily(item.when)
            self._entries[item.job.name] = entry.do(self._due, item)
        self._wall_ahead = time.time() - time.monotonic()

    def _daily(self, when: At) -> Any:
        every = self._schedule.every()
        day = getattr(every, _DAYS[when.day]) if when.day else every.day
        return day.at(f"{when.hour:02d}:{when.minute:02d}")

    def _mend_after_a_clock_jump(self) -> None:
        """The schedule holds times of the clock on the wall: one that was set back would put all off."""
        ahead = time.time() - time.monotonic()
        if ahead < self._wall_ahead - 60:
            logger.warning("the clock was set back by %.0f s", self._wall_ahead - ahead)
            self._make_schedule()
        self._wall_ahead = ahead

    def _catch_up(self) -> None:
        """Start what should have run while no agent did, once each, and what was interrupted."""
        for item in self._planned:
            record, entry = self._records[item.job.name], self._entries[item.job.name]
            interrupted = record.started_at > record.ended_at
            last = datetime.fromisoformat(record.started_at or record.known_since)
            slot_before: datetime = entry.next_run - timedelta(seconds=period(item.when))
            if interrupted or last.astimezone().replace(tzinfo=None) < slot_before:
                logger.info("%s is caught up: %s", item.job.name, "interrupted" if interrupted else "missed")
                self._waiting[item.job.name] = _Waiting(item)

    def _due(self, item: Planned) -> None:
        name = item.job.name
        if name in self._running:
            self._records[name].skipped += 1
            logger.warning("%s still runs: this start is left out", name)
        elif name not in self._waiting:
            delay = random.uniform(0, min(item.job.jitter, period(item.when) / 10))
            self._waiting[name] = _Waiting(item, time.monotonic() + delay)

    def _start_what_may(self) -> None:
        for name, waiting in list(self._waiting.items()):
            if waiting.not_before > time.monotonic():
                continue
            heavy = any(not child.planned.job.light for child in self._running.values())
            if waiting.planned.job.light or not heavy:
                del self._waiting[name]
                self._start(waiting.planned)

    # -- children

    def _start(self, item: Planned) -> None:
        record = self._records[item.job.name]
        record.started_at = _now()
        # The start is written down before it happens: a crash in between makes the job run again, not never.
        self._write()
        try:
            process = subprocess.Popen(
                [*self._program, *item.job.command],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "OPSKIT_HOME": str(self._config.home)},
            )
        except OSError as error:
            logger.error("%s could not be started: %s", item.job.name, error)
            self._ended(item, 127, "could not be started")
            return
        logger.info("%s starts, pid %d", item.job.name, process.pid)
        began = time.monotonic()
        self._running[item.job.name] = _Running(item, process, began, began + item.job.limit)

    def _look_after_children(self) -> None:
        now = time.monotonic()
        for name, child in list(self._running.items()):
            code = child.process.poll()
            if code is not None:
                del self._running[name]
                if child.ended_by_us:
                    self._signal(child, signal.SIGKILL)  # what it left behind in its group
                self._ended(child.planned, code, child.ended_by_us)
            elif now >= child.deadline:
                hard = bool(child.ended_by_us)
                child.ended_by_us = child.ended_by_us or f"it took longer than {child.planned.job.limit} s"
                logger.warning("%s gets %s: %s", name, "SIGKILL" if hard else "SIGTERM", child.ended_by_us)
                self._signal(child, signal.SIGKILL if hard else signal.SIGTERM)
                child.deadline = now + _KILL_AFTER
        self._reap_strangers()

    def _reap_strangers(self) -> None:
        """As the first process of a container we inherit whatever lost its parent."""
        own = {child.process.pid for child in self._running.values()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid in own:
                    return
                os.waitpid(found.si_pid, 0)
            except ChildProcessError:
                return

    @staticmethod
    def _signal(child: _Running, number: int) -> None:
        try:
            os.killpg(child.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # the group is gone

    def _ended(self, item: Planned, code: int, why: str) -> None:
        record = self._records[item.job.name]
        before = record.exit_code
        stopped = bool(self._stopping) and bool(why)
        if not stopped:
            # One that we interrupted stays without an end: the next agent runs it again.
            record.ended_at, record.exit_code = _now(), code
        told = f"{item.job.name} ended with {code}" + (f": {why}" if why else "")
        if code in (0, *item.job.well):
            logger.info("%s", told)
        elif not stopped:
            logger.error("%s", told)
            if before != code:
                threading.Thread(target=self._alert, args=(item, told), daemon=True).start()

    def _alert(self, item: Planned, told: str) -> None:
        """On a thread: a mail server that is away must not hold the others up. Once per kind of failure."""
        host = socket.gethostname()
        body = f"{told}\n\nIts output is in the log of the agent. It runs again by itself ({item.when}).\n"
        alert = alerts.Alert(f"[opskit] {host}: {told}", body, "critical", f"agent:{host}:{item.job.name}")
        try:
            for failure in alerts.send(self._config, alert) or ():
                logger.error("nobody could be told: %s", failure)
        except Exception:
            logger.exception("nobody could be told")

    # -- state

    def _write(self) -> None:
        for name, entry in self._entries.items():
            self._records[name].next_at = entry.next_run.astimezone(UTC).isoformat(timespec="seconds")
        pid = os.getpid()
        state = {
            "pid": pid,
            "pid_started": daemon.process_started(pid),
            "started_at": self._started_at,
            "at": _now(),
            "running": {name: child.process.pid for name, child in self._running.items()},
            "jobs": {name: _plain(record) for name, record in self._records.items()},
        }
        fresh = self._path.with_name(f".{self._path.name}.{pid}")
        try:
            fresh.write_text(json.dumps(state, indent=1))
            fresh.replace(self._path)
        except OSError as error:
            # A full disk is what some of the jobs are for.
            logger.error("%s can't be written: %s", self._path, error)


def _plain(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Record.__slots__}


def _now() -> str:
    return datetime.now(UTC).isoformat()
