"""psycopg 3 with what task code that was written for psycopg2 relies on. (The only module that imports psycopg.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row, namedtuple_row, tuple_row

_BLOCK_BYTES = 128 * 1024


class DictRow(list[Any]):
    """A row whose values are found by position and by column name."""

    def __init__(self, names: list[str], values: Sequence[Any]) -> None:
        super().__init__(values)
        self._places = {name: place for place, name in enumerate(names)}

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        return list(self._places)

    def items(self) -> list[tuple[str, Any]]:
        return list(zip(self._places, self, strict=True))


def _dict_row_by_both(cursor: Any) -> Callable[[Sequence[Any]], DictRow]:
    names = [column.name for column in cursor.description or ()]
    return lambda values: DictRow(names, values)


_ROWS: dict[str, Any] = {
    "": tuple_row,
    "dictcursor": _dict_row_by_both,
    "realdictcursor": dict_row,
    "namedtuplecursor": namedtuple_row,
}


class Cursor(psycopg.ClientCursor[Any]):
    """Parameters are put into the statement here and not by the server, as psycopg2 does: so they may stand wherever
    SQL takes a literal. And COPY by one call."""

    def copy_expert(self, sql: str, file: Any, size: int = _BLOCK_BYTES) -> None:
        """COPY … FROM STDIN out of a file object, or COPY … TO STDOUT into it. Files of text are UTF-8."""
        text: bool = "b" not in getattr(file, "mode", "b") or hasattr(file, "encoding")
        words = sql.lower().split()
        statement: Any = sql
        with self.copy(statement) as copy:
            if "from" in words and "stdin" in " ".join(words):
                while block := file.read(size):
                    copy.write(block)
            else:
                for block in copy:
                    file.write(bytes(block).decode() if text else bytes(block))


class Connection(psycopg.Connection[Any]):
    """What the server said besides results is kept in `notices`, texts, the newest last."""

    notices: list[str]

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """The end of a `with` block ends the transaction; the connection stays open, as psycopg2's does."""
        if self.closed:
            return
        if exc_type is None:
            self.commit()
        else:
            self.rollback()


def connect(arguments: dict[str, Any], cursor: str) -> Connection:
    """A connection with libpq's arguments; `cursor` says what rows are: tuples (""), dicts or named tuples."""
    made = Connection.connect(**arguments, cursor_factory=Cursor, row_factory=_ROWS[cursor])
    made.notices = []
    made.add_notice_handler(lambda notice: made.notices.append(f"{notice.severity}: {notice.message_primary}"))
    return made
