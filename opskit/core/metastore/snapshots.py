"""Consistent copies of a whole database and places to restore them: the contract, and which engine a URL needs.

The engines are pg_dump/pg_restore, mariadb-dump/mariadb and SQLite's backup API; one module each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from opskit.core.metastore.contents import Report, TableContent


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """A database as it is now."""

    kind: str
    """sqlite, postgresql, mariadb or mysql."""
    server_version: str
    url: str
    """Without its password."""
    size_bytes: int
    revision: str | None
    """Of the schema; None: there is none."""
    tools: dict[str, str]
    """Versions of the programs that dump and restore it."""


@runtime_checkable
class Snapshot(Protocol):
    """One state of a database, held still. Every method sees the same state."""

    revision: str | None
    algorithm: str
    """Of `contents`: a key of contents.ALGORITHMS."""

    def dump(self) -> AbstractContextManager[Iterator[bytes]]:
        """The whole database as a stream in the engine's own format, compressed."""
        ...

    def contents(self, report: Report | None = None) -> dict[str, TableContent]:
        """Rows and hash of each table. May run in another thread than `dump`."""
        ...

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a small table."""
        ...

    def cancel(self) -> None:
        """Let a `contents` in another thread fail soon."""
        ...


class Target(Protocol):
    """An empty database that takes a dump: a throw-away one, or one that will take the place of the live one."""

    url: str
    """With its password."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Fill it from the stream of a dump. An error of `chunks` is passed on; the database is of no use then."""
        ...

    def contents(self, algorithm: str, report: Report | None = None) -> dict[str, TableContent]: ...

    def check(self) -> None:
        """The engine's own check of a restored copy, where it has one. Raises VerificationFailed."""
        ...


class Replacement(Target, Protocol):
    """A target beside the live database."""

    def swap(self, keep_as: str) -> list[str]:
        """Put it in the place of the live database in one step; the old one is kept under a name made from `keep_as`.

        The way back, as commands. GuardRefused when someone uses the live database; nothing has changed then.
        """
        ...


class Copier(Protocol):
    """What one engine can do for one database."""

    kind: str
    dump_name: str
    """Of the object that holds the dump; its ending says which program reads it."""

    def describe(self) -> DatabaseInfo:
        """Look at the database and at the programs. ConfigError when a program is missing or older than the server."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...

    def throwaway(self, url: str = "") -> AbstractContextManager[Target]:
        """A new database on this server, or on that of `url`; dropped at the end. Those of killed drills go first."""
        ...

    def replacement(self) -> AbstractContextManager[Replacement]:
        """A new database beside this one; dropped at the end unless it was swapped in."""
        ...


def still_there(look: Callable[[], list[str]], seconds: float = 5.0) -> list[str]:
    """Who uses a database after a short wait: a server needs a moment to see that a closed session is gone."""
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def open_copier(url: str, scratch: Path, *, compression: int = 3) -> Copier:
    """The engine for a database URL. `scratch` is a folder for temporary files; it must have room for a dump."""
    from opskit.core.metastore.engine import normalised

    parsed = normalised(url)
    if parsed.get_backend_name() == "postgresql":
        from opskit.core.metastore.copy_postgresql import PostgresqlCopier

        return PostgresqlCopier(parsed, scratch, compression)
    if parsed.get_backend_name() == "sqlite":
        from opskit.core.metastore.copy_sqlite import SqliteCopier

        return SqliteCopier(parsed, scratch, compression)
    from opskit.core.metastore.copy_mysql import MysqlCopier

    return MysqlCopier(parsed, scratch, compression)
