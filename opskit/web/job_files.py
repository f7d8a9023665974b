"""What was asked of verbs, and what came of it: a file for each job below `OPSKIT_HOME/run/jobs`, so that all processes
of a webserver know the same.

Whoever reads holds the lock of the folder shared, whoever writes alone. A lock goes with its process. Files are written
aside and renamed, and each change gives a file a name that none had before.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.system.locks import boot_id
from opskit.system.processes import Process
from opskit.system.wake import wake

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_KEPT = 50
"""Runs that have ended and are still known; and as many answers, of verbs with their parameters."""


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
    asked_of: Process | None = None
    """The webserver that took it."""
    run_by: Process | None = None
    """Who follows its process."""
    process: Process | None = None
    """Its own; it leads a group."""
    to_end_since: datetime | None = None
    """Since when it is told to end."""
    boot: str = ""
    """Of the machine: processes of another are gone."""

    @property
    def has_ended(self) -> bool:
        return self.state in (DONE, FAILED)

    def lives(self, process: Process | None) -> bool:
        """Whether that process of this job is still there."""
        return process is not None and self.boot == boot_id() and process.alive


class Jobs:
    """All jobs, while the folder is locked for a change. What was put is written at once."""

    def __init__(self, folder: Path, found: dict[str, Job], descriptor: int, number: int) -> None:
        self._folder = folder
        self._found = found
        self._descriptor = descriptor
        self._number = number
        self.have_changed = False

    def __iter__(self) -> Iterator[Job]:
        """Those asked for first come first."""
        return iter(sorted({job.id: job for job in self._found.values()}.values(), key=lambda job: job.asked_at))

    def get(self, identifier: str) -> Job | None:
        return {job.id: job for job in self._found.values()}.get(identifier)

    def put(self, job: Job) -> Job:
        """Write a job, in place of what was written of it."""
        self._change()
        name = f"{job.id}.{self._number}.json"
        aside = self._folder / f".{name}"
        try:
            aside.write_text(json.dumps(_plain(job)))
            aside.rename(self._folder / name)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise OpskitError(f"{job.command} can't be noted in {self._folder}: {error.strerror}") from error
        self.remove(job.id)
        self._found[name] = job
        return job

    def _change(self) -> None:
        # Written before anything changes: whoever dies in between leaves nothing that others would not look at.
        # Never a number of an earlier folder, should somebody have removed it.
        self._number = max(self._number + 1, time.time_ns() // 1000)
        os.pwrite(self._descriptor, str(self._number).encode(), 0)
        self.have_changed = True

    def remove(self, identifier: str) -> None:
        self._change()
        for name in [name for name in self._found if _id_of(name) == identifier]:
            (self._folder / name).unlink(missing_ok=True)
            del self._found[name]

    def forget_old(self) -> None:
        """Keep the newest, and the newest answer to each question."""
        ended = sorted((job for job in self._found.values() if job.has_ended), key=lambda job: job.asked_at)
        answers = {(job.verb, job.parameter): job.id for job in ended if job.state == DONE}
        kept = {*[job.id for job in ended][-_KEPT:], *list(answers.values())[-_KEPT:]}
        for job in ended:
            if job.id not in kept:
                self.remove(job.id)


class JobFiles:
    """The jobs of one OPSKIT_HOME. Thread-safe; OpskitError where the folder can't be used."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self.folder = run_folder / "jobs"
        self._known: tuple[int, dict[str, Job]] = (-1, {})
        self._lock = threading.Lock()

    def all(self) -> list[Job]:
        """The newest first."""
        with self._locked(fcntl.LOCK_SH) as descriptor:
            if descriptor is None:
                return []
            found = self._read(_number(descriptor))
        newest = {job.id: job for job in found.values()}
        return sorted(newest.values(), key=lambda job: job.asked_at, reverse=True)

    def generation(self) -> int:
        """Rises with every change, by whomever; 0 where it can't be told."""
        try:
            with self._locked(fcntl.LOCK_SH) as descriptor:
                return 0 if descriptor is None else _number(descriptor)
        except OpskitError:
            return 0  # who asks for the jobs themselves hears why

    @contextmanager
    def changing(self) -> Iterator[Jobs]:
        """Nobody else reads or changes meanwhile; then all who wait for jobs or show them are woken."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OpskitError(f"{self.folder} can't be made: {error.strerror}") from error
        with self._locked(fcntl.LOCK_EX) as descriptor:
            assert descriptor is not None
            number = _number(descriptor)
            found = dict(self._read(number))  # what is kept of it must not change with what is put
            jobs = Jobs(self.folder, found, descriptor, number)
            yield jobs
        if jobs.have_changed:
            for prefix in ("live-", "jobs-"):
                wake(self._run_folder, prefix)

    def _read(self, number: int) -> dict[str, Job]:
        """By the name of the file, in the order in which they were written."""
        with self._lock:
            known_number, known = self._known
        if known_number == number:
            return known
        found: dict[str, Job] = {}
        names = [name for name in os.listdir(self.folder) if name.endswith(".json") and not name.startswith(".")]
        for name in sorted(names, key=_number_of):
            job = known.get(name) or _job(self.folder / name)
            if job is not None:
                found[name] = job
        with self._lock:
            self._known = number, found
        return found

    @contextmanager
    def _locked(self, how: int) -> Iterator[int | None]:
        """Its descriptor; None while there is no folder yet."""
        path = self.folder / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            yield None
            return
        except OSError as error:
            raise OpskitError(f"jobs can't be kept in {self.folder}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, how)
            yield descriptor
        finally:
            os.close(descriptor)


def _number(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.strip().isdigit() else 0


def _id_of(name: str) -> str:
    return name.partition(".")[0]


def _number_of(name: str) -> int:
    number = name.split(".")[1]
    return int(number) if number.isdigit() else 0


def _plain(job: Job) -> dict[str, Any]:
    values = {field.name: getattr(job, field.name) for field in fields(Job)}
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return [value.pid, value.started] if isinstance(value, Process) else value


def _job(path: Path) -> Job | None:
    """None for what another version has written, or a machine that stopped in the middle."""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
        values = dict(found)
        for name in ("asked_at", "started_at", "ended_at", "to_end_since"):
            values[name] = datetime.fromisoformat(found[name]) if found[name] else None
        for name in ("asked_of", "run_by", "process"):
            values[name] = Process(*found[name]) if found[name] else None
        return Job(**values)
    except (OSError, ValueError, TypeError, KeyError):
        return None
