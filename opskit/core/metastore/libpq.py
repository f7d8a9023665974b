"""Asks PostgreSQL through libpq directly: a probe must not pay for importing a driver (psycopg: 0.15 s and 20 MB)."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import select
import time
from pathlib import Path

_BAD_CONNECTION = 1
_TUPLES_OK = 2
_COMMAND_OK = 1
_SQLSTATE = ord("C")


class LibpqError(Exception):
    """What the server or the library said. `sqlstate` is empty when no server answered."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message.strip())
        self.sqlstate = sqlstate


class Connection:
    """One connection in autocommit. All values come back as text, NULL as None.

    `url` is a libpq URI (`postgresql://…`). Raises LibpqError; TimeoutError when the server takes longer than `timeout`
    seconds for one statement; ImportError where there is no libpq.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._library = _load()
        self._timeout = timeout
        # `dbname` is expanded as a URI, what follows overrides its parameters.
        given = {
            "dbname": url,
            "connect_timeout": str(max(2, round(timeout))),  # libpq takes anything under two seconds as two
            "fallback_application_name": "opskit-probe",
        }
        keywords = (ctypes.c_char_p * (len(given) + 1))(*[key.encode() for key in given], None)
        values = (ctypes.c_char_p * (len(given) + 1))(*[value.encode() for value in given.values()], None)
        self._handle: int | None = self._library.PQconnectdbParams(keywords, values, 1)
        if self._library.PQstatus(self._handle) == _BAD_CONNECTION:
            message = self._message()
            self.close()
            raise LibpqError(message)
        try:
            # A lock on a whole table (a migration) is an answer, too: sooner than a silence.
            self.query(
                f"SET statement_timeout = {int(timeout * 1000)}; SET lock_timeout = {int(timeout * 500)};"
                " SET timezone = 'UTC'; SET default_transaction_read_only = on"
            )
        except BaseException:
            self.close()
            raise

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        library = self._library
        if not library.PQsendQuery(self._handle, sql.encode()):
            raise LibpqError(self._message())
        self._wait()
        rows: list[tuple[str | None, ...]] = []
        failure: LibpqError | None = None
        while result := library.PQgetResult(self._handle):
            status = library.PQresultStatus(result)
            if status == _TUPLES_OK:
                columns = range(library.PQnfields(result))
                rows += [
                    tuple(self._value(result, row, column) for column in columns)
                    for row in range(library.PQntuples(result))
                ]
            elif status != _COMMAND_OK:
                sqlstate = library.PQresultErrorField(result, _SQLSTATE) or b""
                failure = LibpqError(library.PQresultErrorMessage(result).decode(errors="replace"), sqlstate.decode())
            library.PQclear(result)
        if failure:
            raise failure
        return rows

    def close(self) -> None:
        if self._handle is not None:
            self._library.PQfinish(self._handle)
            self._handle = None

    def _wait(self) -> None:
        # The server's own statement_timeout does not help when the server is frozen or the network swallows packets.
        deadline = time.monotonic() + self._timeout + 1
        while self._library.PQisBusy(self._handle):
            left = deadline - time.monotonic()
            descriptor = self._library.PQsocket(self._handle)
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError(f"no answer to a statement within {self._timeout:g} s")
            if not self._library.PQconsumeInput(self._handle):
                raise LibpqError(self._message())

    def _value(self, result: int, row: int, column: int) -> str | None:
        if self._library.PQgetisnull(result, row, column):
            return None
        text: bytes = self._library.PQgetvalue(result, row, column)
        return text.decode(errors="replace")

    def _message(self) -> str:
        text: bytes = self._library.PQerrorMessage(self._handle)
        return text.decode(errors="replace")


def _load() -> ctypes.CDLL:
    library = _find()
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    strings = ctypes.POINTER(ctypes.c_char_p)
    for name, result, arguments in (
        ("PQconnectdbParams", pointer, [strings, strings, number]),
        ("PQstatus", number, [pointer]),
        ("PQerrorMessage", text, [pointer]),
        ("PQsendQuery", number, [pointer, text]),
        ("PQisBusy", number, [pointer]),
        ("PQconsumeInput", number, [pointer]),
        ("PQsocket", number, [pointer]),
        ("PQgetResult", pointer, [pointer]),
        ("PQresultStatus", number, [pointer]),
        ("PQresultErrorMessage", text, [pointer]),
        ("PQresultErrorField", text, [pointer, number]),
        ("PQntuples", number, [pointer]),
        ("PQnfields", number, [pointer]),
        ("PQgetvalue", text, [pointer, number, number]),
        ("PQgetisnull", number, [pointer, number, number]),
        ("PQclear", None, [pointer]),
        ("PQfinish", None, [pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _find() -> ctypes.CDLL:
    """The libpq that psycopg's wheel brings along, else the system's."""
    spec = importlib.util.find_spec("psycopg_binary")  # finds it, does not import it
    candidates = []
    if spec and spec.origin:
        folder = Path(spec.origin).parent.with_name("psycopg_binary.libs")
        candidates = [str(folder / name) for name in _listed(folder) if name.startswith("libpq-")]
    for name in (*candidates, "libpq.so.5"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise ImportError("no libpq: neither psycopg[binary] nor the system's libpq.so.5 is installed")


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
