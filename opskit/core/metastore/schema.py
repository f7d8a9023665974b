"""Creates, migrates and checks the schema of the metastore."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, insert, inspect, select, text
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore import partitions
from opskit.core.metastore.engine import reading, redacted, sqlite_path, transaction
from opskit.core.metastore.tables import metadata, pool
from opskit.errors import GuardRefused, LockHeld, MetastoreUnavailable, SchemaNotCurrent

HEAD = "0005"
"""The revision that this opskit needs."""
DEFAULT_POOL = "default_pool"
_VERSION_TABLE = "alembic_version"
_LOCK_SECONDS = 600
_POSTGRESQL_LOCK = 0x6F70736B6974  # "opskit"


@dataclass(frozen=True, slots=True)
class Migrated:
    """What `migrate` did: `before` is None for a database that was empty."""

    before: str | None
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


def current_revision(connection: Connection) -> str | None:
    """The revision of the schema; None when there is none yet."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()


def check(engine: Engine) -> None:
    """SchemaNotCurrent, with what to do, unless the schema is exactly the one that this opskit needs."""
    with reading(engine) as connection:
        revision = current_revision(connection)
    _refuse_unknown(revision, engine)
    where = redacted(engine.url)
    if revision is None:
        raise SchemaNotCurrent(f"the metastore {where} is empty", hint="create its tables with: opskit db migrate")
    if revision != HEAD:
        raise SchemaNotCurrent(
            f"the schema of the metastore {where} has revision {revision}, this opskit needs {HEAD}",
            hint="back up (opskit backup), then run: opskit db migrate",
        )


def migrate(engine: Engine, *, default_pool_slots: int = 128) -> Migrated:
    """Bring the schema to HEAD, and make default_pool. Safe to run from several processes at once, and after a kill.

    Raises SchemaNotCurrent for a schema that a newer opskit made, GuardRefused for a database that holds the tables of
    another program.
    """
    _create_sqlite_file(engine)
    with transaction(engine) as connection, _locked(connection):
        before = current_revision(connection)
        _refuse_unknown(before, engine)
        if before is None:
            _clear_the_way(connection, engine)
        if before != HEAD:
            _upgrade(connection)
            partitions.begin(connection)
        if connection.execute(select(pool.c.pool).where(pool.c.pool == DEFAULT_POOL)).first() is None:
            connection.execute(
                insert(pool).values(
                    pool=DEFAULT_POOL, slots=default_pool_slots, used_slots=0, description="Default pool"
                )
            )
    partitions.make_ahead(engine, datetime.now(UTC), patience_seconds=partitions.PATIENCE_SECONDS)
    return Migrated(before, HEAD)


def reset(engine: Engine, *, default_pool_slots: int = 128) -> Migrated:
    """Drop every table of opskit with all that is in it, and make them anew. Other tables stay."""
    _create_sqlite_file(engine)
    with transaction(engine) as connection, _locked(connection):
        _refuse_unknown(current_revision(connection), engine)
        metadata.drop_all(connection)
        for name in partitions.retired(connection):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text(f"DROP TABLE IF EXISTS {_VERSION_TABLE}"))
    return migrate(engine, default_pool_slots=default_pool_slots)


def count_rows(connection: Connection) -> dict[str, int]:
    """Rows of each of our tables that is there."""
    names = set(inspect(connection).get_table_names())
    return {
        table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for table in metadata.sorted_tables
        if table.name in names
    }


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic interpolates "%" in options.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


def _refuse_unknown(revision: str | None, engine: Engine) -> None:
    if revision is None or (revision <= HEAD and revision.isdecimal() and len(revision) == 4):
        return
    where = redacted(engine.url)
    if revision.isdecimal() and len(revision) == 4:
        raise SchemaNotCurrent(
            f"the schema of the metastore {where} has revision {revision}, this opskit knows up to {HEAD}",
            hint="a newer opskit made it: install that version, or restore a backup of this one",
        )
    raise GuardRefused(
        f"the database {where} belongs to another program (its schema has revision {revision})",
        hint="give opskit a database of its own: database.sql_alchemy_conn",
    )


def _clear_the_way(connection: Connection, engine: Engine) -> None:
    """An empty version table beside some of our tables: a first migration that was killed on MariaDB or MySQL, where
    DDL has no transaction. Those tables are empty and go. Without a version table they are somebody else's."""
    inspector = inspect(connection)
    present = [table for table in metadata.sorted_tables if inspector.has_table(table.name)]
    if not present:
        return
    filled = [table.name for table in present if connection.execute(select(func.count()).select_from(table)).scalar()]
    if filled or not inspector.has_table(_VERSION_TABLE):
        names = ", ".join(filled or [table.name for table in present])
        raise GuardRefused(
            f"the database {redacted(engine.url)} has tables that opskit did not make: {names}",
            hint="give opskit an empty database of its own: database.sql_alchemy_conn",
        )
    metadata.drop_all(connection, tables=present)


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """One migration at a time. On SQLite the transaction itself is the lock."""
    kind = connection.dialect.name
    if kind == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})"))
        yield
    elif kind == "sqlite":
        yield
    else:
        # Names are at most 64 characters, and global to the server.
        database = str(connection.execute(text("SELECT DATABASE()")).scalar())
        name = "opskit-" + hashlib.sha256(database.encode()).hexdigest()[:40]
        if (
            connection.execute(
                text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": _LOCK_SECONDS}
            ).scalar()
            != 1
        ):
            raise LockHeld(f"another process has been migrating {database} for {_LOCK_SECONDS} s")
        try:
            # A transaction that began before the wait would not see what the other one did.
            connection.exec_driver_sql("COMMIT")
            yield
            connection.exec_driver_sql("COMMIT")
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})


def _create_sqlite_file(engine: Engine) -> None:
    path = sqlite_path(engine.url)
    if path is None or path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only the owner reads it: it holds (encrypted) passwords.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise MetastoreUnavailable(f"the metastore {path} can't be created: {error.strerror}") from error
