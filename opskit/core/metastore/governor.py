"""Keeps a clean-up from hurting a scheduler: short transactions, and a rest when others fall behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.engine import reading
from opskit.core.metastore.tables import instance

TARGET_SECONDS = 0.04
"""What the rows of a transaction may cost, and so about what anyone waits for its locks."""
_TOO_LONG_SECONDS = 0.08
_SMALLEST, _FIRST = 100, 1_000
_LOOK_SECONDS = 1.0
_REST_SECONDS = 0.25
_LARGEST_LAG_SECONDS = 10.0
_MEMORY = 0.8
"""How much of what was learned from earlier transactions counts in the next."""


@dataclass(slots=True)
class BatchSize:
    """How many rows the next transaction takes, learned from what the last ones took.

    A transaction costs something, and each row of it: seconds = a + b * rows. Fewer rows can't lower `a` (many DAGs, a
    busy machine), so the size is what makes `b * rows` TARGET_SECONDS; where the whole takes far too long, half of it.
    """

    largest: int
    now: int = 0
    _weight: float = 0.0
    _rows: float = 0.0
    _seconds: float = 0.0
    _rows_rows: float = 0.0
    _rows_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.now = min(_FIRST, self.largest)

    def learn(self, rows: int, seconds: float) -> None:
        """A transaction of so many rows took so long."""
        for name, value in (
            ("_weight", 1.0),
            ("_rows", rows),
            ("_seconds", seconds),
            ("_rows_rows", rows * rows),
            ("_rows_seconds", rows * seconds),
        ):
            setattr(self, name, getattr(self, name) * _MEMORY + value)
        spread = self._weight * self._rows_rows - self._rows**2
        per_row = (self._weight * self._rows_seconds - self._rows * self._seconds) / spread if spread > 1 else None
        if per_row is None:
            per_row = seconds / max(1, rows)
        best = self.now * 2 if per_row * self.now * 2 < TARGET_SECONDS else int(TARGET_SECONDS / per_row)
        if seconds > _TOO_LONG_SECONDS:
            best = min(best, rows // 2)
        self.now = max(min(_SMALLEST, self.largest), min(self.largest, self.now * 2, best))


@dataclass(slots=True)
class Governor:
    """Steers one clean-up."""

    engine: Engine
    largest: int
    """Rows per transaction at most."""
    dead_after_seconds: float
    """A scheduler whose heartbeat is older is gone, and nobody waits for it."""
    deadline: float | None = None
    """By `clock`."""
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    longest_seconds: float = 0.0
    """The longest transaction so far."""
    transactions: int = 0
    rested_seconds: float = 0.0
    sizes: dict[str, BatchSize] = field(default_factory=dict)
    _looked: float = field(default=float("-inf"))

    def size(self, what: str) -> int:
        """Rows for the next transaction on this table."""
        return self.sizes.setdefault(what, BatchSize(self.largest)).now

    def measured(self, what: str, rows: int, seconds: float) -> None:
        """A transaction of so many rows held locks for so long."""
        self.transactions += 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        self.sizes.setdefault(what, BatchSize(self.largest)).learn(rows, seconds)

    def go_on(self) -> bool:
        """False when the time is up. Rests first while a scheduler or a replica is behind."""
        while not self._late():
            now = self.clock()
            if now - self._looked < _LOOK_SECONDS:
                return True
            with reading(self.engine) as connection:
                behind = _behind(connection, self.dead_after_seconds)
            if not behind:
                self._looked = now
                return True
            self.wait(_REST_SECONDS)
            self.rested_seconds += _REST_SECONDS
        return False

    def _late(self) -> bool:
        return self.deadline is not None and self.clock() >= self.deadline


def _behind(connection: Connection, dead_after_seconds: float) -> bool:
    """Whether a scheduler that lives has missed half of its time for a heartbeat, or a replica lags."""
    now = datetime.now(UTC)
    late = connection.execute(
        select(func.count())
        .select_from(instance)
        .where(
            instance.c.kind == "scheduler",
            instance.c.ended_at.is_(None),
            instance.c.heartbeat_at < now - timedelta(seconds=dead_after_seconds / 2),
            instance.c.heartbeat_at > now - timedelta(seconds=dead_after_seconds),
        )
    ).scalar_one()
    if late:
        return True
    if connection.dialect.name != "postgresql":
        return False
    lag = connection.exec_driver_sql(
        "SELECT coalesce(extract(epoch FROM max(replay_lag)), 0) FROM pg_stat_replication"
    ).scalar_one()
    return float(lag) > _LARGEST_LAG_SECONDS
