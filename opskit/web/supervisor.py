"""The webserver of several processes: takes connections and gives each to the worker that has the fewest, starts again
what dies, replaces what hangs, and ends all in order.

It loads the application, is the only thread of its process and never speaks with the metastore; so its forks are safe,
and the memory of what is loaded is there once. Seat 0 is its own, seat 1 the keeper's, the others are the workers'.
"""

from __future__ import annotations

import atexit
import errno
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import uvicorn

from opskit.config import Config
from opskit.core.runner.processes import ParentGone, die_with_parent, set_name
from opskit.errors import OpskitError
from opskit.system import daemon
from opskit.system.processes import Process, process_state, tail
from opskit.telemetry import logs
from opskit.web.board import Board, Rounds
from opskit.web.job_runner import this_process
from opskit.web.supervised import SLOW_SECONDS, Child
from opskit.web.worker_process import keep, serve

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_DUMP_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0
_MOST_FAILURES = 6
"""Ends of one child in a row, each soon after its start, after which the webserver gives up while none serves."""
_STOP_SECONDS = {"worker": 8.0, "keeper": 18.0}
_AT_ONCE = 64
_MOST_NOT_TAKEN = 200


@dataclass(slots=True)
class _Signals:
    received: list[int] = field(default_factory=list)


class Supervisor:
    """`made`: uvicorn's settings, loaded, of an application whose engines nobody has used yet."""

    def __init__(
        self, config: Config, made: uvicorn.Config, listening: socket.socket, workers: int, instance_id: str
    ) -> None:
        self._config = config
        self._made = made
        self._listening = listening
        self._instance_id = instance_id
        self._me = this_process()
        self._board = Board(2 + workers)
        self._keeper = Child("keeper", "keeper", self._board.seats[1])
        self._workers = [Child(f"worker {n}", "worker", seat) for n, seat in enumerate(self._board.seats[2:], 1)]
        self._rounds = Rounds(self._board.seats[0], self._board.seats[2:])
        self._signals = _Signals()
        self._poller = select.poll()
        self._read_end = -1
        self._is_listening = False
        self._for_nobody: list[socket.socket] = []
        self._ready = False
        self._looked_at = time.monotonic()

    @property
    def _children(self) -> list[Child]:
        return [*self._workers, self._keeper]

    def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGHUP, then 0. OpskitError when no worker can be started."""
        self._read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, lambda received, _: self._signals.received.append(received))
        self._poller.register(self._read_end, select.POLLIN)
        self._listening.setblocking(False)
        gc.collect()
        gc.freeze()  # what is there now is never looked at again, so that its pages stay shared
        try:
            for child in self._children:
                self._start(child)
            while not self._signals.received:
                self._turn()
            log.info("%s: stopping", signal.Signals(self._signals.received[0]).name)
            daemon.notify("STOPPING=1")
            self._stop_all()
        finally:
            self._kill_all()
        return 0

    def _turn(self) -> None:
        now = time.monotonic()
        due = [child.due_at for child in self._children if child.process is None]
        self._listen(self._fit(now) is not None)
        events = self._poller.poll(max(0.0, min([self._looked_at + _LOOK_SECONDS, *due]) - now) * 1000 + 1)
        channels = {child.channel.fileno(): child for child in self._workers if child.channel is not None}
        for descriptor, _ in events:
            if descriptor in channels:
                self._hear(channels[descriptor])
            elif descriptor == self._listening.fileno():
                self._accept()
            elif descriptor == self._read_end:
                os.read(self._read_end, 4096)
        now = time.monotonic()
        if now - self._looked_at > 5 * _LOOK_SECONDS:
            # We were stopped, and so perhaps was all of the machine: each gets its time anew.
            for child in self._children:
                child.started_at = max(child.started_at, now - SLOW_SECONDS)
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._look_at_all(now)
        for child in self._children:
            self._look_after(child)
        if self._for_nobody:
            self._give_again()

    def _look_at_all(self, now: float) -> None:
        self._board.seats[0].turn()
        for child in self._children:
            self._judge(child, now)
        if not self._ready and any(child.seat.proved_at for child in self._workers):
            self._ready = True
            daemon.notify("READY=1")
        if self._rounds.look():
            daemon.notify("WATCHDOG=1")

    # --- connections

    def _listen(self, wanted: bool) -> None:
        """While nobody can take a connection, the kernel keeps them."""
        if wanted and not self._is_listening:
            self._poller.register(self._listening, select.POLLIN)
        elif not wanted and self._is_listening:
            self._poller.unregister(self._listening)
        self._is_listening = wanted

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("connections can't be taken: %s", error.strerror)
                    time.sleep(0.1)
                    return
                continue  # whoever called has gone
            self._give(connection)

    def _give(self, connection: socket.socket) -> None:
        refused: list[Child] = []
        while (child := self._fit(time.monotonic(), refused)) is not None and child.channel is not None:
            try:
                socket.send_fds(child.channel, [b"c"], [connection.fileno()])
            except OSError:
                refused.append(child)  # its queue is full, or it has just died
                continue
            child.given += 1
            child.not_taken.append(connection)
            return
        self._for_nobody.append(connection)

    def _hear(self, child: Child) -> None:
        """Which connections it has taken: ours of them must go, or they would not end where it ends them."""
        assert child.channel is not None
        while True:
            try:
                said = child.channel.recv(8)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                with suppress(KeyError):
                    self._poller.unregister(child.channel)  # it ends
                return
            for _ in range(min(int.from_bytes(said, "big"), len(child.not_taken))):
                child.not_taken.popleft().close()

    def _give_again(self) -> None:
        """What was given to workers that have died, and what nobody could take."""
        waiting, self._for_nobody = self._for_nobody, []
        for connection in waiting:
            self._give(connection)

    def _fit(self, now: float, refused: list[Child] | None = None) -> Child | None:
        """Who gets the next connection; None: nobody serves."""
        serving = [
            child
            for child in self._workers
            if child.channel is not None
            and child.seat.turned_at
            and len(child.not_taken) < _MOST_NOT_TAKEN
            and child not in (refused or ())
        ]
        turning = [child for child in serving if child.turned_ago(now) < SLOW_SECONDS]
        # Among those with equally many, the one that was given the fewest: else the first would get each single one.
        return min(turning or serving, key=lambda child: (child.load, child.given), default=None)

    # --- children

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child.seat.begin()
        child.given, child.dumped_at, child.started_at = 0, 0.0, time.monotonic()
        if child.kind == "keeper":
            pid = self._fork(
                "opskit-web-jobs",
                lambda: keep(self._config, self._board, child.seat, self._instance_id, self._me),
                theirs,
            )
        else:
            pid = self._fork(
                "opskit-" + child.name.replace("worker ", "web-"),
                lambda: serve(self._config, self._made, child.seat, theirs, self._me, len(self._workers)),
                theirs,
            )
        theirs.close()
        child.process = Process(pid, daemon.process_started(pid) or 0.0)
        child.pidfd = os.pidfd_open(pid)
        self._poller.register(child.pidfd, select.POLLIN)
        if child.kind == "worker":
            ours.setblocking(False)
            child.channel = ours
            self._poller.register(ours, select.POLLIN)
        else:
            ours.close()
        log.info("%s: started (pid %d)", child.name, pid)

    def _fork(self, name: str, what: Callable[[], int], kept: socket.socket) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # A process group of its own: Ctrl-C reaches the supervisor alone, which stops all in order.
            os.setpgid(0, 0)
            die_with_parent(parent)
            set_name(name)
            logs.setup(
                str(self._config.get("logging", "logging_level")),
                json=bool(self._config.get("logging", "json_logs")),
                component=name.replace("opskit-web", "webserver"),
            )
            self._let_go(kept)
            daemon.enable_stack_dumps(self._config.run_folder)
            os.environ.pop("NOTIFY_SOCKET", None)  # words to systemd are the supervisor's
            code = what()
            atexit._run_exitfuncs()  # what the child itself has opened
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

    def _let_go(self, kept: socket.socket) -> None:
        """In a child: of what is the supervisor's, or another child's."""
        self._listening.close()
        os.close(self._read_end)
        for child in self._children:
            if child.pidfd >= 0:
                os.close(child.pidfd)
            if child.channel is not None and child.channel is not kept:
                child.channel.close()
            for connection in child.not_taken:
                connection.close()
        for connection in self._for_nobody:
            connection.close()

    def _look_after(self, child: Child) -> None:
        if child.process is not None and (ended := self._ended(child)) is not None:
            now = time.monotonic()
            lived = now - child.started_at
            if lived >= _STABLE_SECONDS:
                child.failures, child.pause = 0, 0.0
            else:
                child.failures += 1
                child.pause = min(_LONGEST_PAUSE_SECONDS, 2 * child.pause or _FIRST_PAUSE_SECONDS)
            # One that has served is missed at once; one that dies as it starts is given time.
            pause = 0.0 if child.failures <= 1 and child.seat.turned_at else child.pause
            child.due_at = now + pause
            log.warning("%s (pid %d): %s; starting it again in %.1f s", child.name, child.process.pid, ended, pause)
            self._forget(child)
            if child.failures >= _MOST_FAILURES and (child.kind == "keeper" or self._nobody_serves()):
                raise OpskitError(
                    f"the webserver gives up: its {child.name} ended {child.failures} times in a row",
                    hint="the lines above say why",
                )
        if child.process is None and time.monotonic() >= child.due_at:
            try:
                self._start(child)
            except OSError as error:  # too many processes, or no memory
                log.error("%s can't be started: %s", child.name, error.strerror)
                child.due_at = time.monotonic() + _LONGEST_PAUSE_SECONDS / 3

    def _nobody_serves(self) -> bool:
        return not any(child.process is not None and child.seat.proved_at for child in self._workers)

    def _ended(self, child: Child) -> str | None:
        """How it ended; None while it runs."""
        assert child.process is not None
        pid, status = os.waitpid(child.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    def _forget(self, child: Child) -> None:
        self._poller.unregister(child.pidfd)
        os.close(child.pidfd)
        if child.channel is not None:
            self._hear(child)
            with suppress(KeyError):
                self._poller.unregister(child.channel)
            child.channel.close()
            self._for_nobody += child.not_taken
            child.not_taken.clear()
        child.process, child.pidfd, child.channel = None, -1, None

    def _judge(self, child: Child, now: float) -> None:
        """Kill what has hung for long, after it was asked where."""
        if child.process is None:
            return
        if child.dumped_at:
            if now - child.dumped_at >= _DUMP_SECONDS:
                stacks = tail(daemon.stacks_path(self._config.run_folder, child.process.pid))
                log.error("%s (pid %d): killed\n%s", child.name, child.process.pid, "\n".join(stacks))
                self._signal(child, signal.SIGKILL)
            return
        others = [other for other in self._workers if other is not child and other.process is not None]
        why = child.hangs(others, now)
        if why:
            state = process_state(child.process.pid, child.process.started)
            log.error("%s (pid %d, %s): %s; it is replaced", child.name, child.process.pid, state, why)
            child.dumped_at = now
            self._signal(child, signal.SIGUSR2)

    def _signal(self, child: Child, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(child.pidfd, number)
        except ProcessLookupError:
            pass

    # --- the end

    def _stop_all(self) -> None:
        self._listen(False)
        self._listening.close()
        began = time.monotonic()
        for child in self._children:
            if child.process is not None:
                self._signal(child, signal.SIGTERM)
        while left := [child for child in self._children if child.process is not None]:
            now = time.monotonic()
            for child in left:
                if (ended := self._ended(child)) is not None:
                    log.info("%s: %s", child.name, ended)
                    self._forget(child)
                elif now - began > _STOP_SECONDS[child.kind] or len(self._signals.received) > 1:
                    log.warning("%s: killed, it did not stop", child.name)
                    self._signal(child, signal.SIGKILL)
            self._poller.poll(100)
            with suppress(BlockingIOError):
                os.read(self._read_end, 4096)
            for child in self._workers:
                if child.channel is not None:
                    self._hear(child)

    def _kill_all(self) -> None:
        """Whatever happened: nobody is left."""
        for child in self._children:
            if child.process is not None:
                self._signal(child, signal.SIGKILL)
                os.waitpid(child.process.pid, 0)
                self._forget(child)
