"""Copies of a MariaDB or MySQL metastore, by mariadb-dump and mariadb (mysqldump and mysql)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from opskit.core.metastore.contents import MysqlColumns, Report, TableContent, mysql_contents, mysql_tables
from opskit.core.metastore.copy_server import (
    DRILL_PREFIX,
    Dialect,
    explained,
    new_database,
    not_swapped,
    refuse_users,
    session,
)
from opskit.core.metastore.engine import normalised, redacted
from opskit.core.metastore.load_mysql import CountedWhileLoaded
from opskit.core.metastore.snapshots import DatabaseInfo, Kept, kept_at, kept_name, require_free_on_server
from opskit.errors import ConfigError, MetastoreUnavailable
from opskit.system.programs import Program, find_program, output_of, require_not_older
from opskit.system.programs import feed as feed_program
from opskit.system.streams import gunzipped, gzipped

_DIALECT = Dialect(
    extra="mysql",
    connect={"connect_timeout": 10, "init_command": "SET SESSION time_zone = '+00:00'"},
    quote="`",
    begins_with="SELECT schema_name FROM information_schema.schemata WHERE LOCATE(%s, schema_name) = 1",
    try_lock="SELECT GET_LOCK(%s, 0)",
    lock="SELECT GET_LOCK(%s, 10)",
    unlock="SELECT RELEASE_LOCK(%s)",
    forced="",
    grant="grant the user ALL ON `{}%`.*",
)
_NEW = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_LOCK_ATTEMPTS = 10
_SERVER_LOCK_ATTEMPTS = 3
_LOCK_SECONDS = 3
_LOCK_WAIT_TIMEOUT = 1205
_DEADLOCK = 1213
_DENIED = (1044, 1045, 1142, 1227)
_BEGUN = b"-- Table structure for table"
"""What a dump says first after its transaction has begun."""


class MysqlCopier:
    dump_name = "metastore.sql.gz"

    def __init__(self, url: URL, scratch: Path, compression: int) -> None:
        self._url, self._compression, self._live = url, compression, str(url.database)
        self.kind = "mysql"  # the server says which: see describe

    def describe(self) -> DatabaseInfo:
        with session(self._url, _DIALECT) as connection:
            text, family, server = _server(connection)
            size = connection.exec_driver_sql(
                "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables "
                "WHERE table_schema = DATABASE()"
            ).scalar_one()
            revision = _revision(connection)
        self.kind = family
        tools = {
            Path(program.path).name: program.version_text
            for program in (_program("dump", family, server), _program("client", family, server))
        }
        return DatabaseInfo(family, text, redacted(self._url), int(size), revision, tools)

    @contextmanager
    def snapshot(self) -> Iterator[MysqlSnapshot]:
        with (
            session(self._url, _DIALECT) as holder,
            session(self._url, _DIALECT) as first,
            session(self._url, _DIALECT) as second,
        ):
            snapshot = MysqlSnapshot(self._url, holder, first, second, self._compression)
            try:
                yield snapshot
            finally:
                snapshot.close()

    @contextmanager
    def throwaway(self, url: str = "") -> Iterator[MysqlTarget]:
        server = normalised(url) if url else self._url
        if server.get_backend_name() not in ("mysql", "mariadb"):
            raise ConfigError("backup.drill_url is no MariaDB or MySQL server", hint="a drill needs the same kind")
        with new_database(_beside(server), _DIALECT, DRILL_PREFIX, _NEW) as (name, _):
            yield MysqlTarget(server.set(database=name))

    @contextmanager
    def replacement(self) -> Iterator[MysqlReplacement]:
        prefix = f"{self._live[:30]}_restore_"
        with new_database(_beside(self._url), _DIALECT, prefix, _NEW) as (name, connection):
            yield MysqlReplacement(self._url.set(database=name), self._live, connection)

    def require_room(self, size_bytes: int, dump_bytes: int) -> None:
        with session(_beside(self._url), _DIALECT) as connection:
            folder = str(connection.exec_driver_sql("SELECT @@datadir").scalar_one())
        require_free_on_server(self._url.host, folder, size_bytes)

    def kept(self) -> list[Kept]:
        with session(_beside(self._url), _DIALECT) as connection:
            return _kept(connection, self._live)

    def put_back(self, name: str, now: datetime) -> str:
        with session(_beside(self._url), _DIALECT) as connection:
            kept = _exchange(connection, name, self._live, now)
            connection.exec_driver_sql(_DIALECT.drop(name))  # it is empty now
            return kept

    def drop_kept(self, name: str) -> None:
        with session(_beside(self._url), _DIALECT) as connection:
            connection.exec_driver_sql(_DIALECT.drop(name))


def _beside(url: URL) -> URL:
    """Not in the live database: it may not exist any more, and a session in it would count as its user."""
    return url.set(database="information_schema")


class MysqlSnapshot:
    """Two transactions and the dump's own see one state, because they begin while all tables are locked for writing."""

    algorithm = "mysql-text"

    def __init__(self, url: URL, holder: Connection, first: Connection, second: Connection, compression: int) -> None:
        self._url, self._holder, self._compression = url, holder, compression
        self._contents, self._rows = first, second
        _, self._family, self._server = _server(holder)
        self._locked = False
        self._lock()
        for connection in (first, second):
            connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        self.revision = _revision(second)

    def _lock(self) -> None:
        """Hold writers back for the moment in which three transactions begin.

        The lock of the whole server lets open transactions wait. Without RELOAD, or where a long statement in anybody's
        database holds it up, it is a lock of our tables, which may meet an open transaction in a deadlock: the server
        then lets that transaction give way, and it must be repeated.
        """
        self._holder.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
        if self._locked_by("FLUSH TABLES WITH READ LOCK", _SERVER_LOCK_ATTEMPTS, or_not=True):
            return
        tables = ", ".join(f"{_DIALECT.quoted(table)} READ" for table in mysql_tables(self._holder))
        if tables and not self._locked_by(f"LOCK TABLES {tables}", _LOCK_ATTEMPTS):
            raise ConfigError(
                f"the user of {redacted(self._url)} may not lock tables",
                hint="grant it RELOAD, or at least LOCK TABLES on the metastore",
            )

    def _locked_by(self, statement: str, attempts: int, *, or_not: bool = False) -> bool:
        """Take a lock; False: the user has no right to it, or (`or_not`) it was not given in so many attempts."""
        for _ in range(attempts):
            try:
                self._holder.exec_driver_sql(statement)
                self._locked = True
                return True
            except DBAPIError as error:
                code = _code(error)
                if code in _DENIED:
                    return False
                # Waiting longer would hold up everyone who comes after us.
                if code not in (_LOCK_WAIT_TIMEOUT, _DEADLOCK):
                    raise
        if or_not:
            return False
        raise MetastoreUnavailable(
            f"{redacted(self._url)} gave no lock for a consistent snapshot in {attempts * _LOCK_SECONDS} s",
            hint="a long transaction holds it up: see SHOW PROCESSLIST",
        )

    def _unlock(self) -> None:
        if self._locked:
            self._holder.exec_driver_sql("UNLOCK TABLES")
            self._locked = False

    @contextmanager
    def dump(self) -> Iterator[Iterator[bytes]]:
        program = _program("dump", self._family, self._server)
        arguments = [
            program.path,
            *_address(self._url),
            "--single-transaction",
            "--quick",
            "--skip-lock-tables",
            "--hex-blob",
            "--no-tablespaces",
            "--skip-dump-date",
            "--triggers",
            "--default-character-set=utf8mb4",
            *([] if self._family == "mariadb" else ["--set-gtid-purged=OFF", "--column-statistics=0"]),
            str(self._url.database),
        ]
        with output_of(arguments, _environment(self._url)) as chunks:
            begun = bytearray()
            for chunk in chunks:
                begun += chunk
                if _BEGUN in begun:
                    break
            self._unlock()
            yield gzipped(chain([bytes(begun)], chunks), self._compression)

    def contents(self, report: Report | None = None) -> dict[str, TableContent]:
        with explained(self._url):
            return mysql_contents(self._contents, self.algorithm, report)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in self._rows.exec_driver_sql(f"SELECT * FROM {_DIALECT.quoted(table)}")]

    def cancel(self) -> None:
        driver: Any = self._contents.connection.driver_connection
        driver._force_close()

    def close(self) -> None:
        self._unlock()


