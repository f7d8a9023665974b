"""What a doctor may ask of a cluster: what its work and its metastore look like. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that did not end by itself: its process, its worker or its host was gone."""

    dag_id: str
    task_id: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class DagFile:
    """A DAG file as it was last loaded."""

    path: str
    """Below the DAG folder."""
    content_hash: str
    """SHA-256 of the file's bytes at that time."""
    seconds: float
    parsed_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class Work:
    """What runs, what ran, and what can't."""

    attempts: int
    """That ended in the last day."""
    lost: tuple[LostAttempt, ...]
    """Of these, at most 50."""
    full_pools: tuple[str, ...]
    """Pools without a free slot for which something waits."""
    stranded_runs: tuple[tuple[str, str], ...]
    """(dag_id, run_id) of unfinished runs of paused DAGs that were queued more than a day ago."""
    files: tuple[DagFile, ...]
    vanished: tuple[tuple[str, str], ...]
    """(dag_id, path) of DAGs that are not paused and that their file no longer defines."""
    recent_logs: tuple[tuple[str, str], ...]
    """(what, path below the log folder) of attempts of a host that ended lately, at most 50."""


@dataclass(frozen=True, slots=True)
class Store:
    """The metastore as its server shows it. None: this database does not tell."""

    size_bytes: int | None
    oldest_ended: datetime | None
    """End of the oldest DagRun that has ended."""
    connections: int | None
    connections_limit: int | None
    long_transactions: tuple[str, ...]
    """Sessions that hold a transaction open for more than ten minutes, a phrase each."""
    lock_waits: tuple[str, ...]
    """Sessions that have waited for a lock for more than five seconds, a phrase each."""
    versions: tuple[tuple[str, str], ...]
    """(component, version of opskit) of what is alive."""


class Diagnosis(Protocol):
    """Every method raises MetastoreUnavailable when the metastore can't be read."""

    def work(self, now: datetime, hostname: str) -> Work: ...

    def store(self, now: datetime) -> Store: ...

    def undecipherable(self) -> tuple[str, ...]:
        """Names of connections and variables whose secrets no Fernet key of this installation can read."""
        ...
