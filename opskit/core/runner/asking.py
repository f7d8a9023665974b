"""Asks DAG files what their schedules say, for a process that has no user code: command line, gateway."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opskit.core.dag.file_asker import set_asker
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.config import Config
    from opskit.core.runner.loader import Loader


def install(config: Config) -> None:
    """From now on a timetable of an author's own class is asked in a process that loads its DAG file: some 50 ms for
    each question, half a second for the first."""
    set_asker(_Files(config).ask)


class _Files:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._loader: Loader | None = None

    def ask(self, form: Mapping[str, Any], question: Mapping[str, Any]) -> Mapping[str, Any]:
        path, dag_id = str(form["fileloc"]), str(question["dag_id"])
        for result in self._opened().load(
            [path],
            float(self._config.get("core", "dagbag_import_timeout")),
            int(self._config.get("core", "dag_file_memory_limit")),
            1,
            {path: [question]},
        ):
            if result.error is not None:
                raise DagInvalid(f"{path}, which knows the schedule of DAG {dag_id}, can't be loaded: {result.error}")
            found: Mapping[str, Any] | None = (result.answers or {}).get(dag_id)
            if found is not None:
                if "manual" in question and "interval" not in found:
                    raise DagInvalid(str(found["warning"]))
                return found
        raise DagInvalid(f"{path} no longer defines the DAG {dag_id}")

    def _opened(self) -> Loader:
        if self._loader is None:
            from opskit.core.runner.loader import Loader

            self._loader = Loader(self._config)
            atexit.register(self._loader.close)
        return self._loader
