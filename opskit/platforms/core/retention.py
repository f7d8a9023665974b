"""Retention of the bundled core's metastore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.platforms.retention import TABLES, Keep, OldRows, Removed, RetentionPlan, RetentionPolicy, TableSpace

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Engine
    from opskit.core.metastore.pruning import Orders, Pruned

_CHILDREN = ("xcom", "task_attempt")
_SECONDS_PER_ROW = {"sqlite": 4e-6, "postgresql": 4e-6, "mariadb": 15e-6, "mysql": 15e-6}
"""Measured on small machines; an estimate for people."""


class CoreRetention:
    def __init__(self, config: Config) -> None:
        self._config = config

    def plan(self, policy: RetentionPolicy, now: datetime) -> RetentionPlan:
        from opskit.core.metastore import foreign_keys, retention, space
        from opskit.core.metastore.engine import reading
        from opskit.core.metastore.schema import count_rows

        orders = _orders(policy, now)
        with self._opened() as engine, reading(engine) as connection:
            kind = engine.dialect.name
            runs = retention.select_runs(connection, orders.runs)
            children = {name: retention.select_runs(connection, cut) for name, cut in orders.children.items()}
            found = retention.plan(connection, runs, children, orders.before)
            spaces, counts = space.read(connection), count_rows(connection) if found else {}
            missing = foreign_keys.missing_indexes(foreign_keys.references(connection), kind)
        all_rows, all_bytes = sum(counts.values()) or 1, sum(one.size_bytes for one in spaces.values())
        rows = []
        for one in found:
            known = spaces.get(one.table)
            per_row = known.size_bytes / max(1, counts[one.table]) if known else all_bytes / all_rows
            seconds = one.rows * _SECONDS_PER_ROW[kind]
            rows.append(OldRows(one.table, one.rows, one.why, int(one.rows * per_row), round(seconds, 2)))
        return RetentionPlan(tuple(rows), runs.reasons, (*missing, *space.advice(spaces, kind)))

    def remove(
        self,
        policy: RetentionPolicy,
        now: datetime,
        *,
        batch_size: int,
        deadline_seconds: float | None = None,
        keep: Keep | None = None,
        told: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> Removed:
        from opskit.core.metastore import partitions, pruning, space
        from opskit.core.metastore.engine import reading
        from opskit.core.metastore.governor import Governor

        def tell(so_far: Pruned) -> None:
            told(dict(so_far.rows))

        with self._opened() as engine, space.single_flight(engine):
            with reading(engine) as connection:
                before = space.read(connection)
            governor = Governor(
                engine,
                batch_size,
                float(self._config.get("scheduler", "scheduler_health_check_threshold")),
                None if deadline_seconds is None else time.monotonic() + deadline_seconds,
            )
            done = pruning.prune(engine, _orders(policy, now), governor, keep=keep, told=tell)
            partitions.make_ahead(engine, now, patience_seconds=partitions.PATIENCE_SECONDS)
            with reading(engine) as connection:
                after = space.read(connection)
            kind = engine.dialect.name
        spaces = tuple(
            TableSpace(name, before[name].size_bytes, one.size_bytes, one.reusable_bytes)
            for name, one in after.items()
            if name in done.rows or kind == "sqlite"
        )
        return Removed(
            done.rows,
            frozenset(done.about),
            tuple(done.partitions),
            tuple(done.left),
            done.failed,
            tuple(done.notes),
            governor.transactions,
            round(governor.longest_seconds, 4),
            governor.rested_seconds,
            spaces,
            tuple(space.advice(after, kind)),
        )

    @contextmanager
    def _opened(self) -> Iterator[Engine]:
        from opskit.core.metastore import schema
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(self._config, pool_size=2)
        try:
            schema.check(engine)
            yield engine
        finally:
            engine.dispose()


def _orders(policy: RetentionPolicy, now: datetime) -> Orders:
    from opskit.core.metastore.pruning import Orders

    def runs(dag_id: str, is_paused: bool) -> Mapping[str, datetime]:
        return {state: now - timedelta(days=days) for state, days in policy.of(dag_id, is_paused).items()}

    def child(days: float) -> Callable[[str, bool], Mapping[str, datetime]]:
        # Never later than its run.
        def cut(dag_id: str, is_paused: bool) -> Mapping[str, datetime]:
            return {state: max(at, now - timedelta(days=days)) for state, at in runs(dag_id, is_paused).items()}

        return cut

    children = {name: child(policy.tables[name]) for name in _CHILDREN if name in policy.tables}
    singles = [name for name in TABLES if name not in _CHILDREN]
    before = {name: now - timedelta(days=policy.tables.get(name, policy.days)) for name in singles}
    return Orders(runs, children, before)
