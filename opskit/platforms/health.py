"""What a watchdog may ask of a cluster: what is alive, what should be moving, and how a component is restarted here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from opskit.errors import GuardRefused


@dataclass(frozen=True, slots=True)
class Kind:
    """What counts for every process of a kind."""

    name: str
    beats: bool = True
    """It writes heartbeat and progress of its own loop. Without: its process is its proof of life."""
    registers: bool = True
    """It must be in the metastore once it runs."""
    holds_attempts: bool = False
    """Its end would be the end of attempts: it is started or resumed, never killed."""
    supervises: bool = False
    """It holds no work of its own; what it supervises is watched instead."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("scheduler"),
        Kind("dag_processor"),
        Kind("triggerer"),
        Kind("webserver", registers=False),  # that of Airflow writes no row
        Kind("worker", beats=False, holds_attempts=True),
        Kind("standalone", beats=False, registers=False, supervises=True),
    )
}
"""Every kind of component that is watched."""


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the cluster, as its pid file and its row in the metastore describe it."""

    kind: str
    """One of KINDS."""
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
    cpu_seconds: float = 0.0
    """Processor time of a local process so far, used or waited for; 0 when it is gone."""
    held_back: str = ""
    """What it waits for in the database (a lock, a long statement), when it is late and something is known."""

    @property
    def label(self) -> str:
        return f"{self.kind} {self.instance_id[:8]} (pid {self.pid} on {self.hostname})"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Things that wait for longer than they should: how many, and since when the oldest does."""

    what: str
    count: int = 0
    oldest: datetime | None = None
    cause: str = "scheduler"
    """scheduler: one should move it. idle: it should move, but a limit or depends_on_past may forbid it. no_worker:
    nobody is there to run it."""


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """Whether the metastore could be read, and if not, why."""

    state: str
    """ok, unreachable, timeout, locked, denied, absent, no_schema, corrupt, error, schema_older, schema_newer,
    migrating (a migration that is under way holds the tables)."""
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
    backlogs: tuple[Backlog, ...] = ()


class Glances(Protocol):
    """One look after another, each far cheaper than `Health.observe`: for a watchdog that stays."""

    def glance(self, now: datetime) -> Observation:
        """Components and database alone, without backlogs. Never raises for a cluster that is down."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts that were in flight at one moment. `keys` mean something to the platform alone."""

    keys: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.keys)


class RunsAlready(GuardRefused):
    """There is one of the kind, and no second one is started."""

    def __init__(self, kind: str, pid: int) -> None:
        super().__init__(f"a {kind} runs already as pid {pid}: no second one is started")
        self.pid = pid


class Health(Protocol):
    """What is alive, and what should be moving."""

    def observe(self, now: datetime) -> Observation:
        """Everything that one cheap look shows. Never raises for a cluster that is down: that is an observation too."""
        ...

    def glances(self) -> Glances:
        """A session of many looks. Close it."""
        ...

    def in_flight(self) -> Attempts:
        """The attempts that are claimed or run now. MetastoreUnavailable when nobody can say."""
        ...

    def lost(self, attempts: Attempts) -> list[str]:
        """Which of them were lost: they ended because the process that held them was gone. MetastoreUnavailable."""
        ...

    def lock_waits(self) -> list[str]:
        """What the database's sessions wait for, a line each, as evidence; empty where nothing is known."""
        ...


class Services(Protocol):
    """How a component of this host is nudged, stopped and started. Every method names what it did in one sentence.

    OpskitError when it could not. No method touches a process of another host, of another OPSKIT_HOME, or an attempt.
    """

    def nudge(self, component: Component) -> str:
        """Wake it, in case it sleeps through something. Harmless."""
        ...

    def resume(self, component: Component) -> str:
        """SIGCONT. Harmless."""
        ...

    def reset_work(self) -> str:
        """Let the schedulers read all that waits anew from the metastore, and count the pools' used slots again.

        Decides nothing and ends nothing: an attempt that its worker knows goes on. MetastoreUnavailable.
        """
        ...

    def turn(self, deed: str, seconds: float) -> AbstractContextManager[None]:
        """The one restart that the cluster allows at a time, for at most so many seconds.

        LockHeld, naming the host, when another one restarts something now; MetastoreUnavailable when nobody can tell.
        """
        ...

    def capture(self, component: Component, heading: list[str]) -> Path:
        """Write stacks, descriptors, locks and the last log lines into one file before anything is killed."""
        ...

    def stop(self, component: Component, grace_seconds: float) -> str:
        """SIGTERM, then SIGKILL to it and to all processes that are its own. Workers and attempts are not.

        OpskitError when one of them survives even that, or when a port that it listened on is still taken.
        """
        ...

    def start(self, kind: str, like: Component | None, within_seconds: float) -> str:
        """Start one, as `like` was started. Waits for its supervisor instead, where one is at it.

        RunsAlready where one lives.
        """
        ...

    def send(self, component: Component, number: int) -> None:
        """Send a signal to a process of this host, for an experiment. GuardRefused for another host's."""
        ...

    def block_metastore(self, seconds: float) -> AbstractContextManager[str]:
        """Hold a lock for the block that keeps everybody from writing, at most so many seconds; which one, in words.

        MetastoreUnavailable when it can't be had at once.
        """
        ...

    def forget(self, component: Component) -> None:
        """Remove what a component that is gone and was replaced left in the run folder."""
        ...
