"""What copies of a PostgreSQL and of a MariaDB or MySQL metastore have in common: sessions and new databases."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from opskit.core.metastore.engine import redacted, share_tls
from opskit.core.metastore.faults import translate
from opskit.core.metastore.snapshots import still_there
from opskit.errors import ConfigError, GuardRefused

DRILL_PREFIX = "opskit_drill_"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of server says it. `%s` stands for a name as a value."""

    extra: str
    """Of the Python package that has the driver."""
    connect: dict[str, Any]
    quote: str
    begins_with: str
    """Databases whose name begins so."""
    try_lock: str
    lock: str
    unlock: str
    forced: str
    """After DROP DATABASE: whoever is connected."""
    grant: str
    """What a user needs who may not make databases."""

    def quoted(self, name: str) -> str:
        """For a statement that is passed on to the driver."""
        return self.quote + name.replace(self.quote, self.quote * 2).replace("%", "%%") + self.quote

    def drop(self, name: str) -> str:
        return f"DROP DATABASE IF EXISTS {self.quoted(name)}{self.forced}"


@contextmanager
def session(url: URL, dialect: Dialect) -> Iterator[Connection]:
    """A session of its own, in autocommit: transactions are begun and ended in plain SQL."""
    try:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=dialect.connect)
        share_tls(engine)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the metastore is {url.get_backend_name()}, and the Python package {error.name} is not installed",
            hint=f"install it with: pip install 'opskit[{dialect.extra}]'",
        ) from error
    with explained(url), engine.connect() as connection:
        yield connection


@contextmanager
def explained(url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise translate(error, redacted(url)) from error


@contextmanager
def new_database(server: URL, dialect: Dialect, prefix: str, options: str) -> Iterator[tuple[str, Connection]]:
    """An empty database, dropped at the end unless it was renamed. Its session holds a lock with its name: a database
    whose lock is free was left by a killed process, and goes."""
    name = prefix + secrets.token_hex(6)
    with session(server, dialect) as connection:
        run_sql = connection.exec_driver_sql
        for (left,) in run_sql(dialect.begins_with, (prefix,)).all():
            if run_sql(dialect.try_lock, (left,)).scalar():
                run_sql(dialect.drop(left))
                run_sql(dialect.unlock, (left,))
        run_sql(dialect.lock, (name,))
        try:
            run_sql(f"CREATE DATABASE {dialect.quoted(name)}{options}")
        except DBAPIError as error:
            grant = dialect.grant.format(prefix.replace("_", r"\_"))
            raise ConfigError(
                f"can't make a database beside the metastore: {error.orig}",
                hint=f"{grant}; or set [backup] drill_url to a server where it may",
            ) from error
        try:
            yield name, connection
        finally:
            if not connection.invalidated:
                run_sql(dialect.drop(name))


def refuse_users(live: str, look: Callable[[], list[str]]) -> None:
    """GuardRefused, naming them, when somebody stays connected to the live database."""
    users = still_there(look)
    if users:
        raise GuardRefused(
            f"the database {live} is in use by {', '.join(users[:5])}",
            hint="stop every program that uses it, then try again",
        )


def not_swapped(error: DBAPIError) -> GuardRefused:
    return GuardRefused(
        f"the database could not be swapped in: {error.orig}",
        hint="nothing has changed: stop every program that uses the database, then try again",
    )
