"""Copies of a PostgreSQL metastore, by pg_dump and pg_restore."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from opskit.core.metastore.contents import Report, TableContent, postgresql_algorithm, postgresql_contents
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
from opskit.core.metastore.snapshots import (
    DatabaseInfo,
    Kept,
    kept_at,
    kept_name,
    require_free,
    require_free_on_server,
)
from opskit.errors import ConfigError, MetastoreUnavailable
from opskit.system.programs import Program, find_program, output_of, require_not_older, run
from opskit.system.scratch import scratch_folder

_PACKAGE = "postgresql-client"
_DIALECT = Dialect(
    extra="postgres",
    connect={"connect_timeout": 10, "application_name": "opskit backup", "prepare_threshold": None},
    quote='"',
    begins_with="SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
    try_lock="SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
    lock="SELECT pg_advisory_lock(hashtextextended(%s, 0))",
    unlock="SELECT pg_advisory_unlock(hashtextextended(%s, 0))",
    forced=" WITH (FORCE)",
    grant="grant it: ALTER ROLE … CREATEDB",
)
_JOBS = max(1, min(4, os.cpu_count() or 1))


class PostgresqlCopier:
    kind = "postgresql"
    dump_name = "metastore.pgdump"

    def __init__(self, url: URL, scratch: Path, compression: int) -> None:
        self._url, self._scratch, self._compression = url, scratch, compression
        self._live = str(url.database)

    def describe(self) -> DatabaseInfo:
        with session(self._url, _DIALECT) as connection:
            version, server = _server(connection)
            size = int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
            revision = _revision(connection)
        tools = {name: _program(name, server).version_text for name in ("pg_dump", "pg_restore")}
        return DatabaseInfo(self.kind, version, redacted(self._url), size, revision, tools)

    @contextmanager
    def snapshot(self) -> Iterator[PostgresqlSnapshot]:
        with session(self._url, _DIALECT) as connection:
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
        with new_database(server, _DIALECT, _drill_prefix(server), _locale_of(self._url)) as (name, _):
            yield PostgresqlTarget(server.set(database=name), self._scratch, lasting=False)

    @contextmanager
    def replacement(self) -> Iterator[PostgresqlReplacement]:
        server, prefix = _maintenance(self._url), f"{self._live[:30]}_restore_"
        with new_database(server, _DIALECT, prefix, _locale_of(self._url)) as (name, connection):
            yield PostgresqlReplacement(self._url.set(database=name), self._scratch, self._live, connection)

    def require_room(self, size_bytes: int, dump_bytes: int) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_free(self._scratch, dump_bytes, "the dump")
        with session(_maintenance(self._url), _DIALECT) as connection:
            if _is_superuser(connection):
                folder = str(connection.exec_driver_sql("SHOW data_directory").scalar_one())
                require_free_on_server(self._url.host, folder, size_bytes)

    def kept(self) -> list[Kept]:
        with session(_maintenance(self._url), _DIALECT) as connection:
            rows = connection.exec_driver_sql("SELECT datname, pg_database_size(oid) FROM pg_database").all()
        times = [(name, kept_at(self._live, name), size) for name, size in rows]
        found = [Kept(name, at, int(size)) for name, at, size in times if at is not None]
        return sorted(found, key=lambda one: one.kept_at, reverse=True)

    def put_back(self, name: str, now: datetime) -> str:
        with session(_maintenance(self._url), _DIALECT) as connection:
            return _exchange(connection, name, self._live, now)

    def drop_kept(self, name: str) -> None:
        with session(_maintenance(self._url), _DIALECT) as connection:
            connection.exec_driver_sql(_DIALECT.drop(name))


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
        with explained(self._url):
            return postgresql_contents(self._connection, self.algorithm, report)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with session(self._url, _DIALECT) as connection:
            connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{self._id}'")
            found = [dict(row._mapping) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')]
            connection.exec_driver_sql("ROLLBACK")
        return found

    def cancel(self) -> None:
        driver: Any = self._connection.connection.driver_connection
        driver.cancel()


class PostgresqlTarget:
    def __init__(self, url: URL, scratch: Path, *, lasting: bool = True) -> None:
        self._url, self._scratch, self._lasting = url, scratch, lasting
        self.url = url.render_as_string(hide_password=False)

    def load(self, chunks: Iterable[bytes]) -> None:
        with session(self._url, _DIALECT) as connection:
            _, server = _server(connection)
        program = _program("pg_restore", server)
        # pg_restore works in parallel from a file only. The file also means that no byte reaches the database
        # before all of them have been checked.
        with scratch_folder(self._scratch, "load") as folder:
            archive = folder / "archive"
            with open(os.open(archive, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            arguments = [program.path, f"--jobs={_JOBS}", "--exit-on-error", "--no-owner", "--no-privileges"]
            arguments += ["--no-password", f"--dbname={_address(self._url)}"]
            # The database is thrown away, or swapped in only after it has been checked and flushed.
            environment = _environment(self._url, options="-c synchronous_commit=off -c maintenance_work_mem=128MB")
            if self._lasting:
                run([*arguments, str(archive)], environment)
                return
            run([*arguments, "--section=pre-data", str(archive)], environment)
            self._leave_out_wal(program, archive)
            run([*arguments, "--section=data", "--section=post-data", str(archive)], environment)

    def _leave_out_wal(self, program: Program, archive: Path) -> None:
        """A third of the time of a restore is its write-ahead log, of no use in a database that is thrown away.

        A partitioned table always counts as logged, and so can't have a foreign key to one that is not.
        """
        with session(self._url, _DIALECT) as connection:
            tables = "SELECT c.oid::regclass::text, relname FROM pg_class c WHERE relkind = '{}' AND c.oid >= 16384"
            partitioned = {name for _, name in connection.exec_driver_sql(tables.format("p"))}
            with output_of([program.path, "--list", str(archive)], {}) as chunks:
                listed = b"".join(chunks).decode(errors="replace").splitlines()
            keys = [line for line in listed if " FK CONSTRAINT " in line]
            if any(f" {name} " in line for line in keys for name in partitioned):
                return
            for table, _ in connection.exec_driver_sql(tables.format("r")).all():
                connection.exec_driver_sql(f"ALTER TABLE {table} SET UNLOGGED".replace("%", "%%"))

    def contents(self, algorithm: str, report: Report | None = None) -> dict[str, TableContent]:
        with session(self._url, _DIALECT) as connection:
            return postgresql_contents(connection, algorithm, report)

    def check(self) -> None:
        """PostgreSQL has checked every constraint and built every index from the rows while it loaded them."""


class PostgresqlReplacement(PostgresqlTarget):
    def __init__(self, url: URL, scratch: Path, live: str, maintenance: Connection) -> None:
        super().__init__(url, scratch)
        self._live, self._maintenance = live, maintenance

    def swap(self, now: datetime) -> str:
        with session(self._url, _DIALECT) as connection:
            # The planner knows nothing of tables that were just loaded, and autovacuum comes late.
            connection.exec_driver_sql("ANALYZE")
        if _is_superuser(self._maintenance):
            self._maintenance.exec_driver_sql("CHECKPOINT")
        return _exchange(self._maintenance, str(self._url.database), self._live, now)


def _exchange(connection: Connection, incoming: str, live: str, now: datetime) -> str:
    """Rename two databases in one transaction. The name under which the live one is kept; empty: there was none."""
    run_sql, quoted = connection.exec_driver_sql, _DIALECT.quoted
    names = set(run_sql("SELECT datname FROM pg_database").scalars())
    kept = kept_name(live, now, names) if live in names else ""
    if kept:
        refuse_users(live, lambda: _users(connection, live))
    run_sql("BEGIN")
    try:
        if kept:
            run_sql(f"ALTER DATABASE {quoted(live)} RENAME TO {quoted(kept)}")
        run_sql(f"ALTER DATABASE {quoted(incoming)} RENAME TO {quoted(live)}")
        run_sql("COMMIT")
    except DBAPIError as error:
        run_sql("ROLLBACK")
        raise not_swapped(error) from error
    return kept


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


def _locale_of(source: URL) -> str:
    """The encoding and the collations of the source, where it can be asked: sorting and hashing depend on them."""
    try:
        with session(source, _DIALECT) as connection:
            row = connection.exec_driver_sql(
                "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database "
                "WHERE datname = current_database()"
            ).one()
    except MetastoreUnavailable:
        return " TEMPLATE template0 ENCODING 'UTF8'"  # a restore onto a server that has no such database yet
    encoding, collate, ctype = (str(value).replace("'", "''") for value in row)
    return f" TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE '{collate}' LC_CTYPE '{ctype}'"


def _maintenance(url: URL) -> URL:
    """A database of the same server: ours can't be renamed by a session that is connected to it."""
    postgres = url.set(database="postgres")
    try:
        with session(postgres, _DIALECT):
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


def _is_superuser(connection: Connection) -> bool:
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
