"""The worker: takes attempts from schedulers over a socket, runs them in forks of warm processes, keeps each result
until it is acknowledged. It outlives every scheduler. Protocol: ARCHITECTURE.md, "Wire" and "Exactly once".
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

from opskit.config import Config
from opskit.core.runner import processes, wire
from opskit.core.runner.gateway_process import GatewayProcess
from opskit.core.runner.ledger import ENDED, PLACED, Attempt, Ledger
from opskit.core.runner.loop import READ, WRITE, Loop, Timer
from opskit.core.runner.template_process import headline
from opskit.core.runner.zygotes import FileMissing, Zygotes
from opskit.system import daemon
from opskit.system.locks import locked
from opskit.system.wake import short_path
from opskit.telemetry import task_logs

logger = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
ALONE_SECONDS = 5.0
"""Without a scheduler for so long, the worker lets its gateway beat for it and store its results."""
_UNANSWERED_SECONDS = 30.0
"""A result that its owner does not acknowledge for so long is stored too."""
_STARTED_DELAY_SECONDS = 0.05
"""An attempt that ends sooner is only reported as ended: its result says when it started."""
_LAST_WORDS_SECONDS = 5.0
_ASK_AGAIN_SECONDS = 0.25
"""While it stops: between two attempts to keep results in a metastore that is away."""
_STUCK_PEER_SECONDS = 60.0


@dataclass(slots=True, eq=False)
class Peer:
    """A scheduler's connection."""

    number: int
    connection: wire.FrameConnection
    scheduler: str | None = None
    blocked_since: float | None = None


def run(config: Config) -> int:
    """Work until SIGTERM or SIGINT; 0 after a clean stop. LockHeld when a worker of this OPSKIT_HOME runs already."""
    config.run_folder.mkdir(parents=True, exist_ok=True)
    with locked(config.run_folder, "worker"):
        worker = Worker(config)
        try:
            worker.serve()
        finally:
            worker.close()
    return 0


