"""Counts and hashes the tables of a MariaDB or MySQL dump while it is loaded, each as soon as it is complete."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

from sqlalchemy.exc import DBAPIError

from opskit.core.metastore.contents import MysqlColumns, TableContent, mysql_content, mysql_tables
from opskit.errors import OpskitError

_BEGINS, _BEGUN, _ENDS = b"\nLOCK TABLES `", b"` WRITE;\n", b"\nUNLOCK TABLES;\n"
_LONGEST = 1_000
"""No line of these has more bytes: a name has 64 characters."""
_LOADED = "opskit has loaded"


class CountedWhileLoaded:
    """Use it as a context manager around the load: `marked` gives what to load, `said` takes what the client answers.

    The client runs one statement after the other, so its answer to a question that stands behind a table's rows says
    that they are there and committed. A dump comes back to no table; one that does is not among `found`.
    """

    def __init__(self, session: Callable[[], AbstractContextManager[Any]]) -> None:
        self._session = session
        self._tables: list[str] = []
        self._complete: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._found: dict[str, tuple[MysqlColumns, TableContent]] = {}
        self._connection_id, self._stopped = 0, False
        self._error: Exception | None = None
        self._worker = threading.Thread(target=self._run, name="contents", daemon=True)

    def __enter__(self) -> CountedWhileLoaded:
        self._worker.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._complete.put(None)
        if kind is None:
            self._worker.join()
            if self._error:
                raise self._error
        else:
            self._stop()

    def marked(self, dump: Iterable[bytes]) -> Iterator[bytes]:
        """The dump, with a question behind the rows of each table. In a row no line begins: the dump escapes it."""
        held, inside = b"", False
        for chunk in dump:
            held += chunk
            done = 0
            while True:
                at = held.find(_ENDS if inside else _BEGINS, done)
                if at < 0:
                    break
                if inside:
                    end = at + len(_ENDS)
                    yield held[:end] + f"SELECT '{_LOADED} {len(self._tables) - 1}';\n".encode()
                    held, done, inside = held[end:], 0, False
                    continue
                name_ends = held.find(_BEGUN, at, at + _LONGEST)
                if name_ends >= 0:
                    name = held[at + len(_BEGINS) : name_ends].decode(errors="replace").replace("``", "`")
                    self._tables.append(name)
                    yield held[:name_ends]
                    held, done, inside = held[name_ends:], 0, True
                elif len(held) - at < _LONGEST:
                    break
                else:
                    done = at + 1
            given = max(0, len(held) - _LONGEST)
            yield held[:given]
            held = held[given:]
        yield held

    def said(self, line: bytes) -> None:
        """Take one line of the client's output."""
        words, _, number = line.decode(errors="replace").strip().rpartition(" ")
        if words == _LOADED:
            self._complete.put(self._tables[int(number)])

    def found(self) -> dict[str, tuple[MysqlColumns, TableContent]]:
        """Columns and contents of the tables that were counted."""
        return {name: one for name, one in self._found.items() if self._tables.count(name) == 1}

    def _run(self) -> None:
        try:
            with self._session() as connection:
                self._connection_id = int(connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one())
                while (name := self._complete.get()) is not None and not self._stopped:
                    columns = mysql_tables(connection)[name]
                    self._found[name] = columns, mysql_content(connection, name, columns)
        except Exception as error:  # noqa: BLE001 -- whoever waits for the end raises it
            self._error = error

    def _stop(self) -> None:
        """Nobody wants the answer any more, and the database can't be dropped before the server gives up on it."""
        self._stopped = True
        if self._worker.is_alive() and self._connection_id:
            with suppress(OpskitError, DBAPIError), self._session() as connection:
                connection.exec_driver_sql(f"KILL {self._connection_id}")
        self._worker.join()
