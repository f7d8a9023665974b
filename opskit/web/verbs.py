"""Asks the verbs: each runs as a process of its own, `opskit <verb> … --output json`, by the same door as everybody's.

Pages and API share the runs, whichever process of the webserver serves them: whoever asks for what is under way gets
that run, and whoever asks for what was answered a moment ago gets that answer, with its age.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from opskit.config import Config
from opskit.errors import LockHeld, NotFound
from opskit.system.locks import boot_id
from opskit.system.processes import Process
from opskit.system.wake import WakeSocket
from opskit.web.job_files import DONE, QUEUED, RUNNING, Job, JobFiles
from opskit.web.job_runner import JobRunner, bury, is_left, stop_before_it_began, this_process
from opskit.web.verb_list import READ, verb_of

__all__ = ["PROGRAM", "Job", "TheVerbs", "Verbs", "end_all", "of_app", "verbs_of"]

_WAITING = 8
_MOST_PATIENT = 5
PROGRAM = (sys.executable, "-m", "opskit")


class Verbs:
    """The verbs of one installation. Thread-safe.

    `webserver`: of whose processes this is one, and which has another one that runs jobs; None: this is all of it, and
    runs them.
    """

    def __init__(
        self,
        config: Config,
        program: Sequence[str] = PROGRAM,
        *,
        webserver: Process | None = None,
        most_patient: int = _MOST_PATIENT,
    ) -> None:
        self._run_folder = config.run_folder
        self._files = JobFiles(config.run_folder)
        self._patience = threading.BoundedSemaphore(most_patient)
        self._runner: JobRunner | None = None
        if webserver is None:
            self._runner = JobRunner(self._files, config.home, config.run_folder, program, stays=False)
        self._webserver = webserver or this_process()
        self._closed = False

    def start(self, name: str, parameter: str = "", *, by: str = "") -> Job:
        """Run it now, or when others have ended; a run of the same that is under way is shared.

        NotFound, UsageError; LockHeld when too many wait already.
        """
        verb = verb_of(name)
        verb.words_with(parameter)
        with self._files.changing() as jobs:
            bury(jobs)
            waiting = 0
            for job in jobs:
                if (job.verb, job.parameter) == (name, parameter) and not job.has_ended:
                    return job
                waiting += job.state == QUEUED
            if self._closed or (verb.lane != READ and waiting >= _WAITING):
                raise LockHeld(f"{waiting} commands wait already", hint="wait until some of them have ended")
            job = Job(
                uuid.uuid4().hex,
                name,
                parameter,
                verb.command(parameter),
                by,
                datetime.now(UTC),
                asked_of=self._webserver,
                boot=boot_id(),
            )
            jobs.put(job)
            jobs.forget_old()
        self._look()
        return self.job(job.id)

    def _look(self) -> None:
        if self._runner is not None:
            self._runner.look()

    def generation(self) -> int:
        """Rises whenever a job is asked for, begins, says something or ends: pages that show jobs look again."""
        return self._files.generation()

    def job(self, identifier: str) -> Job:
        """NotFound: the newest jobs are kept."""
        found = next((job for job in self.jobs() if job.id == identifier), None)
        if found is None:
            raise NotFound(f"there is no job {identifier!r}", hint="only the newest jobs are kept")
        return found

    def jobs(self) -> list[Job]:
        """The newest first."""
        found = self._files.all()
        if any(map(is_left, found)):
            with self._files.changing() as jobs:
                bury(jobs)
            found = self._files.all()
        return found

    def newest(self, name: str, parameter: str = "") -> Job | None:
        """The newest run that came to a report."""
        same = (job for job in self.jobs() if (job.verb, job.parameter) == (name, parameter))
        return next((job for job in same if job.state == DONE), None)

    def under_way(self, name: str, parameter: str | None = None) -> Job | None:
        """A run that waits or goes on; of any parameter when none is named."""
        same = (job for job in self.jobs() if job.verb == name and parameter in (None, job.parameter))
        return next((job for job in same if not job.has_ended), None)

    def last(self, name: str, parameter: str | None = None) -> Job | None:
        """The newest run, whatever came of it."""
        return next((job for job in self.jobs() if job.verb == name and parameter in (None, job.parameter)), None)

    def wait(self, identifier: str, seconds: float) -> Job:
        """The job when it has ended, or as it is after so many seconds; at once when too many wait already."""
        job = self.job(identifier)
        # Each of them holds one of the threads that answer requests.
        if job.has_ended or seconds <= 0 or not self._patience.acquire(blocking=False):
            return job
        try:
            until = time.monotonic() + seconds
            socket = WakeSocket(self._run_folder, f"jobs-{uuid.uuid4()}")
            try:
                while not (job := self.job(identifier)).has_ended and (left := until - time.monotonic()) > 0:
                    socket.wait(min(left, 1.0))  # a wake-up may be lost
            finally:
                socket.close()
            return job
        finally:
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
        self.job(identifier)
        with self._files.changing() as jobs:
            job = jobs.get(identifier)
            if job is not None and job.state == QUEUED:
                jobs.put(stop_before_it_began(job))
            elif job is not None and job.state == RUNNING and job.to_end_since is None:
                jobs.put(replace(job, to_end_since=datetime.now(UTC)))
        self._look()
        return self.job(identifier)

    def close(self) -> None:
        """End what this process runs; for the end of the webserver."""
        self._closed = True
        if self._runner is not None:
            self._runner.close()


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
