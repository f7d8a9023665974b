"""How many rows a list has, without counting a million of them for each page of it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Select, func, literal_column, select
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.engine import reading
from opskit.errors import MetastoreUnavailable

EXACT_UP_TO = 10_000
"""Up to so many rows the total is what it is now. Above, it may be some seconds old."""
_FRESH_SECONDS = 10.0
_FRESH_TIMES = 100.0
"""A count that took t seconds is fresh for 100 t: counting takes a hundredth of the time at most."""
_OLDEST_SECONDS = 600.0
_KEPT = 200

_Key = tuple[str, str]


@dataclass(slots=True)
class _Count:
    rows: int
    at: float
    seconds: float
    is_counting: bool = False


_counts: OrderedDict[_Key, _Count] = OrderedDict()
_lock = threading.Lock()


def total(connection: Connection, rows: Select[tuple[int]], which: str) -> int:
    """How many rows a query finds that selects one thing of each, without order. Exact up to EXACT_UP_TO; above, as it
    was some seconds ago: the longer the counting takes the longer its result is kept, and it is counted anew while the
    old figure is still given. `which` tells this query from others."""
    key = (str(connection.engine.url), which)
    now = time.monotonic()
    with _lock:
        known = _counts.get(key)
        if known is not None and now - known.at < _FRESH_SECONDS:
            return known.rows
    some = select(func.count()).select_from(rows.limit(EXACT_UP_TO + 1).subquery())
    few = int(connection.execute(some).scalar_one())
    if few <= EXACT_UP_TO:
        with _lock:
            _counts.pop(key, None)
        return few
    with _lock:
        known = _counts.get(key)
        if known is not None and now - known.at < _OLDEST_SECONDS:
            _counts.move_to_end(key)
            fresh = now - known.at < max(_FRESH_SECONDS, _FRESH_TIMES * known.seconds)
            if fresh or known.is_counting:
                return known.rows
            known.is_counting = True
        else:
            known = None
    if known is None:
        return _count(connection, rows, key)
    threading.Thread(target=_count_again, args=(connection.engine, rows, key), name="count", daemon=True).start()
    return known.rows


def all_of(column: str = "1") -> Select[tuple[int]]:
    """The beginning of a query that `total` counts."""
    return select(literal_column(column))


def forget() -> None:
    """Count everything anew."""
    with _lock:
        _counts.clear()


def _count(connection: Connection, rows: Select[tuple[int]], key: _Key) -> int:
    begun = time.monotonic()
    found = int(connection.execute(select(func.count()).select_from(rows.subquery())).scalar_one())
    ended = time.monotonic()
    with _lock:
        _counts[key] = _Count(found, ended, ended - begun)
        while len(_counts) > _KEPT:
            _counts.popitem(last=False)
    return found


def _count_again(engine: Engine, rows: Select[tuple[int]], key: _Key) -> None:
    try:
        with reading(engine) as connection:
            _count(connection, rows, key)
    except MetastoreUnavailable:
        with _lock:
            known = _counts.get(key)
            if known is not None:
                known.is_counting = False
