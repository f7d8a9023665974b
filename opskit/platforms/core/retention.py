"""Retention of the bundled core's metastore."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.platforms.base import OldRows

if TYPE_CHECKING:
    from opskit.core.metastore.retention import Pruned


class CoreRetention:
    def __init__(self, config: Config) -> None:
        self._config = config

    def plan(self, before: datetime) -> list[OldRows]:
        from opskit.core.metastore import retention, schema
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config, pool_size=1)
        try:
            schema.check(engine)
            with reading(engine) as connection:
                return [OldRows(found.table, found.rows, found.why) for found in retention.plan(connection, before)]
        finally:
            engine.dispose()

    def remove(
        self, before: datetime, *, batch_size: int, after_batch: Callable[[Mapping[str, int]], None]
    ) -> Mapping[str, int]:
        from opskit.core.metastore import retention, schema
        from opskit.core.metastore.engine import open_engine

        def told(pruned: Pruned) -> None:
            after_batch(dict(pruned.rows))

        engine = open_engine(self._config, pool_size=1)
        try:
            schema.check(engine)
            return dict(retention.prune(engine, before, batch_size=batch_size, after_batch=told).rows)
        finally:
            engine.dispose()
