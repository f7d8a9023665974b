"""Moving in, on the bundled core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opskit.config import Config
from opskit.core.metastore.objects import Fields, Objects, Write
from opskit.platforms.airflow import AirflowMetastore, Taken

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Engine


class CoreMovingIn:
    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, url: str, keys: Sequence[str]) -> AbstractContextManager[AirflowMetastore]:
        from opskit.core.metastore.airflow_source import open_source

        return open_source(url, keys)

    def known_runs(self) -> set[tuple[str, str]]:
        from opskit.core.metastore.airflow_history import known_runs

        with self._engine() as engine:
            return known_runs(engine)

    def people_here(self) -> Objects:
        from opskit.core.metastore.airflow_people import people_here

        with self._engine() as engine:
            return people_here(engine)

    def role_fields(self, name: str, pairs: Sequence[tuple[str, str]], problems: list[tuple[str, str]]) -> Fields:
        from opskit.core.metastore.airflow_people import role_fields

        return role_fields(name, pairs, problems)

    def builtin_roles(self) -> frozenset[str]:
        from opskit.core.metastore.airflow_people import builtin_roles

        return builtin_roles()

    def take_people(self, writes: Sequence[Write], now: datetime) -> tuple[int, list[tuple[str, str]]]:
        from opskit.core.metastore.airflow_people import take_people

        with self._engine() as engine:
            return take_people(engine, writes, now)

    def take_history(self, source: Any, numbers: Sequence[int], now: datetime) -> Taken:
        from opskit.core.metastore.airflow_history import take_history
        from opskit.system.wake import wake

        with self._engine() as engine:
            taken = take_history(engine, source, numbers, now)
        wake(self._config.run_folder)
        return taken

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        from opskit.core.metastore import schema
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(self._config, pool_size=1)
        try:
            schema.check(engine)
            yield engine
        finally:
            engine.dispose()
