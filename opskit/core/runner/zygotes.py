"""The worker's side of its zygotes: which file has one, which attempt runs in it, and what becomes of both.

A zygote is known by its file and by the content that it loaded; a changed file gets a new one, and the old one ends
with its last attempt. Idle ones are kept, as many as `scheduler.zygotes` says, the least recently used go first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import os
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

from opskit.config import Config
from opskit.core.runner import packets, processes
from opskit.core.runner.ledger import Attempt
from opskit.core.runner.loop import READ, WRITE, Loop, Timer
from opskit.core.runner.template_process import (
    TemplateProcess,
    new_output,
    read_output,
    spec_for,
    why_not_loaded,
    with_output,
)
from opskit.system import dag_releases

logger = logging.getLogger(__name__)

LOADING, READY, GONE = "loading", "ready", "gone"
_IDLE_SECONDS = 600.0
_WARM_IDLE_SECONDS = 30.0
_WARM_PATIENCE_SECONDS = 0.02
"""A reuse attempt waits so long for a busy warm process before another one is started."""
_LONGEST_BACKOFF_SECONDS = 5.0


class Observer(Protocol):
    """Who is told what becomes of attempts."""

    def on_started(self, attempt: Attempt, pid: int, at: float) -> None:
        """It has a process since `at` (seconds since the epoch)."""
        ...

    def on_result(self, attempt: Attempt, result: bytes) -> None: ...

    def on_died(self, attempt: Attempt, status: int | None, why: str | None) -> None:
        """It ended without a result; its wait status where that is known, else why."""
        ...

    def on_not_loaded(self, attempts: list[Attempt], error: str) -> None: ...

    def on_loaded(self, attempts: list[Attempt]) -> None:
        """These waited for a file that is loaded now."""
        ...


@dataclass(slots=True, eq=False)
class Warm:
    """A process that runs attempts one after the other."""

    number: int
    channel: socket.socket
    pid: int | None = None
    attempt: Attempt | None = None
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class Zygote:
    number: int
    fileloc: str
    folder: str
    """The DAG folder, or the release of it that was loaded."""
    path: str
    content_hash: str
    channel: socket.socket
    output: int
    state: str = LOADING
    pid: int | None = None
    sources: list[tuple[str, int, int, int]] = field(default_factory=list)
    checked_turn: int = -1
    fresh_until: float = math.inf
    """Until then the variables and connections that the DAG file read while it was loaded are new enough."""
    versions: dict[str, set[str]] = field(default_factory=dict)
    """dag_id → version hashes that its attempts came with."""
    parked: list[Attempt] = field(default_factory=list)
    running: dict[int, Attempt] = field(default_factory=dict)
    warm: dict[int, Warm] = field(default_factory=dict)
    idle_warm: list[Warm] = field(default_factory=list)
    wants_warm: deque[Attempt] = field(default_factory=deque)
    outbox: deque[tuple[bytes, int, bytes, socket.socket | None]] = field(default_factory=deque)
    last_used: float = 0.0
    retired: bool = False
    load_timer: Timer | None = None
    timed_out: bool = False
    held: int | None = None
    """Descriptor that keeps its release from being removed."""

    @property
    def busy(self) -> bool:
        return bool(
            self.running
            or self.parked
            or self.wants_warm
            or self.state == LOADING
            or len(self.idle_warm) < len(self.warm)
        )


class FileMissing(Exception):
    """The DAG file is not there, and no zygote has loaded it."""


class Zygotes:
    def __init__(self, config: Config, loop: Loop, observer: Observer, slots: int) -> None:
        self._config = config
        self._loop = loop
        self._observer = observer
        self._slots = slots
        self._most = config.get("scheduler", "zygotes")
        self._answers_hold = config.get("scheduler", "variable_refresh_interval")
        self._load_timeout = config.get("core", "dagbag_import_timeout")
        self._most_warm = max(2, os.cpu_count() or 1)
        self._numbers = itertools.count(1)
        self._current: dict[str, Zygote] = {}
        self._all: dict[int, Zygote] = {}
        self._by_pid: dict[int, Zygote] = {}
        self._unplaced: list[Attempt] = []
        self._template: TemplateProcess | None = None
        self._template_started = 0.0
        self._backoff = 0.0
        self._closed = False
        self._start_template()

    # --- the template ---

    @property
    def template_pid(self) -> int | None:
        return None if self._template is None else self._template.pid

    def own_pids(self) -> set[int]:
        """Children of the worker that belong here."""
        pids = set(self._by_pid)
        if self._template is not None:
            pids.add(self._template.pid)
        return pids

    def _start_template(self) -> None:
        if self._closed or self._template is not None:
            return
        self._template = TemplateProcess()
        self._template_started = time.monotonic()
        self._loop.watch(self._template.fileno(), self._on_template)

    def _on_template(self, _: int) -> None:
        template = self._template
        while template is not None and template is self._template:
            try:
                packet = template.receive()
            except BlockingIOError:
                return
            if packet is None:
                self._lose_template()
                return
            if packet.kind == b"R":
                self._backoff = 0.0
            elif packet.kind == b"F":
                zygote = self._all.get(packet.number)
                if zygote is not None:
                    zygote.pid = int(packet.data)
                    self._by_pid[zygote.pid] = zygote
            elif packet.kind == b"X":
                self._on_zygote_ended(self._all.get(packet.number), int(packet.data))

    def reaped(self, pid: int, status: int) -> bool:
        """The worker has reaped a child; whether it was one of ours."""
        if self._template is not None and pid == self._template.pid:
            self._template.set_ended(status)
            self._on_template(READ)
            if self._template is not None and self._template.pid == pid:
                self._lose_template()
            return True
        zygote = self._by_pid.get(pid)
        if zygote is None:
            return False
        self._on_zygote_ended(zygote, status)
        return True

    def _lose_template(self) -> None:
        """Zygotes that have loaded go on without it; those that load died with it and begin again."""
        template, self._template = self._template, None
        assert template is not None
        self._loop.forget(template.fileno())
        template.close()
        if self._closed:
            return
        logger.warning("the template process %d is gone; a new one is started", template.pid)
        if time.monotonic() - self._template_started < 2.0:
            self._backoff = min(_LONGEST_BACKOFF_SECONDS, self._backoff * 2 or 0.1)
        self._loop.later(self._backoff, self._restart_template)

    def _restart_template(self) -> None:
        if self._closed:
            return
        self._start_template()
        again = self._take_unplaced()
        for zygote in list(self._all.values()):
            if zygote.state == LOADING:
                again += zygote.parked
                zygote.parked = []
                self._drop(zygote)
        self._observer.on_loaded(again)

    # --- placing attempts ---

    def place(self, attempt: Attempt) -> bool:
        """Start the attempt, or let it wait until its file is loaded; whether it takes a slot now. FileMissing."""
        zygote = self._zygote_for(attempt)
        if zygote is None:
            self._unplaced.append(attempt)
            return False
        zygote.last_used = time.monotonic()
        if zygote.state == LOADING:
            zygote.parked.append(attempt)
            return False
        if attempt.reuse:
            self._place_warm(zygote, attempt)
        else:
            attempt.number = next(self._numbers) & 0xFFFFFFFF
            zygote.running[attempt.number] = attempt
            self._send(zygote, b"R", attempt.number, attempt.data)
        return True

    def _zygote_for(self, attempt: Attempt) -> Zygote | None:
        folder = self._folder_of(attempt)
        zygote = self._current.get(f"{folder}/{attempt.fileloc}")
        if zygote is not None:
            if zygote.state == LOADING or (self._is_current(zygote) and _knows_version(zygote, attempt)):
                return zygote
            self._retire(zygote)
        if self._template is None or sum(each.state == LOADING for each in self._all.values()) >= self._slots:
            return None
        fresh = self._new(folder, attempt.fileloc)
        if zygote is not None:
            fresh.versions = zygote.versions
            fresh.versions.setdefault(attempt.dag_id, set()).add(attempt.version_hash)
        return fresh

    def _folder_of(self, attempt: Attempt) -> str:
        """Where the version that the attempt was scheduled with lies: its release while that is here, else the DAG
        folder as it is."""
        now = str(self._config.dags_folder)
        if not attempt.release:
            return now
        folder = dag_releases.folder_of(now, attempt.release)
        if folder is None:
            logger.warning(
                "release %s of the DAG folder is not here: %s runs as it is now", attempt.release, attempt.key
            )
        return folder or now

    def _is_current(self, zygote: Zygote) -> bool:
        if zygote.checked_turn == self._loop.turn:
            return True
        if time.monotonic() > zygote.fresh_until:
            return False
        for index, (path, mtime, size, inode) in enumerate(zygote.sources):
            try:
                status = os.stat(path)
            except OSError:
                continue  # a file that is being replaced, or gone: what was loaded is what there is
            if (status.st_mtime_ns, status.st_size, status.st_ino) == (mtime, size, inode):
                continue
            if path != zygote.path or _hash(path) != zygote.content_hash:
                return False
            zygote.sources[index] = (path, status.st_mtime_ns, status.st_size, status.st_ino)
        zygote.checked_turn = self._loop.turn
        return True

    def _new(self, folder: str, fileloc: str) -> Zygote:
        spec = replace(spec_for(self._config, fileloc), dags_folder=folder)
        path = f"{folder}/{fileloc}"
        # Held before it is read: from here on the release stays.
        held = dag_releases.hold(folder)
        content_hash = _hash(path)
        if content_hash is None:
            _release(held)
            raise FileMissing(f"the DAG file {fileloc} is not in {spec.dags_folder}")
        self._make_room()
        number = next(self._numbers) & 0xFFFFFFFF
        ours, theirs = packets.pair()
        ours.setblocking(False)
        output = new_output()
        zygote = Zygote(number, fileloc, folder, path, content_hash, ours, output, held=held)
        with theirs:
            assert self._template is not None
            try:
                self._template.fork(b"Z", number, spec, theirs, output)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the loss of the template is noticed by itself, and this load begins again
        self._all[number] = self._current[path] = zygote
        self._loop.watch(ours.fileno(), lambda bits: self._on_zygote(zygote, bits))
        zygote.load_timer = self._loop.later(self._load_timeout, lambda: self._give_up_loading(zygote))
        return zygote

    def _make_room(self) -> None:
        idle = sorted((each for each in self._current.values() if not each.busy), key=lambda each: each.last_used)
        for zygote in idle[: max(0, len(self._all) + 1 - self._most)]:
            self._retire(zygote)

    def _retire(self, zygote: Zygote) -> None:
        if self._current.get(zygote.path) is zygote:
            del self._current[zygote.path]
        zygote.retired = True
        if not zygote.busy:
            self._drop(zygote)

    def _drop(self, zygote: Zygote) -> None:
        """Let go of a zygote: it ends all that it has, and itself."""
        if zygote.state == GONE:
            return
        zygote.state = GONE
        if self._current.get(zygote.path) is zygote:
            del self._current[zygote.path]
        del self._all[zygote.number]
        if zygote.load_timer is not None:
            zygote.load_timer.cancel()
        for warm in zygote.warm.values():
            self._loop.forget(warm.channel.fileno())
            warm.channel.close()
        self._loop.forget(zygote.channel.fileno())
        zygote.channel.close()
        os.close(zygote.output)
        _release(zygote.held)

    def sweep(self) -> None:
        """End what has been idle for long."""
        now = time.monotonic()
        for zygote in list(self._all.values()):
            if not zygote.busy and now - zygote.last_used > _IDLE_SECONDS:
                self._retire(zygote)
                continue
            for warm in [each for each in zygote.idle_warm if now - each.idle_since > _WARM_IDLE_SECONDS]:
                self._end_warm(zygote, warm)

    # --- what a zygote says ---

    def _send(self, zygote: Zygote, kind: bytes, number: int, data: bytes, passed: socket.socket | None = None) -> None:
        zygote.outbox.append((kind, number, data, passed))
        if len(zygote.outbox) == 1:
            self._flush(zygote)

    def _flush(self, zygote: Zygote) -> None:
        while zygote.outbox:
            kind, number, data, passed = zygote.outbox[0]
            try:
                packets.send(zygote.channel, kind, number, data, (passed.fileno(),) if passed is not None else ())
            except BlockingIOError:
                self._loop.modify(zygote.channel.fileno(), READ | WRITE)
                return
            except (BrokenPipeError, ConnectionResetError):
                zygote.outbox.clear()  # its end is noticed by itself
                return
            if passed is not None:
                passed.close()
            zygote.outbox.popleft()

    def _on_zygote(self, zygote: Zygote, bits: int) -> None:
        if bits & WRITE:
            self._loop.modify(zygote.channel.fileno(), READ)
            self._flush(zygote)
        self._drain(zygote)

    def _drain(self, zygote: Zygote) -> None:
        while zygote.state != GONE:
            try:
                packet = packets.receive(zygote.channel)
            except BlockingIOError:
                return
            if packet is None:
                # Its wait status comes another way. Should it not come, the end is enough.
                self._loop.forget(zygote.channel.fileno())
                self._loop.later(0.5, lambda: self._on_zygote_ended(zygote, None))
                return
            self._on_packet(zygote, packet)

    def _on_packet(self, zygote: Zygote, packet: packets.Packet) -> None:
        number, kind = packet.number, packet.kind
        if kind == b"D":
            attempt = zygote.running.pop(number, None)
            if attempt is not None:
                self._observer.on_result(attempt, packet.data)
                self._after_attempt(zygote)
        elif kind == b"S":
            pid_text, at = packet.data.split()
            pid = int(pid_text)
            attempt = zygote.running.get(number)
            if attempt is not None:
                self._observer.on_started(attempt, pid, float(at))
            elif number in zygote.warm:
                warm = zygote.warm[number]
                warm.pid = pid
                if warm.attempt is not None:
                    self._observer.on_started(warm.attempt, pid, float(at))
        elif kind == b"X":
            self._on_ended(zygote, number, int(packet.data))
        elif kind == b"x":
            for each in packet.data.split():
                self._on_ended(zygote, int(each), 0)
        elif kind == b"E":
            attempt = zygote.running.pop(number, None)
            if attempt is not None:
                self._observer.on_died(attempt, None, packet.data.decode(errors="replace"))
                self._after_attempt(zygote)
            elif number in zygote.warm:
                self._on_warm_ended(zygote, zygote.warm[number], None, packet.data.decode(errors="replace"))
        elif kind == b"L":
            self._on_load(zygote, json.loads(packet.data))

    def _on_ended(self, zygote: Zygote, number: int, status: int) -> None:
        attempt = zygote.running.pop(number, None)
        if attempt is not None:
            self._observer.on_died(attempt, status, None)
            self._after_attempt(zygote)
        elif number in zygote.warm:
            self._on_warm_ended(zygote, zygote.warm[number], status, None)

    def _after_attempt(self, zygote: Zygote) -> None:
        if zygote.retired and not zygote.busy:
            self._drop(zygote)

    def _on_load(self, zygote: Zygote, answer: dict[str, object]) -> None:
        if zygote.load_timer is not None:
            zygote.load_timer.cancel()
        error = answer.get("error")
        if error is not None:
            self._load_failed(zygote, with_output(str(error), read_output(zygote.output)))
            return
        zygote.state = READY
        if answer["asked"]:
            zygote.fresh_until = time.monotonic() + self._answers_hold
        zygote.sources = [(path, mtime, size, inode) for path, mtime, size, inode in answer["sources"]]  # type: ignore[attr-defined]
        printed = read_output(zygote.output)
        if printed:
            logger.info("%s printed while it was loaded: %s", zygote.fileloc, printed)
        parked, zygote.parked = zygote.parked, []
        self._observer.on_loaded([*parked, *self._take_unplaced()])

    def _take_unplaced(self) -> list[Attempt]:
        unplaced, self._unplaced = self._unplaced, []
        return unplaced

    def _load_failed(self, zygote: Zygote, error: str) -> None:
        parked, zygote.parked = zygote.parked, []
        self._drop(zygote)
        self._observer.on_not_loaded(parked, error)
        self._observer.on_loaded(self._take_unplaced())

    def _give_up_loading(self, zygote: Zygote) -> None:
        if zygote.state != LOADING or zygote.pid is None:
            return
        if zygote.timed_out:
            processes.kill(zygote.pid, signal.SIGKILL)
            return
        # SIGABRT lets faulthandler write where it hangs; some code ignores it.
        zygote.timed_out = True
        processes.kill(zygote.pid, signal.SIGABRT)
        self._loop.later(1.0, lambda: self._give_up_loading(zygote))

    def _on_zygote_ended(self, zygote: Zygote | None, status: int | None) -> None:
        if zygote is None:
            return
        if zygote.pid is not None:
            self._by_pid.pop(zygote.pid, None)
        if zygote.state == GONE:
            return
        self._drain_before_end(zygote)
        if zygote.state == GONE:
            return
        if zygote.state == LOADING:
            if self._template is None:
                return  # it died with the template, and its load begins again with the next one
            limit = self._load_timeout if zygote.timed_out else None
            spec = replace(spec_for(self._config, zygote.fileloc), dags_folder=zygote.folder)
            self._load_failed(zygote, why_not_loaded(status, read_output(zygote.output), limit, spec))
            return
        attempts = [*zygote.running.values(), *(w.attempt for w in zygote.warm.values() if w.attempt is not None)]
        attempts += zygote.wants_warm
        zygote.running.clear()
        how = "is gone" if status is None else _how(status)
        logger.warning("the zygote %s of %s %s, with it %d attempts", zygote.pid, zygote.fileloc, how, len(attempts))
        self._drop(zygote)
        for attempt in attempts:
            if attempt.pid is not None:
                processes.kill_group(attempt.pid, signal.SIGKILL)
            self._observer.on_died(attempt, None, f"its zygote {how}")

    def _drain_before_end(self, zygote: Zygote) -> None:
        """Reports of attempts that came before the end count."""
        while zygote.state != GONE:
            try:
                packet = packets.receive(zygote.channel)
            except BlockingIOError:
                break
            if packet is None:
                break
            self._on_packet(zygote, packet)
        for warm in list(zygote.warm.values()):
            self._drain_warm(zygote, warm)

    # --- warm processes ---

    def _place_warm(self, zygote: Zygote, attempt: Attempt) -> None:
        if zygote.idle_warm:
            self._give(zygote, zygote.idle_warm.pop(), attempt)
        elif len(zygote.warm) < self._most_warm:
            self._give(zygote, self._new_warm(zygote), attempt)
        else:
            zygote.wants_warm.append(attempt)
            if len(zygote.wants_warm) == 1:
                self._loop.later(_WARM_PATIENCE_SECONDS, lambda: self._more_warm(zygote))

    def _more_warm(self, zygote: Zygote) -> None:
        """Attempts still wait: those that run take long, so each gets a process of its own."""
        if zygote.state != READY or not zygote.wants_warm:
            return
        if zygote.wants_warm[0].state == "placed":
            self._give(zygote, self._new_warm(zygote), zygote.wants_warm.popleft())
        if zygote.wants_warm:
            self._loop.later(_WARM_PATIENCE_SECONDS, lambda: self._more_warm(zygote))

    def _new_warm(self, zygote: Zygote) -> Warm:
        ours, theirs = packets.pair()
        ours.setblocking(False)
        warm = Warm(next(self._numbers) & 0xFFFFFFFF, ours)
        zygote.warm[warm.number] = warm
        self._loop.watch(ours.fileno(), lambda _: self._drain_warm(zygote, warm))
        self._send(zygote, b"W", warm.number, b"", theirs)
        return warm

    def _give(self, zygote: Zygote, warm: Warm, attempt: Attempt) -> None:
        warm.attempt = attempt
        attempt.number = warm.number
        try:
            packets.send(warm.channel, b"R", warm.number, attempt.data)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died; its end is reported by the zygote
        if warm.pid is not None:
            self._observer.on_started(attempt, warm.pid, time.time())

    def _drain_warm(self, zygote: Zygote, warm: Warm) -> None:
        while warm.number in zygote.warm:
            try:
                packet = packets.receive(warm.channel)
            except BlockingIOError:
                return
            if packet is None:
                self._loop.forget(warm.channel.fileno())
                return  # the zygote says how it ended
            attempt, warm.attempt = warm.attempt, None
            if packet.kind == b"d":
                del zygote.warm[warm.number]
                self._loop.forget(warm.channel.fileno())
                warm.channel.close()
            elif zygote.wants_warm:
                self._give(zygote, warm, zygote.wants_warm.popleft())
            else:
                warm.idle_since = time.monotonic()
                zygote.idle_warm.append(warm)
            if attempt is not None:
                self._observer.on_result(attempt, packet.data)
            self._after_attempt(zygote)

    def _on_warm_ended(self, zygote: Zygote, warm: Warm, status: int | None, why: str | None) -> None:
        self._drain_warm(zygote, warm)
        if zygote.warm.pop(warm.number, None) is None:
            return
        if warm in zygote.idle_warm:
            zygote.idle_warm.remove(warm)
        self._loop.forget(warm.channel.fileno())
        warm.channel.close()
        if warm.attempt is not None:
            self._observer.on_died(warm.attempt, status, why)
        if zygote.wants_warm:
            self._give(zygote, self._new_warm(zygote), zygote.wants_warm.popleft())
        self._after_attempt(zygote)

    def _end_warm(self, zygote: Zygote, warm: Warm) -> None:
        zygote.idle_warm.remove(warm)
        del zygote.warm[warm.number]
        self._loop.forget(warm.channel.fileno())
        warm.channel.close()

    # --- ending ---

    def signal(self, attempt: Attempt, number: int) -> bool:
        """Signal the process group of a running attempt; False when it has no process (yet)."""
        for zygote in self._all.values():
            if zygote.running.get(attempt.number) is attempt:
                self._send(zygote, b"K", attempt.number, str(int(number)).encode())
                return True
            warm = zygote.warm.get(attempt.number)
            if warm is not None and warm.attempt is attempt:
                self._send(zygote, b"K", attempt.number, str(int(number)).encode())
                return True
        return False

    def withdraw(self, attempt: Attempt) -> bool:
        """Take back an attempt that has no process yet; False when it has one."""
        if attempt in self._unplaced:
            self._unplaced.remove(attempt)
            return True
        for zygote in self._all.values():
            if attempt in zygote.parked:
                zygote.parked.remove(attempt)
                return True
            if attempt in zygote.wants_warm:
                zygote.wants_warm.remove(attempt)
                return True
        return False

    def close(self) -> None:
        """End all zygotes and the template."""
        self._closed = True
        for zygote in list(self._all.values()):
            self._drop(zygote)
        template, self._template = self._template, None
        if template is not None:
            self._loop.forget(template.fileno())
            template.close()
            template.wait(6.0)


def _knows_version(zygote: Zygote, attempt: Attempt) -> bool:
    """Whether the DAG is still the one that the zygote has loaded. A DAG that is made from variables gets a new version
    without a change of its file; then what the zygote was told is outdated."""
    if zygote.fresh_until == math.inf:
        return True
    versions = zygote.versions.setdefault(attempt.dag_id, {attempt.version_hash})
    return attempt.version_hash in versions


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


def _hash(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def _how(status: int) -> str:
    code, signal_number = processes.how_it_ended(status)
    if signal_number is not None:
        return f"was killed by {processes.signal_name(signal_number)}"
    return f"ended with exit code {code}"
