"""Folders of the bundled core: DAG files and task logs, and what its metastore says about the logs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.platforms.base import LiveLogs
from opskit.telemetry import task_logs

if TYPE_CHECKING:
    from opskit.core.metastore.live_runs import LiveTask

_DIRECTORY = re.compile(r"dag_id=[^/]*(/run_id=[^/]*(/task_id=[^/]*(/map_index=\d+)?)?)?")


class CoreFolders:
    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def dags(self) -> Path:
        return self._config.dags_folder

    @property
    def logs(self) -> Path:
        return self._config.logs_folder

    def is_task_log(self, path: str) -> bool:
        return task_logs.parse_path(path) is not None

    def is_log_directory(self, path: str) -> bool:
        return _DIRECTORY.fullmatch(path) is not None

    def is_log_folder(self, names: Collection[str]) -> bool:
        # The watchdog's evidence may lie there before any task has run.
        return not names or "watchdog" in names or any(map(self.is_log_directory, names))

    def live_logs(self) -> LiveLogs:
        from opskit.core.metastore import live_runs
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config, pool_size=1)
        try:
            with reading(engine) as connection:
                runs = live_runs.unfinished_runs(connection)
                tasks = live_runs.live_tasks(connection)
        finally:
            engine.dispose()
        return LiveLogs(
            tasks=frozenset(_directory(task) for task in tasks),
            runs=frozenset(_parent(task_logs.log_path(dag_id, run_id, "x", -1, 1), 2) for dag_id, run_id in runs),
        )


def _directory(task: LiveTask) -> str:
    return _parent(task_logs.log_path(task.dag_id, task.run_id, task.task_id, task.map_index, 1), 1)


def _parent(path: str, levels: int) -> str:
    return path.rsplit("/", levels)[0]
