"""Copies of a PostgreSQL metastore, by pg_dump and pg_restore."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from opskit.core.metastore.contents import Report, TableContent, postgresql_algorithm, postgresql_contents
from opskit.core.metastore.engine import normalised, redacted
from opskit.core.metastore.faults import translate
from opskit.core.metastore.snapshots import DatabaseInfo, still_there
from opskit.errors import ConfigError, GuardRefused, MetastoreUnavailable
from opskit.system.programs import Program, find_program, output_of, require_not_older, run
from opskit.system.scratch import scratch_folder

DRILL_PREFIX = "opskit_drill_"
_PACKAGE = "postgresql-client"
_JOBS = max(1, min(4, os.cpu_count() or 1))


class PostgresqlCopier:
    kind = "postgresql"
    dump_name = "metastore.pgdump"

    def __init__(self, url: URL, scratch: Path, compression: int) -> None:
        self._url, self._scratch, self._compression = url, scratch, compression

    def describe(self) -> DatabaseInfo:
        with _connected(self._url) as connection:
            version, server = _server(connection)
            size = int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
            revision = _revision(connection)
        tools = {name: _program(name, server).version_text for name in ("pg_dump", "pg_restore")}
        return DatabaseInfo(self.kind, version, redacted(self._url), size, revision, tools)

    @contextmanager
    def snapshot(self) -> Iterator[PostgresqlSnapshot]:
        with _connected(self._url) as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield PostgresqlSnapshot(self._url, connection, self._compression)
            finally:
                if not connection.invalidated:
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def throwaway(self, url: str = "") -> Iterator[PostgresqlTarget]:
        server = normalised(url) if url else self._url
        if server.get_backend_name() != "postgresql":
            raise ConfigError(
                "backup.drill_url is no PostgreSQL server", hint="a drill needs the same kind of database"
            )
        with _new_database(server, _drill_prefix(server), self._url) as (name, _):
            yield PostgresqlTarget(server.set(database=name), self._scratch)

    @contextmanager
    def replacement(self) -> Iterator[PostgresqlReplacement]:
        # The live database can't be renamed by a session that is connected to it.
        maintenance = _maintenance(self._url)
        with _new_database(maintenance, f"{_short(self._url)}_restore_", self._url) as (name, connection):
            yield PostgresqlReplacement(self._url.set(database=name), self._scratch, self._url, connection)


class PostgresqlSnapshot:
    def __init__(self, url: URL, connection: Connection, compression: int) -> None:
        self._url, self._connection, self._compression = url, connection, compression
        _, self._server = _server(connection)
        self.algorithm = postgresql_algorithm(self._server)
        self.revision = _revision(connection)
        self._id = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())

    @contextmanager
    def dump(self) -> Iterator[Iterator[bytes]]:
        program = _program("pg_dump", self._server)
        arguments = [
            program.path,
            "--format=custom",
            f"--compress={self._compression}",
            f"--snapshot={self._id}",
            "--no-password",
            "--lock-wait-timeout=60s",
            f"--dbname={_address(self._url)}",
        ]
        with output_of(arguments, _environment(self._url)) as chunks:
            yield chunks

    def contents(self, report: Report | None = None) -> dict[str, TableContent]:
        with _explained(self._url):
            return postgresql_contents(self._connection, self.algorithm, report)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with _connected(self._url) as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{self._id}'")
            found = [dict(row._mapping) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')]
            connection.exec_driver_sql("ROLLBACK")
        return found

    def cancel(self) -> None:
        driver: Any = self._connection.connection.driver_connection
        driver.cancel()


class PostgresqlTarget:
    def __init__(self, url: URL, scratch: Path) -> None:
        self._url, self._scratch = url, scratch
        self.url = url.render_as_string(hide_password=False)

    def load(self, chunks: Iterable[bytes]) -> None:
        with _connected(self._url) as connection:
            _, server = _server(connection)
        program = _program("pg_restore", server)
        # pg_restore works in parallel from a file only. The file also means that no byte reaches the database
        # before all of them have been checked.
        with scratch_folder(self._scratch, "load") as folder:
            archive = folder / "archive"
            with open(os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            run(
                [
                    program.path,
                    f"--jobs={_JOBS}",
                    "--exit-on-error",
                    "--no-owner",
                    "--no-privileges",
                    "--no-password",
                    f"--dbname={_address(self._url)}",
                    str(archive),
                ],
                # The database is thrown away, or swapped in only after it has been checked and flushed.
                _environment(self._url, options="-c synchronous_commit=off -c maintenance_work_mem=128MB"),
            )

    def contents(self, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
        with _connected(self._url) as connection:
            return postgresql_contents(connection, algorithm, report)

    def check(self) -> None:
        """PostgreSQL has checked every constraint and built every index from the rows while it loaded them."""


class PostgresqlReplacement(PostgresqlTarget):
    def __init__(self, url: URL, scratch: Path, live: URL, maintenance: Connection) -> None:
        super().__init__(url, scratch)
        self._live, self._maintenance = str(live.database), maintenance

    def swap(self, keep_as: str) -> list[str]:
        run_sql = self._maintenance.exec_driver_sql
        new, live = str(self._url.database), self._live
        old = f"{live[:30]}_{keep_as}".replace("-", "_").lower()
        run_sql("CHECKPOINT") if _may_checkpoint(self._maintenance) else None
        exists = run_sql("SELECT 1 FROM pg_database WHERE datname = %s", (live,)).first() is not None
        if not exists:
            run_sql(f"ALTER DATABASE {_quoted(new)} RENAME TO {_quoted(live)}")
            return []
        users = still_there(lambda: _users(self._maintenance, live))
        if users:
            raise GuardRefused(
                f"the database {live} is in use by {', '.join(users[:5])}",
                hint="stop every program that uses it, then restore again",
            )
        run_sql("BEGIN")
        try:
            run_sql(f"ALTER DATABASE {_quoted(live)} RENAME TO {_quoted(old)}")
            run_sql(f"ALTER DATABASE {_quoted(new)} RENAME TO {_quoted(live)}")
            run_sql("COMMIT")
        except DBAPIError as error:
            run_sql("ROLLBACK")
            raise GuardRefused(
                f"the restored database could not be swapped in: {error.orig}",
                hint="nothing has changed: stop every program that uses the database, then restore again",
            ) from error
        return [
            f"ALTER DATABASE {_quoted(live)} RENAME TO {_quoted(new)};",
            f"ALTER DATABASE {_quoted(old)} RENAME TO {_quoted(live)};",
        ]


def _users(connection: Connection, database: str) -> list[str]:
    """Sessions in a database."""
    rows = connection.exec_driver_sql(
        "SELECT application_name, pid, usename FROM pg_stat_activity WHERE datname = %s", (database,)
    )
    return [f"{name or 'a program'} (pid {pid}, {user})" for name, pid, user in rows]


def _drill_prefix(server: URL) -> str:
    """Advisory locks hold within one database: sessions of another one, which another cluster may use, would find ours
    free, and take a drill at work for a leftover. So each database has drills of its own name."""
    return f"{DRILL_PREFIX}{hashlib.sha256((server.database or '').encode()).hexdigest()[:8]}_"


@contextmanager
def _new_database(maintenance: URL, prefix: str, source: URL) -> Iterator[tuple[str, Connection]]:
    """An empty database, dropped at the end unless it was renamed. Its session holds a lock with its name: a database
    whose lock is free was left by a killed process, and goes."""
    name = prefix + secrets.token_hex(6)
    with _connected(maintenance) as connection:
        run_sql = connection.exec_driver_sql
        for (left,) in run_sql("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (prefix,)).all():
            if run_sql("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (left,)).scalar():
                run_sql(f"DROP DATABASE IF EXISTS {_quoted(left)} WITH (FORCE)")
                run_sql("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (left,))
        run_sql("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        create = f"CREATE DATABASE {_quoted(name)} TEMPLATE template0" + _locale_of(source)
        try:
            run_sql(create)
        except DBAPIError as error:
            raise ConfigError(
                f"can't make a database beside the metastore: {error.orig}",
                hint="grant it: ALTER ROLE … CREATEDB; or set [backup] drill_url to a server where the role may",
            ) from error
        try:
            yield name, connection
        finally:
            if not connection.invalidated:
                run_sql(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")


def _locale_of(source: URL) -> str:
    """The encoding and the collations of the source, where it can be asked: sorting and hashing depend on them."""
    try:
        with _connected(source) as connection:
            row = connection.exec_driver_sql(
                "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database "
                "WHERE datname = current_database()"
            ).one()
    except MetastoreUnavailable:
        return " ENCODING 'UTF8'"  # a restore onto a server that has no such database yet
    encoding, collate, ctype = (str(value).replace("'", "''") for value in row)
    return f" ENCODING '{encoding}' LC_COLLATE '{collate}' LC_CTYPE '{ctype}'"


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    """A session of its own, in autocommit: transactions are begun and ended in plain SQL."""
    try:
        engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 10, "application_name": "opskit backup", "prepare_threshold": None},
        )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the metastore is postgresql, and the Python package {error.name} is not installed",
            hint="install it with: pip install 'opskit[postgres]'",
        ) from error
    with _explained(url), engine.connect() as connection:
        yield connection


@contextmanager
def _explained(url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise translate(error, redacted(url)) from error


def _maintenance(url: URL) -> URL:
    """A database of the same server to be connected to while ours is renamed."""
    postgres = url.set(database="postgres")
    try:
        with _connected(postgres):
            return postgres
    except MetastoreUnavailable:
        return url.set(database="template1")


def _server(connection: Connection) -> tuple[str, tuple[int, ...]]:
    text = str(connection.exec_driver_sql("SHOW server_version").scalar_one()).split()[0]
    number = int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())
    return text, (number // 10_000,)


def _program(name: str, server: tuple[int, ...]) -> Program:
    program = find_program([name], package=f"{_PACKAGE}-{server[0]}")
    require_not_older(program, server, "PostgreSQL", package=f"{_PACKAGE}-{server[0]}")
    return program


def _revision(connection: Connection) -> str | None:
    if not connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar():
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if revision is None else str(revision)


def _may_checkpoint(connection: Connection) -> bool:
    return connection.exec_driver_sql("SHOW is_superuser").scalar() == "on"


def _address(url: URL) -> str:
    """For libpq's programs; the password goes by the environment, where other users can't read it."""
    without = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return without.render_as_string(hide_password=False)


def _environment(url: URL, options: str = "") -> dict[str, str]:
    environment = {"PGAPPNAME": "opskit backup", "PGCONNECT_TIMEOUT": "10"}
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    if options:
        environment["PGOPTIONS"] = options
    return environment


def _short(url: URL) -> str:
    return str(url.database)[:30]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'
