"""What `airflow.settings.engine.raw_connection()` gives: the DBAPI's interface, and Airflow's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.engine import Connection, CursorResult

from opskit.errors import UsageError


class RawConnection:
    """A DBAPI connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def cursor(self, *_: Any, **__: Any) -> RawCursor:
        return RawCursor(self._connection)

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.rollback()


class RawCursor:
    """A DBAPI cursor; placeholders are the driver's own (`%s`, on SQLite `?`)."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._result: CursorResult[Any] | None = None
        self.description: Sequence[Any] | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Any = None) -> RawCursor:
        self._result = self._connection.exec_driver_sql(statement, _parameters(parameters))
        self.rowcount = self._result.rowcount
        self.description = (
            [(name, *[None] * 6) for name in tuple(self._result.keys())] if self._result.returns_rows else None
        )
        return self

    def executemany(self, statement: str, parameters: Sequence[Any]) -> RawCursor:
        self._result = self._connection.exec_driver_sql(statement, [_parameters(one) for one in parameters])
        self.rowcount = self._result.rowcount
        return self

    def fetchone(self) -> Any:
        row = self._rows().fetchone()
        return None if row is None else tuple(row)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        return [tuple(row) for row in self._rows().fetchmany(size or self.arraysize)]

    def fetchall(self) -> list[Any]:
        return [tuple(row) for row in self._rows().fetchall()]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchall())

    def close(self) -> None:
        if self._result is not None:
            self._result.close()

    def __enter__(self) -> RawCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def copy_expert(self, *_: object, **__: object) -> None:
        """COPY can't be translated."""
        raise UsageError("COPY is not offered on the metastore", hint="use INSERT or SELECT, or opskit airflow import")

    copy_from = copy_to = copy = copy_expert

    def _rows(self) -> CursorResult[Any]:
        if self._result is None:
            raise UsageError("nothing was executed on this cursor")
        return self._result


def _parameters(given: Any) -> Any:
    if given is None or isinstance(given, dict):
        return given
    return tuple(given)
