"""Consistent copies of a whole database and places to restore them: the contract, and which engine a URL needs.

The engines are pg_dump/pg_restore, mariadb-dump/mariadb and SQLite's backup API; one module each.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from opskit.core.metastore.contents import Report, TableContent
from opskit.errors import OpskitError


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


@dataclass(frozen=True, slots=True)
class Kept:
    """A metastore that a restore has replaced."""

    name: str
    """Of the database, or of the file."""
    kept_at: datetime
    size_bytes: int


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

    def swap(self, now: datetime) -> str:
        """Put it in the place of the live database in one step. The name under which the old one is kept now; empty:
        there was none. GuardRefused when someone uses the live database; nothing has changed then.
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

    def require_room(self, size_bytes: int, dump_bytes: int) -> None:
        """OpskitError when this machine has no room for a restored copy of so many bytes, from a dump of so many."""
        ...

    def kept(self) -> list[Kept]:
        """What swaps have kept of this database, the newest first."""
        ...

    def put_back(self, name: str, now: datetime) -> str:
        """Exchange the live database with a kept one, as `swap` does."""
        ...

    def drop_kept(self, name: str) -> None: ...


def kept_name(live: str, now: datetime, taken: Collection[str], longest: int = 63) -> str:
    """A free name under which a database is kept that is replaced now."""
    while (name := f"{_kept_prefix(live, longest)}{now.astimezone(UTC):%Y%m%d_%H%M%S}") in taken:
        now += timedelta(seconds=1)
    return name


def kept_at(live: str, name: str, longest: int = 63) -> datetime | None:
    """When a database of this name was replaced; None: it is no kept one of `live`."""
    prefix = _kept_prefix(live, longest)
    if not name.startswith(prefix) or not re.fullmatch(r"\d{8}_\d{6}", name[len(prefix) :]):
        return None
    try:
        return datetime.strptime(name[len(prefix) :], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _kept_prefix(live: str, longest: int) -> str:
    ending = "_before_"
    room = longest - len(ending) - len("20261121_030000")
    if len(live.encode()) > room:
        # Two databases with one long beginning must not take each other's.
        live = f"{live[: room - 30]}_{hashlib.sha256(live.encode()).hexdigest()[:8]}"
    return live + ending


def require_free(folder: str | Path, needed: int, what: str) -> None:
    """OpskitError when the file system of a folder has not so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05:
        raise OpskitError(
            f"{folder} has {free >> 20} MiB free, {what} needs {needed >> 20} MiB", hint="free space there"
        )


def require_free_on_server(host: str | None, data_folder: str, needed: int) -> None:
    """The same for a server's own folder, where the server runs on this machine."""
    if host in (None, "", "localhost", "127.0.0.1", "::1") and os.path.isdir(data_folder):
        require_free(data_folder, needed, "the copy of the metastore")


def still_there(look: Callable[[], list[str]], seconds: float = 2.0) -> list[str]:
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
