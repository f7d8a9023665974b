"""Asks the verbs: each runs as a process of its own, `opskit <verb> … --output json`, by the same door as everybody's.

Pages and API share the runs: whoever asks for what is under way gets that run, and whoever asks for what was answered a
moment ago gets that answer, with its age.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from opskit.config import Config
from opskit.errors import LockHeld, NotFound
from opskit.system.wake import wake
from opskit.web.verb_list import AT_ONCE, READ, VERBS, Verb, verb_of

log = logging.getLogger(__name__)

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_FOREIGN = ("INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS")
"""What systemd means for the webserver alone."""
_WAITING = 8
_MOST_PATIENT = 5
_KEPT = 50
"""Runs that have ended and are still known."""
_NICENESS = 10
_GRACE_SECONDS = 15.0
_TELL_EVERY_SECONDS = 1.0
_MOST_BYTES = 4 << 20
_MESSAGE_BYTES = 16 << 10
_generation = 0


def generation() -> int:
    """Rises whenever a job of this process is asked for, begins or ends: pages that show jobs look again."""
    return _generation


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a verb, as it is at this moment."""

    id: str
    verb: str
    parameter: str
    command: str
    """What one types for the same."""
    by: str
    """Who asked first."""
    asked_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    state: str = QUEUED
    """queued, running, done (it came to a report, whatever it says), failed (it came to none)."""
    exit_code: int | None = None
    report: Any = None
    """What it printed."""
    message: str = ""
    """What it said beside that: progress, warnings, errors; the last of it."""

    @property
    def has_ended(self) -> bool:
        return self.state in (DONE, FAILED)


