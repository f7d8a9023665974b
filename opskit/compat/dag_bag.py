"""`DagBag`: the DAGs of a folder or file, loaded in this process."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, NamedTuple

from opskit.core.dag import authoring_context, loading
from opskit.core.dag.model import DAG
from opskit.errors import DagInvalid


class FileLoadStat(NamedTuple):
    """What loading one file came to."""

    file: str
    duration: timedelta
    dag_num: int
    task_num: int
    dags: str
    warning_num: int = 0


class DagBag:
    """`dags` by id, and `import_errors` by file. `read_dags_from_db` and examples are not for this one: it reads
    files."""

    def __init__(
        self,
        dag_folder: str | os.PathLike[str] | None = None,
        include_examples: Any = None,
        safe_mode: bool = True,
        read_dags_from_db: bool = False,
        store_serialized_dags: bool | None = None,
        load_op_links: bool = True,
        collect_dags: bool = True,
        **_: Any,
    ) -> None:
        from opskit.compat.configuration import conf

        self.dag_folder = str(dag_folder or os.path.expanduser(conf.get("core", "dags_folder")))
        self.dags: dict[str, DAG] = {}
        self.import_errors: dict[str, str] = {}
        self.dagbag_stats: list[FileLoadStat] = []
        self.read_dags_from_db = False
        if collect_dags:
            self.collect_dags(self.dag_folder, safe_mode=safe_mode)

    def size(self) -> int:
        return len(self.dags)

    @property
    def dag_ids(self) -> list[str]:
        return list(self.dags)

    def get_dag(self, dag_id: str, session: Any = None) -> DAG | None:
        return self.dags.get(dag_id)

    def collect_dags(self, dag_folder: str | os.PathLike[str] | None = None, safe_mode: bool = True, **_: Any) -> None:
        """Load every file that may define DAGs."""
        from opskit.compat.files import list_py_file_paths

        for path in list_py_file_paths(dag_folder or self.dag_folder, safe_mode):
            self.process_file(path)

    def process_file(self, filepath: str, only_if_updated: bool = True, safe_mode: bool = True) -> list[DAG]:
        """The DAGs of one file, which are in `dags` from then on; none, and an entry in `import_errors`, when it can't
        be loaded."""
        import time

        root = self.dag_folder if os.path.isdir(self.dag_folder) else os.path.dirname(self.dag_folder)
        began = time.monotonic()
        try:
            with authoring_context.set_aside():
                found = loading.load_file(filepath, root)
        except DagInvalid as error:
            self.import_errors[filepath] = str(error)
            return []
        for dag in found:
            self.bag_dag(dag)
        self.dagbag_stats.append(
            FileLoadStat(
                filepath.removeprefix(root),
                timedelta(seconds=time.monotonic() - began),
                len(found),
                sum(len(dag.tasks) for dag in found),
                str([dag.dag_id for dag in found]),
            )
        )
        return found

    def bag_dag(self, dag: DAG, root_dag: Any = None) -> None:
        """Put a DAG in. AirflowDagDuplicatedIdException when another file has one of its id."""
        from opskit.compat.exceptions import AirflowDagDuplicatedIdException

        known = self.dags.get(dag.dag_id)
        if known is not None and known.fileloc != dag.fileloc:
            raise AirflowDagDuplicatedIdException(dag.dag_id, dag.fileloc, known.fileloc)
        self.dags[dag.dag_id] = dag

    def dagbag_report(self) -> str:
        """A line per file."""
        return "\n".join(f"{stat.file}: {stat.dag_num} DAGs, {stat.task_num} tasks" for stat in self.dagbag_stats)
