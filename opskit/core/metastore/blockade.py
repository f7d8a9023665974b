"""Holds a lock that keeps everybody from writing to the metastore, as a long migration or a forgotten session does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from opskit.config import Config
from opskit.core.metastore.engine import open_engine, redacted
from opskit.core.metastore.faults import translate

_TABLES = ("instance", "dag", "dag_run", "task_instance")
_PATIENCE_SECONDS = 5


@contextmanager
def blocked(config: Config, seconds: float) -> Iterator[str]:
    """Hold it for the block; the lock in words. It ends with the session, however this process ends.

    `seconds`: the server ends the session by itself a little later, where it can. MetastoreUnavailable when the lock
    can't be had within a few seconds.
    """
    engine = open_engine(config, pool_size=1)
    kind = engine.dialect.name
    try:
        with engine.connect() as connection:
            try:
                if kind == "postgresql":
                    limit = int((seconds + 30) * 1000)
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'"))
                    connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {limit}"))
                    connection.execute(text(f"LOCK TABLE {', '.join(_TABLES)} IN ACCESS EXCLUSIVE MODE"))
                    what = f"an ACCESS EXCLUSIVE lock on {', '.join(_TABLES)}"
                elif kind == "sqlite":
                    what = "the write lock of the file"  # taken by the BEGIN of every transaction that may write
                    connection.execute(text("SELECT 1"))
                else:
                    connection.execute(text(f"SET lock_wait_timeout = {_PATIENCE_SECONDS}"))
                    connection.execute(text(f"LOCK TABLES {', '.join(f'{name} WRITE' for name in _TABLES)}"))
                    what = f"LOCK TABLES … WRITE on {', '.join(_TABLES)}"
            except DBAPIError as error:
                raise translate(error, redacted(engine.url)) from error
            try:
                yield what
            finally:
                if kind in ("mysql", "mariadb"):
                    connection.execute(text("UNLOCK TABLES"))
                connection.rollback()
                # Nothing of this session's settings may be lent again.
                connection.invalidate()
    finally:
        engine.dispose()