class Verbs:
    """Runs the verbs of one installation. Thread-safe."""

    def __init__(self, config: Config, program: Sequence[str] = (sys.executable, "-m", "opskit")) -> None:
        self._home = config.home
        self._run_folder = config.run_folder
        self._program = tuple(program)
        self._changed = threading.Condition()
        self._patience = threading.BoundedSemaphore(_MOST_PATIENT)
        self._jobs: dict[str, Job] = {}
        self._answers: dict[tuple[str, str], Job] = {}
        self._waiting: deque[str] = deque()
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}
        self._stopping: set[str] = set()
        self._closed = False

    def start(self, name: str, parameter: str = "", *, by: str = "") -> Job:
        """Run it now, or when others have ended; a run of the same that is under way is shared.

        NotFound, UsageError; LockHeld when too many wait already.
        """
        verb = verb_of(name)
        verb.words_with(parameter)
        with self._changed:
            for job in self._jobs.values():
                if (job.verb, job.parameter) == (name, parameter) and not job.has_ended:
                    return job
            if self._closed or (verb.lane != READ and len(self._waiting) >= _WAITING):
                raise LockHeld(f"{len(self._waiting)} commands wait already", hint="wait until some of them have ended")
            job = Job(uuid.uuid4().hex, name, parameter, verb.command(parameter), by, datetime.now(UTC))
            self._jobs[job.id] = job
            self._waiting.append(job.id)
            self._forget()
            self._tell()
            self._next()
            return self._jobs[job.id]

    def job(self, identifier: str) -> Job:
        """NotFound: jobs are kept while this webserver runs, the newest of them."""
        with self._changed:
            if identifier not in self._jobs:
                raise NotFound(f"there is no job {identifier!r}", hint="jobs are forgotten when the webserver restarts")
            return self._jobs[identifier]

    def jobs(self) -> list[Job]:
        """The newest first."""
        with self._changed:
            return sorted(self._jobs.values(), key=lambda job: job.asked_at, reverse=True)

    def newest(self, name: str, parameter: str = "") -> Job | None:
        """The newest run that came to a report."""
        with self._changed:
            return self._answers.get((name, parameter))

    def under_way(self, name: str, parameter: str | None = None) -> Job | None:
        """A run that waits or goes on; of any parameter when none is named."""
        with self._changed:
            for job in self._jobs.values():
                if job.verb == name and not job.has_ended and parameter in (None, job.parameter):
                    return job
            return None

    def last(self, name: str, parameter: str | None = None) -> Job | None:
        """The newest run, whatever came of it."""
        return next((job for job in self.jobs() if job.verb == name and parameter in (None, job.parameter)), None)

    def wait(self, identifier: str, seconds: float) -> Job:
        """The job when it has ended, or as it is after so many seconds; at once when too many wait already."""
        # Each of them holds one of the threads that answer requests.
        patient = seconds > 0 and self._patience.acquire(blocking=False)
        try:
            with self._changed:
                job = self.job(identifier)
                if patient:
                    self._changed.wait_for(lambda: self._jobs.get(identifier, job).has_ended, seconds)
                return self._jobs.get(identifier, job)
        finally:
            if patient:
                self._patience.release()

    def answer(self, name: str, parameter: str = "", *, fresh_for: float, patience: float = 0.0, by: str = "") -> Job:
        """A run that ended at most `fresh_for` seconds ago, well or not; else one that is started for it, for whose end
        `patience` seconds are waited."""
        last = self.last(name, parameter)
        if last and last.ended_at and (datetime.now(UTC) - last.ended_at).total_seconds() <= fresh_for:
            return last
        return self.wait(self.start(name, parameter, by=by).id, patience)

    def stop(self, identifier: str) -> Job:
        """End a job, as Ctrl-C does: what it has begun is taken back. One that has ended stays as it is."""
        job = self.job(identifier)
        with self._changed:
            if identifier in self._waiting:
                self._waiting.remove(identifier)
                self._end(replace(job, state=FAILED, message="it was stopped before it began"))
                return self._jobs[identifier]
            process = self._running.get(identifier)
            if identifier in self._running:
                self._stopping.add(identifier)  # its process may be about to start
        if process is not None:
            _signal(process, signal.SIGTERM)
        return self.job(identifier)

    def close(self) -> None:
        """End all of them; for the end of the webserver."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            processes = [process for process in self._running.values() if process is not None]
        for process in processes:
            _signal(process, signal.SIGTERM)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running, _GRACE_SECONDS):
                for left in self._running.values():
                    if left is not None:
                        _signal(left, signal.SIGKILL)

    # --- under the lock

    def _next(self) -> None:
        taken = Counter(verb_of(self._jobs[identifier].verb).lane for identifier in self._running)
        for identifier in list(self._waiting):
            lane = verb_of(self._jobs[identifier].verb).lane
            if taken[lane] >= AT_ONCE[lane]:
                continue
            taken[lane] += 1
            self._waiting.remove(identifier)
            job = replace(self._jobs[identifier], state=RUNNING, started_at=datetime.now(UTC))
            self._jobs[job.id] = job
            self._running[job.id] = None
            # The thread lives as long as its process: the process's parent-death signal follows the thread.
            threading.Thread(target=self._run, args=(job,), name=f"verb {job.verb}", daemon=True).start()
        self._tell()

    def _end(self, job: Job) -> None:
        job = replace(job, ended_at=datetime.now(UTC))
        self._jobs[job.id] = job
        if job.state == DONE:
            self._answers.pop((job.verb, job.parameter), None)
            self._answers[job.verb, job.parameter] = job
            while len(self._answers) > _KEPT:
                del self._answers[next(iter(self._answers))]
        self._tell()

    def _forget(self) -> None:
        ended = sorted((job for job in self._jobs.values() if job.has_ended), key=lambda job: job.asked_at)
        for job in ended[: max(0, len(ended) - _KEPT)]:
            del self._jobs[job.id]

    def _tell(self) -> None:
        global _generation
        _generation += 1
        self._changed.notify_all()
        wake(self._run_folder, "live-")

    # --- in a thread of its own

    def _run(self, job: Job) -> None:
        try:
            job = self._finish(job, VERBS[job.verb])
        except Exception as error:
            # Whatever it is, those who wait must hear of it.
            log.exception("%s could not be run", job.command)
            job = replace(job, state=FAILED, message=f"it could not be run: {error}")
        with self._changed:
            self._running.pop(job.id, None)
            self._stopping.discard(job.id)
            self._end(job)
            self._next()

    def _hear(self, identifier: str, message: bytes) -> None:
        with self._changed:
            self._jobs[identifier] = replace(self._jobs[identifier], message=_text(message))
            self._tell()

    def _finish(self, job: Job, verb: Verb) -> Job:
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        # When the webserver is killed, what it runs ends cleanly (util-linux has setpriv).
        setpriv = shutil.which("setpriv")
        tied = (setpriv, "--pdeathsig", "TERM", "--") if setpriv else ()
        process = subprocess.Popen(
            [*tied, *self._program, *verb.words_with(job.parameter), "--output", "json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._home,
            env={**environment, "OPSKIT_HOME": str(self._home), "NO_COLOR": "1"},
            start_new_session=True,
        )
        with self._changed:
            self._running[job.id] = process
            unwanted = self._closed or job.id in self._stopping
        if unwanted:
            _signal(process, signal.SIGTERM)
        try:
            os.setpriority(os.PRIO_PGRP, process.pid, _NICENESS)
        except OSError:
            pass  # it has ended already
        output, message, ended = _follow(process, verb.limit_seconds, lambda said: self._hear(job.id, said))
        code = process.wait()
        report, state = None, FAILED
        if code < 0 and not ended:
            ended = f"it was ended by {signal.Signals(-code).name}"
        if not ended:
            try:
                report = json.loads(output) if output.strip() else None
                state = DONE if report is not None else FAILED
            except ValueError:
                ended = "its output is no JSON"
        said = "\n".join(part for part in (_text(message), ended) if part)
        return replace(job, state=state, exit_code=code, report=report, message=said)


def _follow(
    process: subprocess.Popen[bytes], seconds: float, told: Callable[[bytes], None]
) -> tuple[bytes, bytes, str]:
    """Output, the last of what it said on stderr, and why it was ended (empty: it ended by itself). `told` hears at
    times what it has said so far."""
    assert process.stdout is not None and process.stderr is not None
    output, message, why = bytearray(), bytearray(), ""
    until = time.monotonic() + seconds
    killed, untold, told_at = False, False, 0.0
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, min(_TELL_EVERY_SECONDS, until - time.monotonic()))):
                chunk = os.read(key.fd, 64 << 10)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk[: _MOST_BYTES + 1 - len(output)]
                else:
                    message += chunk
                    del message[:-_MESSAGE_BYTES]
                    untold = True
            if untold and time.monotonic() - told_at > _TELL_EVERY_SECONDS:
                untold, told_at = False, time.monotonic()
                told(bytes(message))
            if not why and len(output) > _MOST_BYTES:
                why = f"it printed more than {_MOST_BYTES >> 20} MiB, and was ended"
            elif not why and time.monotonic() >= until:
                why = f"it took more than {seconds:g} s, and was ended"
            elif why and not killed and time.monotonic() >= until:
                killed = True
                _signal(process, signal.SIGKILL)
                break  # a grandchild may hold the pipes
            else:
                continue
            _signal(process, signal.SIGTERM)
            until = time.monotonic() + _GRACE_SECONDS
    return bytes(output), bytes(message), why


def _text(message: bytes) -> str:
    return message.decode(errors="replace").strip()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To it and to all that it started: it leads a group of its own."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass


_made = threading.Lock()


async def verbs_of(request: Request) -> Verbs:
    """The one of this webserver."""
    return of_app(request.app)


def of_app(app: Any) -> Verbs:
    """The one of this application; made when it is first asked for."""
    with _made:
        found: Verbs | None = getattr(app.state, "verbs", None)
        if found is None:
            found = app.state.verbs = Verbs(app.state.store.config)
        return found


def end_all(app: Any) -> None:
    """End what the webserver of this application has started; for its own end."""
    found: Verbs | None = getattr(app.state, "verbs", None)
    if found is not None:
        found.close()


TheVerbs = Annotated[Verbs, Depends(verbs_of)]
"""For the arguments of handlers: `verbs: TheVerbs`."""
