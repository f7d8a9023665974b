"""DirectStore: answers what running tasks ask, straight from the metastore, and waits while that is down."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from opskit.config import Config
from opskit.core.dag.connection import Connection
from opskit.core.dag.runtime import EventRow, RunInfo
from opskit.core.metastore import asset_queries, connections, dags, runs, states_kept, task_instances, variables, xcoms
from opskit.core.metastore.crypto import Cipher, open_cipher
from opskit.core.metastore.engine import Connection as DatabaseConnection
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.errors import MetastoreUnavailable, NotFound, SchemaNotCurrent
from opskit.system.wake import wake

T = TypeVar("T")
logger = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0


def _now() -> datetime:
    return datetime.now(UTC)


class DirectStore:
    """A `core.dag.runtime.RuntimeStore`. Safe to use from several threads."""

    def __init__(
        self,
        engine: Engine,
        cipher: Cipher,
        *,
        run_folder: Path | None = None,
        clock: Callable[[], datetime] = _now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`run_folder`: where schedulers are woken after a trigger."""
        self._engine = engine
        self._cipher = cipher
        self._run_folder = run_folder
        self._clock = clock
        self._sleep = sleep

    @classmethod
    def open(cls, config: Config) -> DirectStore:
        """The store of an installation."""
        return cls(open_engine(config, pre_ping=True), open_cipher(config), run_folder=config.run_folder)

    def close(self) -> None:
        self._engine.dispose()

    def get_xcoms(
        self, dag_id: str, run_id: str, task_ids: list[str] | None, key: str, map_index: int | None = None
    ) -> list[tuple[str, int, Any]]:
        return self._read(lambda database: xcoms.get_xcoms(database, dag_id, run_id, task_ids, key, map_index))

    def set_xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str, value: Any) -> None:
        self._write(
            lambda database: xcoms.set_xcom(database, dag_id, run_id, task_id, map_index, key, value, self._clock())
        )

    def get_variable(self, key: str) -> str | None:
        found = self._read(lambda database: variables.find_variable(database, self._cipher, key))
        return None if found is None else found.value

    def set_variable(self, key: str, value: str, description: str | None = None) -> None:
        self._write(lambda database: variables.set_variable(database, self._cipher, key, value, description))

    def delete_variable(self, key: str) -> bool:
        return self._write(lambda database: variables.delete_variable(database, key))

    def get_connection(self, conn_id: str) -> Connection | None:
        return self._read(lambda database: connections.find_connection(database, self._cipher, conn_id))

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        found = self._read(lambda database: runs.find_run(database, dag_id, run_id, logical_date))
        return None if found is None else found.info()

    def previous_run(self, dag_id: str, before: datetime, state: str | None = None) -> RunInfo | None:
        found = self._read(lambda database: runs.previous_run(database, dag_id, before, state))
        return None if found is None else found.info()

    def count_runs(self, dag_id: str, states: list[str], logical_dates: list[datetime]) -> int:
        return self._read(lambda database: runs.count_runs(database, dag_id, states, logical_dates))

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        return self._read(lambda database: task_instances.task_states(database, dag_id, run_id))

    def find_asset(self, name: str | None = None, uri: str | None = None) -> dict[str, Any] | None:
        return self._read(lambda database: asset_queries.find_asset(database, name, uri))

    def asset_events(self, **question: Any) -> list[EventRow]:
        return self._read(lambda database: asset_queries.events(database, **question))

    def triggering_asset_events(self, dag_id: str, run_id: str) -> list[EventRow]:
        return self._read(lambda database: asset_queries.triggering_events(database, dag_id, run_id))

    def get_state(self, scope: list[Any], key: str) -> Any:
        return self._read(lambda database: states_kept.get_state(database, scope, key, self._clock()))

    def set_state(self, scope: list[Any], key: str, value: Any, expires_at: datetime | None = None) -> None:
        self._write(lambda database: states_kept.set_state(database, scope, key, value, expires_at))

    def delete_state(self, scope: list[Any], key: str | None) -> None:
        self._write(lambda database: states_kept.delete_state(database, scope, key))

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        def find(database: DatabaseConnection) -> dict[str, Any] | None:
            try:
                found = dags.get_dag(database, dag_id)
            except NotFound:
                return None
            if not found.is_active:
                return None  # its file is gone
            tasks = dags.newest_tasks(database, [dag_id]).get(dag_id, [])
            return {"dag_id": dag_id, "is_paused": found.is_paused, "task_ids": sorted(tasks)}

        return self._read(find)

    def trigger_dag_run(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        reset_existing: bool = False,
    ) -> RunInfo:
        # A COMMIT whose answer was lost is tried again: by this mark the second try knows the run of the first.
        mark = f"triggered by a task, {uuid.uuid4()}"
        tries = 0

        def create(database: DatabaseConnection) -> RunInfo:
            nonlocal tries
            tries += 1
            mine = runs.find_noted(database, dag_id, mark) if tries > 1 else None
            if mine is not None:
                return mine.info()
            now = self._clock()
            existing = runs.find_run(database, dag_id, run_id) if run_id else None
            if existing is None and logical_date is not None:
                existing = runs.find_run(database, dag_id, logical_date=logical_date)
            if existing is not None and reset_existing:
                instances = task_instances.list_task_instances(database, dag_id, run_ids=[existing.run_id])
                task_instances.clear(database, dag_id, instances, now)
                if conf is not None:
                    runs.set_conf(database, existing, conf)
                return runs.get_run(database, dag_id, existing.run_id).info()
            new = runs.trigger(database, dag_id, now, run_id=run_id, logical_date=logical_date, conf=conf, note=mark)
            return new.info()

        created = self._write(create)
        if self._run_folder is not None:
            wake(self._run_folder, "scheduler")
        return created

    def _read(self, question: Callable[[DatabaseConnection], T]) -> T:
        return self._patiently(reading, question)

    def _write(self, change: Callable[[DatabaseConnection], T]) -> T:
        return self._patiently(transaction, change)

    def _patiently(self, begin: Any, work: Callable[[DatabaseConnection], T]) -> T:
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                with begin(self._engine) as database:
                    return work(database)
            except SchemaNotCurrent:
                raise
            except MetastoreUnavailable as error:
                logger.warning("%s; trying again in %.1f s", error, wait)
                self._sleep(wait * random.uniform(0.5, 1.0))
                wait = min(_LONGEST_WAIT_SECONDS, wait * 2)
