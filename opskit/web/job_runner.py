"""Runs the jobs of one OPSKIT_HOME: as processes, a few of each lane at once, within their time.

One process at a time does so, whoever has the lock; the others wait for it to be free, as long as there is work.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from opskit.errors import OpskitError
from opskit.system.daemon import process_started
from opskit.system.processes import Process
from opskit.system.wake import WakeSocket, wake
from opskit.web.job_files import DONE, FAILED, QUEUED, RUNNING, Job, JobFiles, Jobs
from opskit.web.job_process import GRACE_SECONDS, follow, signal_group, text_of
from opskit.web.verb_list import AT_ONCE, SHORT, VERBS

log = logging.getLogger(__name__)
_FOREIGN = ("INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS")
"""What systemd means for the webserver alone."""
_NICENESS = 10
_LOOK_SECONDS = 1.0
"""Between two looks, when nobody wakes it."""
_NOT_BEGUN = "it was stopped before it began"
_NO_SERVER = "the webserver ended before it began"
_LEFT = "the process that ran it has ended, and it with that"


class JobRunner:
    """Thread-safe. `stays`: it waits for work as long as it is not closed; else its thread ends when there is none."""

    def __init__(
        self,
        files: JobFiles,
        home: Path,
        run_folder: Path,
        program: Sequence[str],
        *,
        webserver: Process | None = None,
        stays: bool,
    ) -> None:
        self._files = files
        self._home = home
        self._run_folder = run_folder
        self._program = tuple(program)
        self._stays = stays
        self._me = this_process()
        self._webserver = webserver or self._me
        # Before the lock of the folder comes the first of these, after it the other.
        self._threads = threading.Lock()
        self._changed = threading.Condition()
        self._running: dict[str, subprocess.Popen[bytes] | None] = {}
        self._told_to_end: set[str] = set()
        self._not_written: list[Job] = []
        self._thread: threading.Thread | None = None
        self._lock_descriptor = -1
        self._closed = False

    def look(self) -> None:
        """Start what can be started now, if this process may, and go on with the rest in a thread."""
        with self._threads:
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()
        self._step()

    def close(self) -> None:
        """End all that runs, and say so of what waits; for the end of the webserver."""
        with self._threads:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        with self._changed:
            processes = [process for process in self._running.values() if process is not None]
        wake(self._run_folder, "jobs-")
        for process in processes:
            signal_group(process, signal.SIGTERM)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running, GRACE_SECONDS):
                for left in self._running.values():
                    if left is not None:
                        signal_group(left, signal.SIGKILL)
                self._changed.wait_for(lambda: not self._running, 2.0)
        if thread is not None:
            thread.join(5)
        try:
            if any(map(self._waits_for_us, self._files.all())):
                with self._files.changing() as jobs:
                    for job in filter(self._waits_for_us, jobs):
                        jobs.put(_ended(job, _NO_SERVER))
        except OpskitError as error:
            log.warning("%s", error.message)
        self._give_up_the_lock()

    def _waits_for_us(self, job: Job) -> bool:
        return job.state == QUEUED and job.asked_of == self._webserver

    def _run(self) -> None:
        try:
            socket: WakeSocket | None = WakeSocket(self._run_folder, f"jobs-{uuid.uuid4()}")
        except OSError as error:
            log.warning("jobs are looked at once a second, nobody can wake who runs them: %s", error)
            socket = None
        try:
            while not self._is_over():
                if socket:
                    socket.wait(_LOOK_SECONDS)
                else:
                    time.sleep(_LOOK_SECONDS)
                self._step()
        finally:
            if socket:
                socket.close()

    def _is_over(self) -> bool:
        with self._threads:
            if not self._closed and (self._stays or self._running or self._has_work()):
                return False
            self._thread = None
            if not self._closed:
                self._give_up_the_lock()
            return True

    def _has_work(self) -> bool:
        try:
            return bool(self._not_written) or any(not job.has_ended for job in self._files.all())
        except OpskitError:
            return True

    def _step(self) -> None:
        try:
            if not self._closed and self._has_work() and self._leads():
                self._write_late()
                self._start_and_end()
        except OpskitError as error:
            log.warning("%s", error.message)
        except Exception:
            # Whatever it is, those who wait are not to wait for a thread that is gone.
            log.exception("jobs could not be looked after")

    def _leads(self) -> bool:
        """Whether this process is the one that runs jobs."""
        with self._changed:
            if self._lock_descriptor >= 0:
                return True
            descriptor = os.open(self._files.folder / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._lock_descriptor = descriptor
            return True

    def _give_up_the_lock(self) -> None:
        with self._changed:
            if self._lock_descriptor >= 0 and not self._running:
                os.close(self._lock_descriptor)
                self._lock_descriptor = -1

    def _start_and_end(self) -> None:
        if not any(self._concerns(job) for job in self._files.all()):
            return
        begun: list[Job] = []
        with self._files.changing() as jobs:
            bury(jobs)
            taken = Counter(_lane(job) for job in jobs if job.state == RUNNING)
            for job in jobs:
                if job.state != QUEUED:
                    continue
                if job.verb not in VERBS:
                    jobs.put(_ended(job, "this opskit does not know it"))
                elif taken[_lane(job)] < AT_ONCE[_lane(job)]:
                    taken[_lane(job)] += 1
                    now = datetime.now(UTC)
                    begun.append(jobs.put(replace(job, state=RUNNING, started_at=now, run_by=self._me)))
                    with self._changed:
                        self._running[job.id] = None
            to_end = [job.id for job in jobs if job.state == RUNNING and job.to_end_since is not None]
            jobs.forget_old()
        for job in begun:
            # The thread lives as long as its process: the process's parent-death signal follows the thread.
            threading.Thread(target=self._of_one, args=(job,), name=f"verb {job.verb}", daemon=True).start()
        for identifier in to_end:
            self._tell_to_end(identifier)

    def _concerns(self, job: Job) -> bool:
        if job.state == QUEUED:
            return True
        if job.state != RUNNING:
            return False
        mine = job.id in self._running
        return not mine or (job.to_end_since is not None and job.id not in self._told_to_end)

    def _tell_to_end(self, identifier: str) -> None:
        with self._changed:
            process = self._running.get(identifier)
            if process is None or identifier in self._told_to_end:
                return
            self._told_to_end.add(identifier)
        signal_group(process, signal.SIGTERM)

    # --- in a thread of its own

    def _of_one(self, job: Job) -> None:
        try:
            job = self._finish(job)
        except Exception as error:
            # Whatever it is, those who wait must hear of it.
            log.exception("%s could not be run", job.command)
            job = _ended(job, f"it could not be run: {error}")
        self._write(job)
        with self._changed:
            self._running.pop(job.id, None)
            self._told_to_end.discard(job.id)
            self._changed.notify_all()
        self._step()

    def _write(self, job: Job) -> None:
        try:
            with self._files.changing() as jobs:
                jobs.put(job)
                jobs.forget_old()
        except OpskitError as error:
            # It must not be seen as running for ever, for want of disk space.
            log.warning("%s", error.message)
            with self._changed:
                self._not_written.append(replace(job, report=None))

    def _write_late(self) -> None:
        with self._changed:
            late, self._not_written = self._not_written, []
        for job in late:
            self._write(job)

    def _update(self, identifier: str, **values: object) -> Job | None:
        try:
            with self._files.changing() as jobs:
                job = jobs.get(identifier)
                return jobs.put(replace(job, **values)) if job else None  # type: ignore[arg-type]
        except OpskitError as error:
            log.warning("%s", error.message)
            return None

    def _finish(self, job: Job) -> Job:
        verb = VERBS[job.verb]
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        # When we are killed, what we run ends cleanly (util-linux has setpriv).
        setpriv = _setpriv()
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
        with suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PGRP, process.pid, _NICENESS)
        with self._changed:
            self._running[job.id] = process
        known = self._update(job.id, process=Process(process.pid, process_started(process.pid) or 0.0)) or job
        if self._closed:
            signal_group(process, signal.SIGTERM)
        elif known.to_end_since is not None:
            self._tell_to_end(job.id)

        def hear(said: bytes) -> None:
            self._update(job.id, message=text_of(said))

        output, message, ended = follow(process, verb.limit_seconds, hear)
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
        said = "\n".join(part for part in (text_of(message), ended) if part)
        now = datetime.now(UTC)
        return replace(known, state=state, exit_code=code, report=report, message=said, ended_at=now)


def _setpriv() -> str | None:
    return shutil.which("setpriv")


def this_process() -> Process:
    return Process(os.getpid(), process_started(os.getpid()) or 0.0)


def is_left(job: Job) -> bool:
    """Whether nobody will start it, or follows its process, any more."""
    if job.state == QUEUED:
        return not job.lives(job.asked_of)
    return job.state == RUNNING and not job.lives(job.run_by)


def bury(jobs: Jobs) -> None:
    """End what nobody follows any more: it was told to end with whoever did, and is killed if it does not."""
    now = datetime.now(UTC)
    for job in jobs:
        if not is_left(job):
            continue
        if job.state == QUEUED:
            jobs.put(_ended(job, _NO_SERVER))
        elif not job.lives(job.process):
            jobs.put(_ended(job, _LEFT))
        elif job.to_end_since is None:
            jobs.put(replace(job, to_end_since=now))
            if _setpriv() is None:  # else the kernel has told it: once more could cut short what it takes back
                _signal(job.process, signal.SIGTERM)
        elif job.to_end_since and (now - job.to_end_since).total_seconds() > GRACE_SECONDS:
            _signal(job.process, signal.SIGKILL)


def stop_before_it_began(job: Job) -> Job:
    return _ended(job, _NOT_BEGUN)


def _ended(job: Job, why: str) -> Job:
    said = "\n".join(part for part in (job.message, why) if part)
    return replace(job, state=FAILED, ended_at=datetime.now(UTC), message=said)


def _lane(job: Job) -> str:
    verb = VERBS.get(job.verb)
    return verb.lane if verb else SHORT


def _signal(process: Process | None, number: signal.Signals) -> None:
    """To a process and to all that it started: it leads a group of its own."""
    if process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
