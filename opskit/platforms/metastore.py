"""What verbs may ask of a cluster's metastore: snapshots, throw-away copies, and restores beside the live one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from opskit.core.metastore.contents import Report, Secrets, TableContent, differences
from opskit.core.metastore.snapshots import DatabaseInfo, Replacement, Snapshot, Target

__all__ = [
    "DatabaseInfo",
    "Metastore",
    "Replacement",
    "Report",
    "Secrets",
    "Snapshot",
    "TableContent",
    "Target",
    "differences",
]


class Metastore(Protocol):
    """Every method raises MetastoreUnavailable when the database can't be reached."""

    dump_name: str
    """Of the object that holds a dump."""

    def describe(self) -> DatabaseInfo:
        """The database as it is now. ConfigError when a program that dumps or restores is missing or too old."""
        ...

    def describe_target(self, url: str = "") -> DatabaseInfo:
        """The database that a restore would replace: the live one, or that of `url`."""
        ...

    def kind_of(self, url: str = "") -> str:
        """sqlite, postgresql, mysql or mariadb. (The server is asked only where that is needed.)"""
        ...

    def redacted(self, url: str = "") -> str:
        """The URL of the live metastore, or this one, without its password."""
        ...

    def algorithm_text(self, algorithm: str) -> str:
        """How the content hashes of a snapshot are computed, in words."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """One state of the whole database, held still."""
        ...

    def small_set(self, source: Snapshot | Target) -> dict[str, Any]:
        """Connections, variables, pools and pause states as JSON values; encrypted values stay encrypted."""
        ...

    def prove_small_set(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The small set, written into a throw-away database and read again."""
        ...

    def apply_small_set(self, data: Mapping[str, Any], now: datetime) -> dict[str, int]:
        """Write a small set into the live metastore; how many rows of each kind are new or changed."""
        ...

    def secrets(self, small_set: Mapping[str, Any]) -> Secrets:
        """Which encrypted values of a small set the present Fernet keys can read."""
        ...

    def key_fingerprints(self) -> list[str]:
        """Of the Fernet keys, the newest first. The keys themselves never leave the metastore's room."""
        ...

    def throwaway(self) -> AbstractContextManager[Target]:
        """An empty database for a drill, dropped at the end."""
        ...

    def replacement(self, url: str = "") -> AbstractContextManager[Replacement]:
        """An empty database beside the live one (or beside the one of `url`), dropped unless it is swapped in."""
        ...

    def revision(self, target: Target) -> str | None:
        """Schema revision of a restored copy."""
        ...

    def needed_revision(self) -> str:
        """The schema revision that this opskit works with."""
        ...

    def migrate(self, target: Target) -> bool:
        """Bring a restored copy to the needed revision; whether that changed something."""
        ...

    def make_consistent(self, target: Target, now: datetime, url: str = "") -> dict[str, int]:
        """Take out of a restored copy what depends on processes of the world it was taken from; counts of changes."""
        ...

    def in_use_by(self, now: datetime, url: str = "") -> list[str]:
        """Processes of opskit that use the live metastore (or that of `url`) now, a phrase each."""
        ...
