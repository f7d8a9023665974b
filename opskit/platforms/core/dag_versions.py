"""The core's loaded DAG files: rows of its metastore."""

from __future__ import annotations

from collections.abc import Collection

from opskit.config import Config
from opskit.platforms.dag_versions import LoadedVersion


class CoreDagVersions:
    def __init__(self, config: Config) -> None:
        self._config = config

    def loaded(self, paths: Collection[str]) -> dict[str, LoadedVersion]:
        from opskit.core.metastore import dag_loads
        from opskit.core.metastore.engine import open_engine, reading

        engine = open_engine(self._config, pool_size=1)
        try:
            with reading(engine) as connection:
                files = dag_loads.read_files(connection)
        finally:
            engine.dispose()
        wanted = set(paths)
        return {
            path: LoadedVersion(file.content_hash, file.import_error or "")
            for path, file in files.items()
            if path in wanted
        }
