"""The engine that DAG files get as `airflow.settings.engine`: it speaks of Airflow's tables, and works on ours.

Reads stand outside of any transaction, each sees what is committed: a DAG file that forgets its session holds no lock
and keeps nobody waiting. The first statement that writes begins a transaction; COMMIT ends it and wakes the schedulers.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine

from opskit import config as configuration
from opskit.config import Config
from opskit.core.metastore.airflow_models import sql_text, virtual
from opskit.core.metastore.airflow_models.place import Place
from opskit.core.metastore.crypto import Cipher, open_cipher
from opskit.core.metastore.engine import open_engine
from opskit.errors import UsageError
from opskit.system.wake import wake

_BEGUN, _INNER, _CHANGED = "opskit_begun", "opskit_inner", "opskit_changed"
_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED"}
_STORED_BY_OPSKIT = "opskit itself keeps this table: change it with opskit's commands"

_engine: Engine | None = None
_config: Config | None = None
sessions: weakref.WeakSet[Any] = weakref.WeakSet()
"""Sessions of this process; a fork leaves their connections to its parent."""
_left_to_parent: list[Any] = []
_own = threading.local()


def config() -> Config:
    """The configuration of this process, read once."""
    global _config
    if _config is None:
        _config = configuration.load()
    return _config


@cache
def cipher() -> Cipher:
    """For secrets of connections and variables. ConfigError when this user can't read the Fernet key."""
    return open_cipher(config())


def engine() -> Engine:
    """The engine of this process; it connects on first use."""
    global _engine
    if _engine is None:
        _engine = _open(config())
    return _engine


def forget() -> None:
    """Close everything, and read the configuration again next time: for tests."""
    global _engine, _config
    for session in list(sessions):
        session.close()
    if _engine is not None:
        _engine.dispose()
    _engine = _config = None
    cipher.cache_clear()


class AirflowEngine(Engine):
    """Also offers what SQLAlchemy 1.4 did, which DAG files use."""

    def connect(self) -> Connection:
        _own.asks = True  # SQLAlchemy itself gets its connections by raw_connection()
        try:
            return super().connect()
        finally:
            _own.asks = False

    def raw_connection(self) -> Any:
        """A connection of the DBAPI's kind; its cursors take the same SQL as sessions do."""
        from opskit.core.metastore.airflow_models.raw_connection import RawConnection

        return super().raw_connection() if getattr(_own, "asks", False) else RawConnection(self.connect())

    def execute(self, statement: Any, *parameters: Any, **named: Any) -> Any:
        """Run one statement and commit it; rows are read at once."""
        with self.begin() as connection:
            result = connection.execute(
                text(statement) if isinstance(statement, str) else statement, *parameters, *([named] if named else [])
            )
            return result.freeze()() if result.returns_rows else result


def _open(settings: Config) -> Engine:
    opened = open_engine(settings, pool_size=2, pre_ping=True, begins=False)
    opened.__class__ = AirflowEngine
    event.listen(opened, "connect", _set_up)
    event.listen(opened, "before_cursor_execute", _before, retval=True)
    event.listen(opened, "after_cursor_execute", _after)
    event.listen(opened, "commit", _ended)
    event.listen(opened, "rollback", _ended)
    event.listen(opened, "checkin", _checked_in)
    return opened


def place(connection: Connection) -> Place:
    """How SQL is written for this connection's database."""
    known = connection.info.get("opskit_place")
    if known is None:
        kind = connection.dialect.name
        if kind == "sqlite":
            schema = "main"
        else:
            cursor = connection.connection.cursor()
            cursor.execute("SELECT current_schema()" if kind == "postgresql" else "SELECT DATABASE()")
            row = cursor.fetchone()
            assert row is not None
            schema = str(row[0])
            cursor.close()
        known = connection.info["opskit_place"] = Place(kind, schema, str(config().dags_folder))
    place_: Place = known
    return place_


@contextmanager
def inner(connection: Connection) -> Iterator[Connection]:
    """What is run in the block names our own tables, and is part of the transaction."""
    begin(connection)
    before = connection.info.get(_INNER, False)
    connection.info[_INNER] = True
    try:
        yield connection
    finally:
        connection.info[_INNER] = before


def begin(connection: Connection) -> None:
    """Begin the transaction, unless it is begun."""
    if not connection.info.get(_BEGUN):
        cursor = connection.connection.cursor()
        cursor.execute(_BEGIN.get(connection.dialect.name, "START TRANSACTION"))
        cursor.close()
        connection.info[_BEGUN] = True


def changed(connection: Connection) -> None:
    """Schedulers are woken once the connection is given back."""
    connection.info[_CHANGED] = True


def _set_up(dbapi: Any, record: Any) -> None:
    # SQLite's driver is set so by open_engine. COMMIT and ROLLBACK of the others end a transaction that we begin.
    kind = type(dbapi).__module__.partition(".")[0]
    if kind == "psycopg":
        dbapi.autocommit = True
    elif kind == "pymysql":
        dbapi.autocommit(True)
    record.info.update({_BEGUN: False, _INNER: False})


def _ended(connection: Connection) -> None:
    connection.info[_BEGUN] = False


def _checked_in(_: Any, record: Any) -> None:
    record.info[_BEGUN] = False
    if record.info.pop(_CHANGED, False):
        wake(config().run_folder)


def _before(
    connection: Connection, _cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    """Every statement comes by here: Airflow's tables are put before it, or it is done in our way."""
    if connection.info.get(_INNER):
        return statement, parameters
    try:
        parsed = sql_text.parse(statement)
    except sql_text.NotUnderstood as error:
        raise UsageError(f"this SQL can't be carried out: {error}") from error
    if parsed.verb == "other":
        if statement.lstrip()[:9].upper() == "SAVEPOINT":
            begin(connection)
        return statement, parameters
    if parsed.verb in ("insert", "update", "delete") and parsed.target in virtual.NAMES:
        from opskit.core.metastore.airflow_models import changes

        return changes.run(connection, parsed, parameters, context, executemany)
    if parsed.verb != "select":
        if parsed.target in virtual.OWN | virtual.NAMES:
            raise UsageError(f"a DAG file can't change the table {parsed.target}", hint=_STORED_BY_OPSKIT)
        begin(connection)
    elif parsed.locks:
        begin(connection)
    return with_tables(connection, parsed), parameters


def _after(_: Connection, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
    # Some dialects tell how many rows the driver has changed, which was handed a statement without effect.
    done = getattr(context, "opskit_rows", None)
    if done is not None:
        context._rowcount = done


def with_tables(connection: Connection, statement: sql_text.Statement) -> str:
    """The statement with those of Airflow's tables that it names."""
    names = sql_text.mentioned(statement, virtual.NAMES)
    if not names:
        return statement.text
    return sql_text.with_tables(statement.text, virtual.expressions(place(connection), names))


def _in_child() -> None:
    """A fork must not speak on its parent's connections, nor say goodbye on them."""
    if _engine is None:
        return
    for session in list(sessions):
        _left_to_parent.append(session._transaction)
        session._transaction = None
    _left_to_parent.append(_engine.pool)
    _engine.dispose(close=False)


os.register_at_fork(after_in_child=_in_child)
