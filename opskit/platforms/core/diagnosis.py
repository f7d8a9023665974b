"""What the core's metastore tells a doctor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.platforms.diagnosis import DagFile, LostAttempt, Store, Work

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Connection

_DAY = timedelta(days=1)


class CoreDiagnosis:
    def __init__(self, config: Config) -> None:
        self._config = config

    def work(self, now: datetime, hostname: str) -> Work:
        from opskit.core.metastore import diagnosis as queries
        from opskit.telemetry.task_logs import log_path

        with self._reading() as connection:
            lost = queries.lost_attempts(connection, now - _DAY)
            ended = queries.ended_on(connection, hostname, now - _DAY)
            return Work(
                attempts=queries.count_ended(connection, now - _DAY),
                lost=tuple(LostAttempt(item.dag_id, item.task_id, item.end_date, item.reason) for item in lost),
                full_pools=tuple(queries.full_pools(connection)),
                stranded_runs=tuple(queries.stranded_runs(connection, now - _DAY)),
                files=tuple(
                    DagFile(row.path, row.content_hash, row.parse_seconds, row.parsed_at, row.import_error)
                    for row in queries.loaded_files(connection)
                ),
                vanished=tuple(queries.vanished_dags(connection)),
                recent_logs=tuple(
                    (
                        f"{item.dag_id}.{item.task_id} of {item.run_id}",
                        log_path(item.dag_id, item.run_id, item.task_id, item.map_index, item.try_number),
                    )
                    for item in ended
                ),
            )

    def store(self, now: datetime) -> Store:
        from opskit.core.metastore import diagnosis as queries

        lease = timedelta(seconds=float(self._config.get("scheduler", "scheduler_health_check_threshold")))
        with self._reading() as connection:
            used, limit = queries.connection_counts(connection)
            return Store(
                size_bytes=queries.size_bytes(connection),
                oldest_ended=queries.oldest_ended_run(connection),
                connections=used,
                connections_limit=limit,
                long_transactions=tuple(queries.long_transactions(connection)),
                lock_waits=tuple(queries.long_lock_waits(connection)),
                versions=tuple(queries.living_versions(connection, now - lease)),
            )

    def undecipherable(self) -> tuple[str, ...]:
        from opskit.core.metastore import diagnosis as queries
        from opskit.core.metastore.crypto import open_cipher

        cipher = open_cipher(self._config)
        with self._reading() as connection:
            return tuple(queries.undecipherable(connection, cipher))

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        from opskit.core.metastore import schema
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config, pool_size=1)
        try:
            schema.check(engine)
            with reading(engine) as connection:
                yield connection
        finally:
            engine.dispose()
