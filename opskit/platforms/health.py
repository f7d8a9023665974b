"""What a watchdog may ask of a cluster: what is alive, what should be moving, and how a component is restarted here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


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
    backlogs: tuple[Backlog, ...] = ()


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
