"""Opens the metastore, begins its transactions, and says in plain words when it can't be reached.

Everything that differs between SQLite, PostgreSQL and MariaDB/MySQL in how one connects and how a transaction begins
stands here; `bulk.py` has what differs in how many rows are written at once.
"""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from opskit.config import Config
from opskit.core.metastore.bulk import bulk_insert, bulk_update
from opskit.core.metastore.faults import TransactionConflict, translate
from opskit.errors import ConfigError, MetastoreUnavailable

__all__ = [
    "Connection",
    "Engine",
    "TransactionConflict",
    "autocommitted",
    "bulk_insert",
    "bulk_update",
    "open_engine",
    "ping",
    "querying",
    "reading",
    "redacted",
    "transaction",
]

LOCK_TIMEOUT_SECONDS = 30
"""Longest wait for another transaction's lock, on every database."""
_CONNECT_TIMEOUT_SECONDS = 10
_RESTED_SECONDS = 2.0
_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
_EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}
_SQL_MODE = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_BEGIN_OPTION = "opskit_begin"


def normalised(url: str) -> URL:
    """The URL with the driver that opskit uses; Airflow's own spellings (`postgresql+psycopg2://…`) are understood.

    ConfigError for what is no database URL, or names a database that opskit does not know.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not repeated.
        raise ConfigError(
            "database.sql_alchemy_conn is not a database URL",
            hint="for example sqlite:///{home}/opskit.db or postgresql://user:password@host/opskit",
        ) from error
    kind = parsed.drivername.partition("+")[0]
    if kind not in _DRIVERS:
        raise ConfigError(
            f"database.sql_alchemy_conn names {kind!r}, which opskit does not know",
            hint="choose sqlite, postgresql, mysql or mariadb",
        )
    parsed = parsed.set(drivername=_DRIVERS[kind])
    if kind in ("mysql", "mariadb"):
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    return parsed


def redacted(url: str | URL) -> str:
    """The URL without its password, fit to be shown."""
    try:
        parsed = normalised(url) if isinstance(url, str) else url
    except ConfigError:
        return "(not a database URL)"
    secrets = [name for name in parsed.query if "password" in name.lower() or "key" in name.lower()]
    return parsed.difference_update_query(secrets).render_as_string(hide_password=True)


def sqlite_path(url: str | URL) -> Path | None:
    """The file of a SQLite metastore; None for another database, or one in memory."""
    parsed = normalised(url) if isinstance(url, str) else url
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return None
    return Path(parsed.database)


def open_engine(
    target: str | Config,
    *,
    pool_size: int | None = None,
    pre_ping: bool = False,
    begins: bool = True,
    for_reading: bool = False,
) -> Engine:
    """An engine for a URL or for the metastore of a configuration. Nothing is connected yet.

    `pre_ping` tests a connection that has rested before it is lent: for processes that can't repeat a transaction.
    `begins` False: on SQLite no transaction is begun, the caller does it.
    `for_reading`: each statement is a transaction of its own, where that gives the same answers as READ COMMITTED
    does (not on SQLite), so that a query is one round trip, not three.
    A SQLite file that does not exist is an error on the first use, never created: `schema.migrate` does that.
    """
    if isinstance(target, Config):
        url = normalised(target.database_url)
        pool_size = pool_size or int(target.get("database", "sql_alchemy_pool_size"))
    else:
        url = normalised(target)
    # Values may be secrets: they stay out of error messages.
    options: dict[str, Any] = {"hide_parameters": True}
    backend = url.get_backend_name()
    if backend == "sqlite":
        options |= _sqlite_options(url)
    elif backend == "postgresql":
        options["connect_args"] = {
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "application_name": "opskit",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
        }
        options["isolation_level"] = "READ COMMITTED"
    else:
        options["connect_args"] = {
            "connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            "init_command": f"SET SESSION time_zone = '+00:00', sql_mode = '{_SQL_MODE}', "
            f"innodb_lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}",
        }
        options["isolation_level"] = "READ COMMITTED"
        options["pool_recycle"] = 3600
    if for_reading and backend != "sqlite":
        options |= {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    if options.get("poolclass") is not StaticPool:
        options |= {"pool_size": pool_size or 5, "max_overflow": 5, "pool_timeout": LOCK_TIMEOUT_SECONDS}
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name), "all")
        raise ConfigError(
            f"the metastore is {backend}, and the Python package {error.name} is not installed",
            hint=f"install it with: pip install 'opskit[{extra}]'",
        ) from error
    event.listen(
        engine, "connect", {"sqlite": _set_up_sqlite, "postgresql": _set_up_postgresql}.get(backend, _set_up_mysql)
    )
    if backend == "sqlite" and begins:
        event.listen(engine, "begin", _begin_sqlite)
    share_tls(engine)
    if pre_ping:
        _ping_what_rested(engine)
    return engine


def _ping_what_rested(engine: Engine) -> None:
    """As SQLAlchemy's pool_pre_ping, without a round trip for connections that were just in use."""

    def returned(_: object, record: Any) -> None:
        record.info["returned_at"] = time.monotonic()

    def lent(dbapi: Any, record: Any, _: object) -> None:
        if time.monotonic() - record.info.get("returned_at", time.monotonic()) < _RESTED_SECONDS:
            return
        try:
            alive = engine.dialect.do_ping(dbapi)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error
        if not alive:
            raise DisconnectionError

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", lent)


