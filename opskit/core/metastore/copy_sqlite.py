"""Copies of a SQLite metastore, by SQLite's backup API."""

from __future__ import annotations

import glob
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL

from opskit.core.metastore.contents import Report, TableContent, sqlite_contents
from opskit.core.metastore.engine import LOCK_TIMEOUT_SECONDS, redacted, sqlite_path
from opskit.core.metastore.snapshots import DatabaseInfo, Kept, kept_at, kept_name, require_free
from opskit.errors import ConfigError, GuardRefused, MetastoreUnavailable, VerificationFailed
from opskit.system.object_store import CHUNK_BYTES
from opskit.system.scratch import scratch_folder
from opskit.system.streams import gunzipped, gzipped

_LOGS = ("-wal", "-shm", "-journal")
_LONGEST_NAME = 240
_PAGES = 2_000
"""Copied per step; between two steps other threads run."""


class SqliteCopier:
    kind = "sqlite"
    dump_name = "metastore.sqlite.gz"

    def __init__(self, url: URL, scratch: Path, compression: int) -> None:
        path = sqlite_path(url)
        if path is None:
            raise ConfigError("a metastore in memory can't be backed up")
        self._url, self._path, self._scratch, self._compression = url, path, scratch, compression

    def describe(self) -> DatabaseInfo:
        if not self._path.exists():
            return DatabaseInfo(self.kind, sqlite3.sqlite_version, redacted(self._url), 0, None, {})
        with self._open(self._path, "ro") as connection:
            size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
            revision = _revision(connection)
        return DatabaseInfo(self.kind, sqlite3.sqlite_version, redacted(self._url), size, revision, {})

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        if not self._path.exists():
            raise MetastoreUnavailable(
                f"the metastore {self._path} does not exist", hint="create it with: opskit db migrate"
            )
        with scratch_folder(self._scratch, "snapshot") as folder:
            copy = folder / "snapshot.db"
            require_free(folder, self._path.stat().st_size, "the copy of the metastore")
            os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            with self._open(self._path, "ro") as source, closing(sqlite3.connect(copy)) as target:
                # A read transaction holds the state still: writers go on in the write-ahead log meanwhile.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
                source.backup(target, pages=_PAGES, sleep=0)
                source.execute("COMMIT")
                # One file that stands alone, without a log beside it.
                target.execute("PRAGMA journal_mode = DELETE")
            with self._open(copy, "ro") as connection:
                yield SqliteSnapshot(copy, connection, self._compression)

    @contextmanager
    def throwaway(self, url: str = "") -> Iterator[SqliteTarget]:
        folder = sqlite_path(url) if url else None
        parent = self._scratch if folder is None else folder.parent
        with scratch_folder(parent, "drill") as place:
            yield SqliteTarget(place / "drill.db")

    @contextmanager
    def replacement(self) -> Iterator[SqliteReplacement]:
        # In the live file's folder: a rename is one step within one file system only.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self._path.parent / f".{self._path.name}.restore", "restore") as place:
            yield SqliteReplacement(place / "restored.db", self._path)
        try:
            (self._path.parent / f".{self._path.name}.restore").rmdir()
        except OSError:
            pass  # another restore is at work there

    def require_room(self, size_bytes: int, dump_bytes: int) -> None:
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        require_free(folder, size_bytes, "the copy of the metastore")

    def kept(self) -> list[Kept]:
        live = self._path.lstat() if self._path.exists() else None
        found = []
        for path in self._path.parent.glob(glob.escape(self._path.name) + "_before_*"):
            at, status = kept_at(self._path.name, path.name, _LONGEST_NAME), path.lstat()
            # A second name of the live file was left by a swap that was killed before its last step.
            if at is not None and (live is None or not os.path.samestat(status, live)):
                found.append(Kept(path.name, at, status.st_size))
        return sorted(found, key=lambda one: one.kept_at, reverse=True)

    def put_back(self, name: str, now: datetime) -> str:
        return _exchange(self._path.with_name(name), self._path, now)

    def drop_kept(self, name: str) -> None:
        for ending in ("", *_LOGS):
            self._path.with_name(name + ending).unlink(missing_ok=True)

    @contextmanager
    def _open(self, path: Path, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_connect(path, mode)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise MetastoreUnavailable(f"the metastore {path} can't be read: {error}") from error


class SqliteSnapshot:
    algorithm = "sqlite-json"

    def __init__(self, path: Path, connection: sqlite3.Connection, compression: int) -> None:
        self._path, self._connection, self._compression = path, connection, compression
        self.revision = _revision(connection)

    @contextmanager
    def dump(self) -> Iterator[Iterator[bytes]]:
        with open(self._path, "rb", buffering=0) as file:
            yield gzipped(iter(lambda: file.read(CHUNK_BYTES), b""), self._compression)

    def contents(self, report: Report | None = None) -> dict[str, TableContent]:
        return sqlite_contents(self._connection, self.algorithm, report)

    def rows(self, table: str) -> list[dict[str, Any]]:
        # Its own connection: `contents` may be at work on the other.
        with closing(_connect(self._path, "ro")) as connection:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def cancel(self) -> None:
        self._connection.interrupt()


class SqliteTarget:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite:///{path}"

    def load(self, chunks: Iterable[bytes]) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            for chunk in gunzipped(chunks, "the dump"):
                file.write(chunk)
            os.fsync(file.fileno())

    def contents(self, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
        with _verifying(self._path) as connection:
            return sqlite_contents(connection, algorithm, report)

    def check(self) -> None:
        with _verifying(self._path) as connection:
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchmany(5)
        if said != ["ok"]:
            raise VerificationFailed(f"the restored database is damaged: {'; '.join(said)}")
        if orphans:
            raise VerificationFailed(f"the restored database has rows without their parent: {orphans}")


class SqliteReplacement(SqliteTarget):
    def __init__(self, path: Path, live: Path) -> None:
        super().__init__(path)
        self._live = live

    def swap(self, now: datetime) -> str:
        return _exchange(self._path, self._live, now)


def _exchange(incoming: Path, live: Path, now: datetime) -> str:
    """Put a database file in the place of the live one by one rename. The name under which the old one is kept."""
    # Whatever was written to it must be in its one file before it moves.
    try:
        with closing(_connect(incoming, "rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        raise VerificationFailed(f"{incoming} can't be used: {error}", hint="nothing has changed") from error
    _sync(incoming)
    names = {path.name for path in live.parent.iterdir()}
    kept = live.with_name(kept_name(live.name, now, names, _LONGEST_NAME))
    replaces = live.exists()
    if replaces:
        _end_log(live)
        _remove_second_names(live)
        os.link(live, kept)
    # A log left by a damaged or lost file goes beside what is kept: SQLite would play it into the new one.
    for ending in _LOGS:
        log = live.with_name(live.name + ending)
        if log.exists():
            log.rename(kept.with_name(kept.name + ending))
    incoming.rename(live)
    _sync(live.parent)
    return kept.name if replaces else ""


def _remove_second_names(live: Path) -> None:
    """Those which an exchange left that was killed between its link and its rename."""
    for path in live.parent.glob(glob.escape(live.name) + "_before_*"):
        if kept_at(live.name, path.name, _LONGEST_NAME) and path.samefile(live):
            path.unlink()


def _end_log(live: Path) -> None:
    """Put the live database's log into its file. That needs to be alone: so it also proves that nobody uses it."""
    try:
        with closing(_connect(live, "rw", timeout=5)) as connection:
            mode = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise GuardRefused(
            f"{live} is in use: {error}", hint="stop every opskit process that uses it, then try again"
        ) from error
    except sqlite3.DatabaseError:
        return  # it is damaged: that is why someone restores
    if str(mode).lower() != "delete":
        raise GuardRefused(
            f"{live} is in use by another process",
            hint="stop every opskit process that uses it, then try again",
        )


@contextmanager
def _verifying(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(_connect(path, "ro")) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise VerificationFailed(f"the restored database is damaged: {error}") from error


def _connect(path: Path, mode: str, timeout: float = LOCK_TIMEOUT_SECONDS) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _revision(connection: sqlite3.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
