"""The contract between verbs and orchestrators, in four parts. `tests/contracts/test_platform.py` is its suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from opskit.config import Config

if TYPE_CHECKING:
    # What the watchdog needs each minute stands apart from what other verbs need.
    from opskit.platforms.airflow import MovingIn
    from opskit.platforms.configuration import Configuration
    from opskit.platforms.dag_facts import DagFacts, DagFactsReader
    from opskit.platforms.dag_versions import DagVersions
    from opskit.platforms.diagnosis import Diagnosis
    from opskit.platforms.folders import Folders
    from opskit.platforms.health import Health, Services
    from opskit.platforms.metastore import Metastore
    from opskit.platforms.retention import Retention
    from opskit.platforms.secret_keys import SecretKeys


@dataclass(frozen=True, slots=True)
class LoadedDagFile:
    """What loading one DAG file gave: its DAGs, or what is wrong with it."""

    path: str
    """Below the DAG folder."""
    dag_ids: tuple[str, ...]
    error: str | None = None
    facts: tuple[DagFacts, ...] = ()
    """Of its DAGs, in the order of `dag_ids`."""
    seconds: float = 0.0
    """How long it took to load."""


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
    def dag_versions(self) -> DagVersions: ...
    @property
    def dag_facts(self) -> DagFactsReader: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def diagnosis(self) -> Diagnosis: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def secret_keys(self) -> SecretKeys: ...
    @property
    def moving_in(self) -> MovingIn: ...
