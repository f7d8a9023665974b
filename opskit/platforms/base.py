"""The contract between verbs and orchestrators, in four parts. `tests/contracts/test_platform.py` is its suite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from opskit.config import Config

if TYPE_CHECKING:
    # What the watchdog needs each minute stands apart from what other verbs need.
    from opskit.platforms.configuration import Configuration
    from opskit.platforms.diagnosis import Diagnosis
    from opskit.platforms.health import Health, Services
    from opskit.platforms.metastore import Metastore


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

    def is_log_folder(self, names: Collection[str]) -> bool:
        """Whether a folder with entries of these names can be the log folder. An empty one can."""
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
        """Load those of the paths below a DAG folder that may define DAGs, in other processes with limits of time and
        memory; a file with trouble in one of its own. Nothing is stored. A file that can't be loaded is a result like
        any other."""
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
    @property
    def diagnosis(self) -> Diagnosis: ...
    @property
    def configuration(self) -> Configuration: ...