class MysqlTarget:
    def __init__(self, url: URL) -> None:
        self._url = url
        self.url = url.render_as_string(hide_password=False)
        self._counted: dict[str, tuple[MysqlColumns, TableContent]] = {}

    def load(self, chunks: Iterable[bytes]) -> None:
        with session(self._url, _DIALECT) as connection:
            _, family, server = _server(connection)
        program = _program("client", family, server)
        arguments = [
            program.path,
            *_address(self._url),
            "--default-character-set=utf8mb4",
            "--max-allowed-packet=1G",
            "--batch",
            "--skip-column-names",
            "--unbuffered",
            f"--database={self._url.database}",
        ]
        with CountedWhileLoaded(lambda: session(self._url, _DIALECT)) as counted:
            dump = counted.marked(gunzipped(chunks, "the dump"))
            feed_program(arguments, _environment(self._url), dump, counted.said)
        self._counted = counted.found()

    def contents(self, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
        # What was counted while it was loaded holds for what was loaded, not for what is done to it later.
        counted, self._counted = self._counted, {}
        with session(self._url, _DIALECT) as connection:
            return mysql_contents(connection, algorithm, report, counted)

    def check(self) -> None:
        """The dump switches the foreign key checks off while it loads; the equal hashes stand for them."""


class MysqlReplacement(MysqlTarget):
    def __init__(self, url: URL, live: str, maintenance: Connection) -> None:
        super().__init__(url)
        self._live, self._maintenance = live, maintenance

    def swap(self, now: datetime) -> str:
        return _exchange(self._maintenance, str(self._url.database), self._live, now)


def _exchange(connection: Connection, incoming: str, live: str, now: datetime) -> str:
    """Move the tables of two databases in one statement. The name of the database that keeps the live ones now; empty:
    there were none."""
    run_sql, quoted = connection.exec_driver_sql, _DIALECT.quoted
    refuse_users(live, lambda: _users(connection, live))
    names = set(run_sql("SELECT schema_name FROM information_schema.schemata").scalars())
    for name in sorted(names):
        # Left by an exchange that was killed before or after its one step.
        if name != incoming and kept_at(live, name) and not _tables(connection, name):
            run_sql(_DIALECT.drop(name))
    before, coming = _tables(connection, live), _tables(connection, incoming)
    kept = kept_name(live, now, names)
    away = [f"{quoted(live)}.{quoted(name)} TO {quoted(kept)}.{quoted(name)}" for name in before]
    here = [f"{quoted(incoming)}.{quoted(name)} TO {quoted(live)}.{quoted(name)}" for name in coming]
    run_sql(f"CREATE DATABASE IF NOT EXISTS {quoted(live)}{_NEW}")
    if before:
        run_sql(f"CREATE DATABASE {quoted(kept)}{_NEW}")
    try:
        run_sql("SET SESSION lock_wait_timeout = 10")
        # One statement, which the server carries out whole or not at all.
        run_sql(f"RENAME TABLE {', '.join(away + here)}")
    except DBAPIError as error:
        if before:
            run_sql(_DIALECT.drop(kept))
        raise not_swapped(error) from error
    return kept if before else ""


def _tables(connection: Connection, database: str) -> list[str]:
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name"
    return [str(name) for (name,) in connection.exec_driver_sql(tables, (database,))]


def _kept(connection: Connection, live: str) -> list[Kept]:
    rows = connection.exec_driver_sql(
        "SELECT table_schema, SUM(COALESCE(data_length, 0) + COALESCE(index_length, 0)) FROM information_schema.tables "
        "WHERE table_type = 'BASE TABLE' GROUP BY table_schema"
    ).all()
    times = [(str(name), kept_at(live, str(name)), size) for name, size in rows]
    found = [Kept(name, at, int(size)) for name, at, size in times if at is not None]
    return sorted(found, key=lambda one: one.kept_at, reverse=True)


def _users(connection: Connection, database: str) -> list[str]:
    """Other sessions in a database. (A user without PROCESS sees its own only; the heartbeats tell of the others.)"""
    rows = connection.exec_driver_sql(
        "SELECT id, user, host FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()",
        (database,),
    )
    return [f"{user} (connection {number}, from {host})" for number, user, host in rows]


def _code(error: DBAPIError) -> int:
    arguments = getattr(error.orig, "args", ())
    return int(arguments[0]) if arguments and isinstance(arguments[0], int) else 0


def _server(connection: Connection) -> tuple[str, str, tuple[int, ...]]:
    """Version as text, family (mariadb or mysql), and the version that the programs must have."""
    text = str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
    family = "mariadb" if "mariadb" in text.lower() else "mysql"
    numbers = text.removeprefix("5.5.5-").split("-")[0].split(".")
    if len(numbers) < 2 or not all(part.isdecimal() for part in numbers[:2]):
        raise MetastoreUnavailable(f"the server's version {text!r} can't be understood")
    return text, family, (int(numbers[0]), int(numbers[1]))


def _program(role: str, family: str, server: tuple[int, ...]) -> Program:
    names = {
        ("dump", "mariadb"): ["mariadb-dump", "mysqldump"],
        ("client", "mariadb"): ["mariadb", "mysql"],
        ("dump", "mysql"): ["mysqldump"],
        ("client", "mysql"): ["mysql"],
    }[role, family]
    package = f"{family}-client"
    program = (
        find_program(names, package=package, contains="MariaDB")
        if family == "mariadb"
        else find_program(names, package=package, without="MariaDB")
    )
    require_not_older(program, server, family, package=package)
    return program


def _revision(connection: Connection) -> str | None:
    if "alembic_version" not in mysql_tables(connection):
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if revision is None else str(revision)


def _address(url: URL) -> list[str]:
    """For the server's programs; the password goes by the environment, where other users can't read it."""
    socket = url.query.get("unix_socket")
    where = [f"--socket={socket}"] if socket else [f"--host={url.host or 'localhost'}", f"--port={url.port or 3306}"]
    if not socket:
        where.append("--protocol=tcp")
    secure = [
        f"--{option.replace('_', '-')}={url.query[option]}"
        for option in ("ssl_ca", "ssl_cert", "ssl_key")
        if option in url.query
    ]
    # First of all, and alone: nobody's ~/.my.cnf changes what is dumped.
    return ["--no-defaults", *where, *secure, *([f"--user={url.username}"] if url.username else [])]


def _environment(url: URL) -> dict[str, str]:
    return {"MYSQL_PWD": str(url.password)} if url.password else {}
