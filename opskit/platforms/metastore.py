"""What verbs may ask of a cluster's metastore: snapshots, throw-away copies, and restores beside the live one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from opskit.core.metastore.contents import Report, Secrets, TableContent, differences
from opskit.core.metastore.partial import Brought, Change
from opskit.core.metastore.snapshots import DatabaseInfo, Kept, Replacement, Snapshot, Target

__all__ = [
    "Brought",
    "Change",
    "DatabaseInfo",
    "Kept",
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

    def live_small_set(self) -> dict[str, Any]:
        """The small set of the live metastore: one state of it. Quick, and holds nobody up."""
        ...

    def plan_small_set(
        self,
        data: Mapping[str, Any],
        *,
        items: Sequence[tuple[str, str]] | None = None,
        unpause: bool = False,
        exact: bool = False,
    ) -> list[Change]:
        """What `apply_small_set` would do now. `items` (kind, name) restricts both sides to these."""
        ...

    def apply_small_set(
        self,
        data: Mapping[str, Any],
        now: datetime,
        *,
        items: Sequence[tuple[str, str]] | None = None,
        unpause: bool = False,
        exact: bool = False,
    ) -> list[Change]:
        """Write a small set into the live metastore in one transaction; what was done.

        No DAG is unpaused unless `unpause`, nothing is deleted unless `exact`.
        """
        ...

    def secrets(self, small_set: Mapping[str, Any]) -> Secrets:
        """Which encrypted values of a small set the present Fernet keys can read."""
        ...

    def key_fingerprints(self) -> list[str]:
        """Of the Fernet keys, the newest first. The keys themselves never leave the metastore's room."""
        ...

    def sign(self, purpose: str, data: bytes) -> tuple[str, str]:
        """(key fingerprint, signature) of a document; only who has the newest Fernet key can make it. Two empty texts
        when there is no key."""
        ...

    def is_signed(self, purpose: str, data: bytes, key_fingerprint: str, signature: str) -> bool | None:
        """Whether a signature fits; None when its key is not among ours."""
        ...

    def throwaway(self) -> AbstractContextManager[Target]:
        """An empty database for a drill, dropped at the end."""
        ...

    def replacement(self, url: str = "") -> AbstractContextManager[Replacement]:
        """An empty database beside the live one (or beside the one of `url`), dropped unless it is swapped in."""
        ...

    def require_room(self, size_bytes: int, dump_bytes: int, url: str = "") -> None:
        """OpskitError when this machine has no room for a copy of so many bytes beside the live database. (A server
        that runs elsewhere can't be asked.)"""
        ...

    def row_counts(self, url: str = "") -> dict[str, int]:
        """Rows of each table now; empty when there is no metastore."""
        ...

    def kept(self, url: str = "") -> list[Kept]:
        """The metastores that restores have replaced, the newest first."""
        ...

    def put_back(self, name: str, now: datetime, url: str = "") -> str:
        """Exchange the live database with a kept one in one step; the name under which the live one is kept now.
        GuardRefused when someone uses the live database; nothing has changed then."""
        ...

    def drop_kept(self, name: str, url: str = "") -> None:
        """Remove a kept metastore for good."""
        ...

    def bring_history(
        self, source: Target, dag_id: str, now: datetime, on_runs: Callable[[int, int], None], *, dry_run: bool = False
    ) -> Brought:
        """Insert what the live metastore lacks of one DAG's history. Nothing that is there is touched."""
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

    def make_consistent(self, target: Target, now: datetime, url: str = "", *, unpause: bool = False) -> dict[str, int]:
        """Take out of a restored copy what depends on processes of the world it was taken from; counts of changes.
        A DAG that is paused in the database it will replace stays so unless `unpause`."""
        ...

    def in_use_by(self, now: datetime, url: str = "") -> list[str]:
        """Processes of opskit that use the live metastore (or that of `url`) now, a phrase each."""
        ...
