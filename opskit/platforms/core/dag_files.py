"""Loads DAG files as the core would, without storing anything, here and on nodes where opskit is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import config as settings
from opskit.config import Config
from opskit.core.dag import load_options
from opskit.core.runner.loader import Loader
from opskit.core.scheduler.dag_folder import list_dag_folder, read_content
from opskit.errors import OpskitError
from opskit.platforms.base import LoadedDagFile
from opskit.platforms.core import dag_batch
from opskit.platforms.core.dag_facts import facts_of

_FILES_PER_PROCESS = 1000
"""So many are loaded sooner by one process than two are started."""


class CoreDagFiles:
    """DAG files of a folder, loaded in other processes with the limits of [core] dagbag_import_timeout and
    dag_file_memory_limit."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def load(self, folder: Path, paths: Sequence[str]) -> list[LoadedDagFile]:
        """Load those of the paths (below the folder) that the DAG processor would load."""
        listing = list_dag_folder(folder)
        wanted = [path for path in paths if path in listing.files and read_content(folder, path).may_define_dags]
        if not wanted:
            return []
        get = self._config.get
        timeout = float(get("core", "dagbag_import_timeout"))
        memory_limit = int(get("core", "dag_file_memory_limit"))
        parallel = int(get("scheduler", "parsing_processes"))
        good = dag_batch.load(
            folder,
            wanted,
            options=load_options.of_config(self._config),
            timeout=timeout,
            memory_limit=memory_limit,
            parallel=min(parallel, 1 + len(wanted) // _FILES_PER_PROCESS),
        )
        loaded = [self._file(path, good[path].dags, good[path].seconds) for path in wanted if path in good]
        wanted = [path for path in wanted if path not in good]
        if not wanted:
            return loaded
        values = {**self._config.values, "core.dags_folder": str(folder)}
        loader = Loader(dataclasses.replace(self._config, values=values))
        try:
            return loaded + [
                self._file(result.path, result.dags, result.seconds, result.error)
                for result in loader.load(wanted, timeout, memory_limit, parallel)
            ]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise OpskitError(f"the process that loads DAG files ended: {error}") from error
        finally:
            loader.close()

    def _file(
        self, path: str, dags: Sequence[Mapping[str, Any]], seconds: float, error: str | None = None
    ) -> LoadedDagFile:
        by_default, now = bool(self._config.get("scheduler", "catchup_by_default")), datetime.now(UTC)
        facts = tuple(facts_of(dag, by_default, now) for dag in dags)
        return LoadedDagFile(path, tuple(dag.dag_id for dag in facts), error, facts, seconds)


def check_as_json(folder: str, paths: list[str]) -> dict[str, Any]:
    """For the program on the nodes: what the files define, and what is wrong with them."""
    loaded = CoreDagFiles(settings.load()).load(Path(folder), paths)
    return {
        "check": "import",
        "dags": {file.path: list(file.dag_ids) for file in loaded if file.error is None},
        "errors": {file.path: file.error for file in loaded if file.error is not None},
    }
