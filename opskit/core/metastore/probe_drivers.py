"""Connections to the metastore for those who only read and must not pay for SQLAlchemy."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit


class ProbeFailed(Exception):
    """The metastore could not be looked at.

    `kind`: unreachable (refused, no route, no such file's folder), timeout, locked, denied (login), absent (no such
    database), no_schema, corrupt, error.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Database(Protocol):
    def query(self, sql: str) -> list[tuple[Any, ...]]: ...
    def clock(self) -> tuple[datetime, float] | None:
        """The server's time and its uptime in seconds; None where there is no server."""
        ...

    def close(self) -> None: ...


def moment_of(value: Any) -> datetime:
    """A time as a driver gives it (text or datetime, UTC where it has no zone)."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def open_database(url: str, timeout: float) -> Database:
    """A read-only session; `timeout` seconds for the connection and for each statement. Raises ProbeFailed."""
    kind = url.split(":", 1)[0].split("+", 1)[0]
    if kind == "sqlite":
        return _Sqlite(url, timeout)
    if kind in ("postgres", "postgresql"):
        return _Postgres(url, timeout)
    if kind in ("mysql", "mariadb"):
        return _Mysql(url, timeout)
    raise ProbeFailed("error", f"{kind} is no database that opskit knows")


class _Sqlite:
    def __init__(self, url: str, timeout: float) -> None:
        import sqlite3

        path = Path(unquote(url.split(":///", 1)[1].split("?", 1)[0]))
        self._errors = sqlite3.Error
        if not path.exists():
            raise ProbeFailed("absent", f"there is no {path}")
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout, isolation_level=None
            )
        except sqlite3.Error as error:
            raise ProbeFailed("unreachable", f"{path}: {error}") from error
        with suppress(sqlite3.Error):  # of a file that is none, the first question tells
            self._connection.execute("PRAGMA cache_size = -256")  # who asks here reads little, and is to stay small
        self._timeout = timeout
        self._deadline = 0.0
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline, 10_000)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self._deadline = time.monotonic() + self._timeout
        try:
            return self._connection.execute(sql).fetchall()
        except self._errors as error:
            text = str(error)
            for part, kind in (
                ("locked", "locked"),
                ("busy", "locked"),
                ("interrupted", "timeout"),
                ("no such table", "no_schema"),
                ("no such column", "no_schema"),
                ("malformed", "corrupt"),
                ("not a database", "corrupt"),
                ("unable to open", "unreachable"),
                ("disk I/O", "unreachable"),
            ):
                if part in text:
                    raise ProbeFailed(kind, text) from error
            raise ProbeFailed("error", text) from error

    def clock(self) -> None:
        return None

    def close(self) -> None:
        self._connection.close()


class _Postgres:
    def __init__(self, url: str, timeout: float) -> None:
        from opskit.core.metastore import libpq

        self._failure = libpq.LibpqError
        try:
            self._connection = libpq.Connection("postgresql:" + url.split(":", 1)[1], timeout)
        except libpq.LibpqError as error:
            raise ProbeFailed(_connection_failure(str(error)), str(error)) from error
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error
        except ImportError as error:
            raise ProbeFailed("error", str(error)) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        try:
            return list(self._connection.query(sql))
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error
        except self._failure as error:
            kinds = {
                "42P01": "no_schema",
                "42703": "no_schema",
                "42501": "denied",
                "57014": "timeout",
                "55P03": "locked",
                "": "unreachable",
            }
            sqlstate: str = getattr(error, "sqlstate", "")
            down = "unreachable" if sqlstate.startswith(("57P", "08")) else "error"
            raise ProbeFailed(kinds.get(sqlstate, down), str(error)) from error

    def clock(self) -> tuple[datetime, float]:
        moment, uptime = self.query("SELECT clock_timestamp(), extract(epoch FROM now() - pg_postmaster_start_time())")[
            0
        ]
        return moment_of(moment), float(uptime)

    def close(self) -> None:
        self._connection.close()


def _connection_failure(text: str) -> str:
    if "timeout" in text:
        return "timeout"
    if "authentication failed" in text or "pg_hba.conf" in text or "no password" in text:
        return "denied"
    if "does not exist" in text:
        return "denied" if 'role "' in text else "absent"
    return "unreachable"


class _Mysql:
    def __init__(self, url: str, timeout: float) -> None:
        from opskit.core.metastore import mysql_wire

        parts = urlsplit(url)
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        database = unquote(parts.path.lstrip("/"))
        host, port = parts.hostname or "localhost", parts.port or 3306
        self._connection: Any = None
        try:
            if user and not any(name.startswith("ssl") for name in options):
                try:
                    self._connection = mysql_wire.Connection(
                        host, port, options.get("unix_socket"), user, password, database, timeout
                    )
                except mysql_wire.Unsupported:
                    pass  # the whole driver, then
            if self._connection is None:
                self._connection = _ByDriver(host, port, user, password, database, options, timeout)
        except mysql_wire.MysqlError as error:
            raise self._failed(error) from error
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error
        # A lock on a whole table (a migration) is an answer, too: sooner than a silence. Whole seconds, at least one.
        self.query(f"SET time_zone = '+00:00', lock_wait_timeout = {max(1, int(timeout / 2))}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        from opskit.core.metastore import mysql_wire

        try:
            return list(self._connection.query(sql))
        except mysql_wire.MysqlError as error:
            raise self._failed(error) from error
        except TimeoutError as error:
            raise ProbeFailed("timeout", str(error)) from error

    @staticmethod
    def _failed(error: Exception) -> ProbeFailed:
        code = error.args[0] if error.args else 0
        text = str(error.args[-1]) if error.args else str(error)
        if "timed out" in text:
            return ProbeFailed("timeout", text)
        kinds = {
            1045: "denied",
            1044: "denied",
            1142: "denied",
            1698: "denied",
            1049: "absent",
            1146: "no_schema",
            1054: "no_schema",
            1205: "locked",
            1969: "timeout",
            3024: "timeout",
        }
        down = "unreachable" if code in (1040, 1053, 1927, 2002, 2003, 2005, 2006, 2013) else "error"
        return ProbeFailed(kinds.get(code, down), text)

    def clock(self) -> tuple[datetime, float]:
        uptime = self.query("SHOW GLOBAL STATUS LIKE 'Uptime'")[0][1]
        return moment_of(self.query("SELECT UTC_TIMESTAMP(6)")[0][0]), float(uptime)

    def close(self) -> None:
        self._connection.close()


class _ByDriver:
    """PyMySQL in the form of `mysql_wire.Connection`: for TLS, and for what else servers ask of clients."""

    def __init__(
        self, host: str, port: int, user: str, password: str, database: str, options: dict[str, str], timeout: float
    ) -> None:
        from opskit.core.metastore.mysql_wire import MysqlError

        try:
            import pymysql
        except ImportError as error:
            raise ProbeFailed("error", "PyMySQL is not installed") from error
        self._failure = pymysql.MySQLError
        try:
            self._connection = pymysql.connect(
                host=host,
                port=port,
                user=user or None,
                password=password,
                database=database,
                unix_socket=options.get("unix_socket"),
                ssl_ca=options.get("ssl_ca"),
                charset="utf8mb4",
                connect_timeout=max(1, round(timeout)),
                read_timeout=timeout + 1,
                write_timeout=timeout + 1,
                autocommit=True,
            )
        except pymysql.MySQLError as error:
            raise MysqlError(*error.args) from error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        from opskit.core.metastore.mysql_wire import MysqlError

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        except self._failure as error:
            raise MysqlError(*error.args) from error

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()
