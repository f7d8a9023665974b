"""Folders of the bundled core: DAG files and task logs, and what its metastore says about the logs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.config import Config
from opskit.platforms.folders import LogStates
from opskit.telemetry import task_logs

# What opskit and Airflow write beside the logs of tasks. (The watchdog's evidence may be there before any of them.)
_OTHER_LOGS = frozenset({"scheduler", "dag_processor", "dag_processor_manager", "triggerer", "watchdog"})


class CoreFolders:
    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def dags(self) -> Path:
        return self._config.dags_folder

    @property
    def logs(self) -> Path:
        return self._config.logs_folder

    def is_log_folder(self, names: Collection[str]) -> bool:
        return not names or any(name.startswith("dag_id=") or name in _OTHER_LOGS for name in names)

    @contextmanager
    def log_states(self) -> Iterator[LogStates]:
        from opskit.core.metastore.log_states import LogStates as Opened

        states = Opened(self._config.database_url)
        try:
            yield states
        finally:
            states.close()

    def log_directory(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        return task_logs.log_path(dag_id, run_id, task_id, map_index, 1).rpartition("/")[0]
