"""The contract between verbs and orchestrators, in four parts. `tests/contracts/test_platform.py` is its suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from opskit.config import Config
from opskit.platforms.metastore import Metastore


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the cluster, as its pid file and its row in the metastore describe it."""

    kind: str
    """scheduler, dag_processor, worker, standalone."""
    instance_id: str
    hostname: str
    local: bool
    """Of this host and this OPSKIT_HOME: the only ones that may be touched."""
    pid: int
    pid_started: float
    process: str
    """running, frozen (stopped by a signal), traced (a debugger holds it), blocked (uninterruptible), gone, or
    unknown (on another host)."""
    started_at: datetime
    heartbeat_at: datetime | None = None
    """None: it has no row in the metastore (or the metastore can't be read)."""
    progress: int = 0
    progress_at: datetime | None = None
    ended_at: datetime | None = None
    unit: str = ""
    argv: tuple[str, ...] = ()
    pid_file: Path | None = None

    @property
    def label(self) -> str:
        return f"{self.kind} {self.instance_id[:8]} (pid {self.pid} on {self.hostname})"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Things that wait for longer than they should: how many, and since when the oldest does."""

    what: str
    count: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """Whether the metastore could be read, and if not, why."""

    state: str
    """ok, unreachable, timeout, locked, denied, absent, no_schema, corrupt, error, schema_older, schema_newer."""
    message: str = ""
    seconds: float = 0.0
    clock_difference_seconds: float = 0.0
    uptime_seconds: float | None = None
    """Since the server was started; None for a database without a server."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look at the cluster showed."""

    at: datetime
    hostname: str
    database: DatabaseView
    components: tuple[Component, ...] = ()
    backlogs: tuple[Backlog, ...] = field(default_factory=tuple)


class Health(Protocol):
    """What is alive, and what should be moving."""

    def observe(self, now: datetime) -> Observation:
        """Everything that one cheap look shows. Never raises for a cluster that is down: that is an observation too."""
        ...

    def lock_waits(self) -> list[str]:
        """What the database's sessions wait for, a line each, as evidence; empty where nothing is known."""
        ...


class Services(Protocol):
    """How a component of this host is nudged, stopped and started. Every method names what it did in one sentence.

    OpskitError when it could not. No method touches a process of another host, of another OPSKIT_HOME, or an attempt.
    """

    def supervisor(self, component: Component) -> str:
        """Who restarts this component by itself: a systemd unit, `standalone (pid N)`, or empty: nobody."""
        ...

    def nudge(self, component: Component) -> str:
        """Wake it, in case it sleeps through something. Harmless."""
        ...

    def resume(self, component: Component) -> str:
        """SIGCONT. Harmless."""
        ...

    def capture(self, component: Component, heading: list[str]) -> Path:
        """Write stacks, descriptors, locks and the last log lines into one file before anything is killed."""
        ...

    def stop(self, component: Component, grace_seconds: float) -> str:
        """SIGTERM, then SIGKILL to it and to all processes that are its own. Workers and attempts are not.

        OpskitError when one of them survives even that.
        """
        ...

    def start(self, kind: str, like: Component | None, within_seconds: float) -> str:
        """Start one, as `like` was started. Waits for its supervisor instead, where one is at it.

        Refuses to start a second one where one lives.
        """
        ...

    def forget(self, component: Component) -> None:
        """Remove what a component that is gone and was replaced left in the run folder."""
        ...


@dataclass(frozen=True, slots=True)
class LiveLogs:
    """What is still written to, as paths below the log folder."""

    tasks: frozenset[str]
    """Directories with the logs of task instances that run, are queued, or will go on with the try they are in."""
    runs: frozenset[str]
    """Directories of DagRuns that have not ended: logs may appear in them at any time."""


class Folders(Protocol):
    """Where DAG files and logs lie, and which logs belong to running attempts."""

    @property
    def dags(self) -> Path: ...
    @property
    def logs(self) -> Path: ...

    def is_task_log(self, path: str) -> bool:
        """Whether a path below the log folder is where an attempt's log would lie."""
        ...

    def is_log_directory(self, path: str) -> bool:
        """Whether a path below the log folder is a directory that exists for attempts' logs only."""
        ...

    def live_logs(self) -> LiveLogs:
        """Which logs are in use now. MetastoreUnavailable when nobody can say."""
        ...


@dataclass(frozen=True, slots=True)
class OldRows:
    """Rows of one table that retention removes, and why."""

    table: str
    rows: int
    why: str


class Retention(Protocol):
    """Removes history from the metastore. Never a run that has not ended, never the newest run of a DAG."""

    def plan(self, before: datetime) -> list[OldRows]:
        """What `remove` would remove now."""
        ...

    def remove(
        self, before: datetime, *, batch_size: int, after_batch: Callable[[Mapping[str, int]], None]
    ) -> Mapping[str, int]:
        """Remove it in transactions of up to `batch_size` DagRuns; rows that have gone, by table. `after_batch` is told
        what has gone so far. What is gone stays gone when it fails in the middle."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedDagFile:
    """What loading one DAG file gave: its DAGs, or what is wrong with it."""

    path: str
    """Below the DAG folder."""
    dag_ids: tuple[str, ...]
    error: str | None = None


class DagFiles(Protocol):
    """What DAG files define."""

    def load(self, folder: Path, paths: Sequence[str]) -> list[LoadedDagFile]:
        """Load those of the paths below a DAG folder that may define DAGs, each in a process of its own with limits of
        time and memory. Nothing is stored. A file that can't be loaded is a result like any other."""
        ...


class Audit(Protocol):
    """The log of changes that people and verbs made."""

    def write(self, event: str, now: datetime, extra: Mapping[str, Any]) -> None:
        """One line. MetastoreUnavailable when it can't be written."""
        ...


class Platform(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Config: ...
    @property
    def health(self) -> Health: ...
    @property
    def services(self) -> Services: ...
    @property
    def metastore(self) -> Metastore: ...
    @property
    def folders(self) -> Folders: ...
    @property
    def retention(self) -> Retention: ...
    @property
    def dag_files(self) -> DagFiles: ...
    @property
    def audit(self) -> Audit: ...
