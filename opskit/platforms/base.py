"""The contract between verbs and orchestrators, in four parts. `tests/contracts/test_platform.py` is its suite."""

from __future__ import annotations

from typing import Protocol

from opskit.config import Config


class Health(Protocol):
    """What is alive, and what should be moving."""


class Services(Protocol):
    """How a component is started, stopped and restarted here."""


class Metastore(Protocol):
    """Snapshots of the metastore, restores into it, and its retention."""


class Folders(Protocol):
    """Where DAG files, logs and plugins lie, and which logs belong to running attempts."""


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
