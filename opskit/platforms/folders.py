"""What verbs may ask about a cluster's folders, and which of its logs matter to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from opskit.core.metastore.log_states import RunLogs

__all__ = ["Folders", "LogStates", "RunLogs"]


class LogStates(Protocol):
    """The metastore's word on logs, asked for some runs at a time, so that memory does not grow with the history."""

    def runs(self, dag_directory: str, run_directories: Sequence[str], newest: int) -> Mapping[str, RunLogs]:
        """By run directory (`run_id=…`), for some of those in one DAG's directory (`dag_id=…`), as it is now. So many
        `newest` runs of the DAG are marked. MetastoreUnavailable when nobody can say."""
        ...


class Folders(Protocol):
    """Where DAG files and logs lie."""

    @property
    def dags(self) -> Path: ...
    @property
    def logs(self) -> Path: ...

    def is_log_folder(self, names: Collection[str]) -> bool:
        """Whether a folder with entries of these names can be the log folder. An empty one can."""
        ...

    def log_states(self) -> AbstractContextManager[LogStates]:
        """MetastoreUnavailable when nobody can say which logs are in use."""
        ...

    def log_directory(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        """Where the logs of one task instance lie, below the log folder. Asks nobody."""
        ...