def _sqlite_options(url: URL) -> dict[str, Any]:
    path = sqlite_path(url)
    if path is None:
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    if url.query:
        raise ConfigError("database.sql_alchemy_conn: options after the path of a SQLite file are not supported")
    # mode=rw: else a wrong path makes an empty file, and the error comes later and says less.
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_SECONDS, check_same_thread=False)

    return {"creator": connect}


def _set_up_sqlite(dbapi: Any, _: object) -> None:
    # The driver's own idea of when a transaction begins is switched off; _begin_sqlite says it.
    dbapi.isolation_level = None
    cursor = dbapi.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT_SECONDS * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    # Kept in the file, so only the first connection changes anything. While another one does, SQLite refuses at once:
    # the busy timeout does not hold for this.
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later would fail at once when another wrote in between,
    # so one that may write takes the lock at its start, and waits for it.
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN IMMEDIATE"))


def _set_up_postgresql(dbapi: Any, _: object) -> None:
    before = dbapi.autocommit
    dbapi.autocommit = True
    dbapi.execute(f"SET TIME ZONE 'UTC'; SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    dbapi.autocommit = before


def share_tls(engine: Engine) -> None:
    """Let the connections that PyMySQL makes share one TLS context, where they verify no certificate."""
    if engine.driver == "pymysql":
        event.listen(engine, "do_connect", _connect_pymysql)


def _connect_pymysql(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    return _pymysql_connection()(*arguments, **options)


@cache
def _pymysql_connection() -> Any:
    """PyMySQL would make a context for each, and read all certificates of the machine into it: tens of milliseconds."""
    import ssl

    import pymysql

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    class SharingConnection(pymysql.Connection):
        def _create_ssl_ctx(self, options: Any) -> Any:
            return super()._create_ssl_ctx(options) if options else context  # type: ignore[misc]

    return SharingConnection


def _set_up_mysql(dbapi: Any, _: object) -> None:
    # A server that vanished without a word must not hang us for hours. PyMySQL has no option for it.
    sock = getattr(dbapi, "_sock", None)
    if isinstance(sock, socket.socket) and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            ("TCP_KEEPIDLE", 30),
            ("TCP_KEEPINTVL", 10),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 60_000),
        ):
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: committed when the block ends, rolled back when it raises.

    MetastoreUnavailable when the database can't be reached, was lost on the way, or a lock was not given in
    LOCK_TIMEOUT_SECONDS; TransactionConflict (a kind of it) when it gave way to another one in a deadlock: in each of
    these cases nothing was written, or (a connection lost during COMMIT) it is unknown, and the block may be run again
    when it is guarded. SchemaNotCurrent when a table or column is missing.
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except (DBAPIError, PoolTimeout) as error:
        raise translate(error, redacted(engine.url)) from error


@contextmanager
def autocommitted(engine: Engine) -> Iterator[Connection]:
    """For one statement that is its own transaction: no round trips for BEGIN and COMMIT. Raises as `transaction`."""
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except (DBAPIError, PoolTimeout) as error:
        raise translate(error, redacted(engine.url)) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and is rolled back at the end. Raises as `transaction` does."""
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_BEGIN_OPTION: "BEGIN"})
            with connection.begin() as begun:
                yield connection
                begun.rollback()
    except (DBAPIError, PoolTimeout) as error:
        raise translate(error, redacted(engine.url)) from error


@contextmanager
def querying(engine: Engine) -> Iterator[Connection]:
    """A connection of an engine `for_reading`. Raises as `transaction` does."""
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, PoolTimeout) as error:
        raise translate(error, redacted(engine.url)) from error


def ping(engine: Engine) -> None:
    """One round trip. MetastoreUnavailable when there is no answer."""
    with reading(engine) as connection:
        if connection.exec_driver_sql("SELECT 1").scalar() != 1:
            raise MetastoreUnavailable(f"the metastore {redacted(engine.url)} gave a wrong answer to SELECT 1")