class Worker:
    """All state of one worker. `serve` is its life."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.id = str(uuid.uuid4())
        self._started_at = datetime.now(UTC)
        self._slots: int = config.get("core", "parallelism")
        self._kill_grace: float = config.get("core", "killed_task_cleanup_time")
        self._stop_grace: float = config.get("core", "worker_stop_grace")
        self._logs_folder = str(config.logs_folder)
        self._loop = Loop()
        self._ledger = Ledger()
        self._occupied = 0
        self._peers: dict[int, Peer] = {}
        self._next_peer = 1
        self._dirty: set[Peer] = set()
        self._recent: list[Attempt] = []
        self._started_timer: Timer | None = None
        self._alone_since = time.monotonic()
        self._known = False
        """Whether this worker has a row in the metastore: a scheduler that connects makes it."""
        self._stop_signals = 0
        self._stop_began = 0.0
        self._ask_again_at = 0.0
        self._killing: dict[wire.Key, Timer] = {}
        self._oom_kills = processes.out_of_memory_kills()
        processes.adopt_orphans()
        self._take_signals()
        self._listener = self._listen()
        self._pid_file = daemon.write_pid_file(config.run_folder, "worker", self.id, self._started_at.isoformat())
        self._gateway = GatewayProcess(config, self._loop, self.id, self._started_at, self._on_stored)
        self._zygotes = Zygotes(config, self._loop, self, self._slots)
        self._loop.later(BEAT_SECONDS, self._tick)

    # --- life ---

    def serve(self) -> None:
        logger.info("worker %s runs up to %d attempts at once", self.id, self._slots)
        daemon.notify("READY=1")
        while not self._is_done():
            self._loop.run_once()
            self._dispatch()
            if self._dirty:
                self._flush()

    def _take_signals(self) -> None:
        self._signals, self._signal_writer = socket.socketpair()
        self._signals.setblocking(False)
        self._signal_writer.setblocking(False)
        signal.set_wakeup_fd(self._signal_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, _ignore)
        daemon.enable_stack_dumps(self._config.run_folder)
        self._loop.watch(self._signals.fileno(), self._on_signals)

    def _on_signals(self, _: int) -> None:
        try:
            numbers = set(self._signals.recv(4096))
        except BlockingIOError:
            return
        if numbers & {signal.SIGTERM, signal.SIGINT}:
            self._stop()
        self._reap()

    def _reap(self) -> None:
        strangers = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if not self._gateway.reaped(pid, status) and not self._zygotes.reaped(pid, status):
                strangers = True
        if strangers:
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Descendants that a dead template or zygote left to us."""
        for pid in processes.children() - self._zygotes.own_pids() - self._gateway.own_pids():
            processes.kill_orphan(pid)

    def _tick(self) -> None:
        self._loop.later(BEAT_SECONDS, self._tick)
        daemon.notify("WATCHDOG=1")
        now = time.monotonic()
        for peer in list(self._peers.values()):
            if not peer.connection.wants_write:
                peer.connection.put({"t": "beat"})
                self._dirty.add(peer)
            elif peer.blocked_since is not None and now - peer.blocked_since > _STUCK_PEER_SECONDS:
                self._drop_peer(peer, "it does not read")
        if self._peers:
            self._alone_since = now
        elif now - self._alone_since >= ALONE_SECONDS:
            self._gateway.beat()
            self._known = True
        self._store_unanswered(now)
        self._zygotes.sweep()
        self._kill_orphans()

    def _store_unanswered(self, now: float, patience: float = ALONE_SECONDS) -> None:
        left = []
        for attempt in self._ledger.unacknowledged():
            limit = patience if self._ledger.owner(attempt.dag_id) is None else _UNANSWERED_SECONDS
            if not attempt.stored and now - attempt.ended_clock >= limit:
                left.append(attempt)
        if left:
            self._gateway.store(left)

    def _on_stored(self, keys: list[wire.Key]) -> None:
        """They stay in the ledger: an owner that asks is still told, and a repeated key is still refused."""
        for key in keys:
            attempt = self._ledger.get(key)
            if attempt is not None:
                attempt.stored = True

    # --- schedulers ---

    def _listen(self) -> socket.socket:
        path = wire.worker_socket(self._config.run_folder)
        path.unlink(missing_ok=True)  # we hold the lock: its listener is gone
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            with short_path(path) as name:
                listener.bind(name)
        finally:
            os.umask(before)
        listener.listen(64)
        self._loop.watch(listener.fileno(), self._on_connect)
        return listener

    def _on_connect(self, _: int) -> None:
        try:
            connected, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connected.set_inheritable(False)
        peer = Peer(self._next_peer, wire.FrameConnection(connected))
        self._next_peer += 1
        self._peers[peer.number] = peer
        self._loop.watch(connected.fileno(), lambda bits: self._on_peer(peer, bits))

    def _on_peer(self, peer: Peer, bits: int) -> None:
        if bits & WRITE:
            self._dirty.add(peer)
        if bits & ~WRITE:
            try:
                for frame in peer.connection.receive():
                    self._on_frame(peer, frame)
            except wire.ConnectionClosed as error:
                self._drop_peer(peer, str(error))
            except wire.ProtocolError as error:
                logger.warning("a scheduler's connection is closed: %s", error)
                self._drop_peer(peer, error.message)

    def _drop_peer(self, peer: Peer, why: str) -> None:
        if self._peers.pop(peer.number, None) is None:
            return
        logger.info("scheduler %s is disconnected: %s", peer.scheduler, why)
        self._loop.forget(peer.connection.fileno())
        peer.connection.close()
        self._dirty.discard(peer)
        self._ledger.disconnected(peer.number)
        if not self._peers:
            self._alone_since = time.monotonic()

    def _on_frame(self, peer: Peer, frame: wire.Frame) -> None:
        kind = frame.get("t")
        try:
            if kind == "hello":
                peer.scheduler = str(frame["scheduler"])
                self._known = True
                self._put(peer, self._welcome())
                if frame["protocol"] != wire.PROTOCOL:
                    raise wire.ProtocolError(f"it speaks protocol {frame['protocol']}, this worker {wire.PROTOCOL}")
            elif peer.scheduler is None:
                raise wire.ProtocolError("the first frame is no hello")
            elif kind == "run":
                for message in frame["attempts"]:
                    self._admit(peer, message)
            elif kind == "ack":
                self._ledger.acknowledge(frame["keys"])
            elif kind == "fence":
                self._fence(peer, frame["dag_id"], frame["epoch"], frame.get("ask", 0))
            elif kind == "kill":
                for key in frame["keys"]:
                    self._kill(wire.as_key(key), str(frame.get("reason") or "killed"))
            # What a newer scheduler may say besides is for newer workers.
        except (KeyError, TypeError) as error:
            raise wire.ProtocolError(f"a {kind} frame without {error}") from error

    def _welcome(self) -> wire.Frame:
        return {
            "t": "welcome",
            "worker": self.id,
            "protocol": wire.PROTOCOL,
            "slots": self._slots,
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": daemon.process_started(os.getpid()),
            "started_at": self._started_at.isoformat(),
        }

    def _put(self, peer: Peer, frame: wire.Frame) -> None:
        peer.connection.put(frame)
        self._dirty.add(peer)

    def _flush(self) -> None:
        for peer in list(self._dirty):
            try:
                done = peer.connection.flush()
            except wire.ConnectionClosed:
                done = True  # what it had to say before is read first, then its end is found
            if done:
                self._dirty.discard(peer)
                if peer.blocked_since is not None:
                    peer.blocked_since = None
                    self._loop.modify(peer.connection.fileno(), READ)
            elif peer.blocked_since is None:
                peer.blocked_since = time.monotonic()
                self._loop.modify(peer.connection.fileno(), READ | WRITE)
                self._dirty.discard(peer)
            else:
                self._dirty.discard(peer)

    def _tell(self, dag_id: str, payload: bytes) -> None:
        owner = self._ledger.owner(dag_id)
        peer = self._peers.get(owner) if owner is not None else None
        if peer is not None:
            peer.connection.put_payload(payload)
            self._dirty.add(peer)

    def _fence(self, peer: Peer, dag_id: str, epoch: int, ask: int) -> None:
        in_force, attempts = self._ledger.fence(dag_id, epoch, peer.number)
        keys = [attempt.key for attempt in attempts]
        self._put(peer, {"t": "held", "dag_id": dag_id, "epoch": in_force, "keys": keys, "ask": ask})
        for attempt in attempts:
            if attempt.state == ENDED:
                peer.connection.put_payload(attempt.result)
            elif attempt.pid is not None:
                self._put(peer, _started(attempt))

    def _admit(self, peer: Peer, message: dict[str, Any]) -> None:
        attempt, key, refusal = self._ledger.admit(message, peer.number)
        if attempt is None:
            self._put(peer, {"t": "refused", "key": key, "reason": refusal})
        elif self._stop_signals:
            self._hand_back(attempt)
        elif attempt.slotless:
            self._place(attempt)
        else:
            self._ledger.enqueue(attempt)

    # --- attempts ---

    def _dispatch(self) -> None:
        while self._occupied < self._slots and self._ledger.has_waiting:
            attempt = self._ledger.next_waiting()
            if attempt is None:
                return
            self._place(attempt)

    def _place(self, attempt: Attempt) -> None:
        try:
            placed = self._zygotes.place(attempt)
        except (FileMissing, OSError) as error:
            self.on_not_loaded([attempt], str(error))
            return
        if placed and attempt.state != ENDED:
            attempt.state = PLACED
            self._occupied += not attempt.slotless

    def on_loaded(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if attempt.state == ENDED:
                continue
            if attempt.slotless:
                self._place(attempt)
            else:
                self._ledger.enqueue(attempt)

    def on_not_loaded(self, attempts: list[Attempt], error: str) -> None:
        for attempt in attempts:
            reason = f"the DAG file could not be loaded: {headline(error)}"
            self._log(attempt, f"the DAG file could not be loaded: {error}")
            self._end(attempt, _result(attempt, "failed", reason))

    def on_started(self, attempt: Attempt, pid: int, at: float) -> None:
        attempt.pid = pid
        attempt.started_at = datetime.fromtimestamp(at, UTC).isoformat()
        if attempt.kill_reason is not None:
            self._signal(attempt)
        self._recent.append(attempt)
        if self._started_timer is None:
            self._started_timer = self._loop.later(_STARTED_DELAY_SECONDS, self._tell_started)

    def _tell_started(self) -> None:
        self._started_timer = None
        recent, self._recent = self._recent, []
        for attempt in recent:
            if attempt.state != ENDED:
                self._tell(attempt.dag_id, wire.payload(_started(attempt)))

    def on_result(self, attempt: Attempt, result: bytes) -> None:
        if attempt.kill_reason is not None:
            frame = json.loads(result)
            if frame["state"] != "success":
                frame["reason"] = attempt.kill_reason
                result = wire.payload(frame)
        self._end(attempt, result)

    def on_died(self, attempt: Attempt, status: int | None, why: str | None) -> None:
        code, signal_number = (None, None) if status is None else processes.how_it_ended(status)
        reason = why or self._why(code, signal_number)
        self._log(attempt, reason)
        if attempt.kill_reason is not None:
            self._log(attempt, f"it was ended because: {attempt.kill_reason}")
            reason = attempt.kill_reason
        name = None if signal_number is None else processes.signal_name(signal_number)
        if status is None:
            name = "lost"
        self._end(attempt, _result(attempt, "failed", reason, exit_code=code, signal=name))

    def _why(self, code: int | None, signal_number: int | None) -> str:
        if signal_number is None:
            return f"the process ended with exit code {code} from os._exit, without a result"
        reason = f"killed by {processes.signal_name(signal_number)}"
        if signal_number == signal.SIGKILL:
            kills = processes.out_of_memory_kills()
            if kills > self._oom_kills:
                self._oom_kills = kills
                reason += ": the machine or its control group ran out of memory"
        return reason

    def _log(self, attempt: Attempt, text: str) -> None:
        try:
            task_logs.append_line(self._logs_folder, attempt.log_path, text)
        except OSError as error:
            logger.warning("%s: %s (its log can't be written: %s)", attempt.key, text, error)

    def _end(self, attempt: Attempt, result: bytes) -> None:
        occupied = attempt.state == PLACED
        if not self._ledger.end(attempt, result, time.monotonic()):
            return
        if occupied and not attempt.slotless:
            self._occupied -= 1
        if attempt.kill_reason is not None:
            timer = self._killing.pop(attempt.key, None)
            if timer is not None:
                timer.cancel()
        self._tell(attempt.dag_id, result)

    # --- killing and stopping ---

    def _kill(self, key: wire.Key, reason: str) -> None:
        attempt = self._ledger.get(key)
        if attempt is None or attempt.state == ENDED:
            return
        if attempt.kill_reason is not None:
            return  # under way
        attempt.kill_reason = reason
        if attempt.pid is None and (attempt.state != PLACED or self._zygotes.withdraw(attempt)):
            if attempt.state != PLACED:
                self._zygotes.withdraw(attempt)
            self._end(attempt, _result(attempt, "failed", reason))
        elif attempt.pid is not None:
            self._signal(attempt)
        # Else its process is being forked: it is signalled as soon as that is known.

    def _signal(self, attempt: Attempt) -> None:
        if attempt.key not in self._killing and self._zygotes.signal(attempt, signal.SIGTERM):
            logger.info("%s gets SIGTERM: %s", attempt.key, attempt.kill_reason)
            self._killing[attempt.key] = self._loop.later(self._kill_grace, lambda: self._signal_hard(attempt))

    def _signal_hard(self, attempt: Attempt) -> None:
        if attempt.state != ENDED:
            logger.warning("%s gets SIGKILL: it has not ended %g s after SIGTERM", attempt.key, self._kill_grace)
            self._zygotes.signal(attempt, signal.SIGKILL)

    def _stop(self) -> None:
        self._stop_signals += 1
        if self._stop_signals == 1:
            # The unit can't know how long the settings let attempts run on.
            patience = self._stop_grace + self._kill_grace + 30
            daemon.notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(patience * 1e6)}")
            logger.info("stopping: %d attempts run, they have %g s to end", self._occupied, self._stop_grace)
            self._stop_began = time.monotonic()
            for attempt in self._ledger.waiting():
                self._zygotes.withdraw(attempt)
                self._hand_back(attempt)
            for attempt in self._ledger:
                if attempt.slotless and attempt.state == PLACED:
                    # Another process, here or elsewhere, waits for the event.
                    self._hand_back(attempt)
                    self._zygotes.signal(attempt, signal.SIGKILL)
            self._loop.later(self._stop_grace, self._end_running)
        else:
            self._end_running()

    def _end_running(self) -> None:
        hard = self._stop_signals > 2
        for attempt in self._ledger:
            if attempt.state != PLACED:
                continue
            if hard:
                self._zygotes.signal(attempt, signal.SIGKILL)
            else:
                self._kill(attempt.key, "the worker was stopped")

    def _hand_back(self, attempt: Attempt) -> None:
        """It has not begun: it runs again, later or elsewhere, without using up a try."""
        later = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        self._end(attempt, _result(attempt, "up_for_reschedule", "the worker is stopping", reschedule_at=later))

    def _is_done(self) -> bool:
        if not self._stop_signals or self._occupied:
            return False
        if self._stop_signals > 1:
            return True
        left = [attempt for attempt in self._ledger.unacknowledged() if not attempt.stored]
        if not left:
            return True
        now = time.monotonic()
        newest = max(attempt.ended_clock for attempt in left)
        if now - max(newest, self._stop_began) > 2 * _LAST_WORDS_SECONDS:
            logger.warning("stopped with %d results that nobody has taken", len(left))
            return True
        patience = 0.0 if not self._peers else _LAST_WORDS_SECONDS
        if now >= self._ask_again_at:  # not at each turn: that it failed is a reason for the next turn
            self._ask_again_at = now + _ASK_AGAIN_SECONDS
            self._store_unanswered(now, patience)
            self._loop.later(_ASK_AGAIN_SECONDS, lambda: None)
        return False

    def close(self) -> None:
        """End all processes of this worker and give its names back."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        wire.worker_socket(self._config.run_folder).unlink(missing_ok=True)
        for peer in list(self._peers.values()):
            self._drop_peer(peer, "the worker ends")
        self._zygotes.close()
        self._gateway.close(known=self._known)
        self._kill_orphans()
        self._pid_file.unlink(missing_ok=True)
        signal.set_wakeup_fd(-1)
        self._signals.close()
        self._signal_writer.close()
        self._loop.close()


def _started(attempt: Attempt) -> wire.Frame:
    return {"t": "started", "key": attempt.key, "pid": attempt.pid, "at": attempt.started_at}


def _result(
    attempt: Attempt,
    state: str,
    reason: str,
    *,
    exit_code: int | None = None,
    signal: str | None = None,
    reschedule_at: str | None = None,
) -> bytes:
    return wire.payload(
        {
            "t": "result",
            "key": attempt.key,
            "dag_id": attempt.dag_id,
            "state": state,
            "started_at": attempt.started_at,
            "ended_at": datetime.now(UTC).isoformat(),
            "pid": attempt.pid,
            "exit_code": exit_code,
            "signal": signal,
            "reason": reason,
            "retry": True,
            "reschedule_at": reschedule_at,
            "xcoms": [],
            "skip": [],
        }
    )


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal wakes the loop and does nothing else."""
