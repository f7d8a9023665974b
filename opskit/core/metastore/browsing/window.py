"""Which part of a list is wanted, and in which order: the same for pages and the REST API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Window:
    """`limit` items from `offset` on, ordered by `order` (a name that the list knows; empty: its own order)."""

    limit: int = 100
    offset: int = 0
    order: str = ""
    descending: bool = False

    def of(self, items: Sequence[Any]) -> list[Any]:
        """This part of a list that is in memory already, in its order."""
        return list(items[self.offset : self.offset + self.limit])

    def total(self, shown: int, count: Callable[[], int]) -> int:
        """How many there are in all: `count()`, unless a part that is not full tells it."""
        return self.offset + shown if shown < self.limit and (shown or not self.offset) else count()


def cut(query: Select[Any], window: Window, columns: Mapping[str, Any], *key: Any) -> Select[Any]:
    """The query with order and limits. `columns` says which column a name means; `key` makes the order total, and is
    the order where none is asked for."""
    chosen = [columns[window.order]] if window.order else []
    ordered = [*chosen, *(column for column in key if not any(column is one for one in chosen))]
    if window.descending:
        ordered = [column.desc() for column in ordered]
    return query.order_by(*ordered).limit(window.limit).offset(window.offset)


def total(connection: Connection, query: Select[Any]) -> int:
    """How many rows a query without order and limits has."""
    counted = select(func.count()).select_from(query.order_by(None).subquery())
    return int(connection.execute(counted).scalar_one())
