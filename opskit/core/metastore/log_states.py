"""What the metastore knows about the logs of many runs at once, asked without SQLAlchemy and in constant memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from opskit.core.dag import states
from opskit.core.metastore.audit_line import text_literal
from opskit.core.metastore.probe import Database, ProbeFailed, expected_revision, open_database
from opskit.errors import MetastoreUnavailable, SchemaNotCurrent
from opskit.telemetry.task_logs import log_path

MOST_TASKS = 500
"""Of a run with more noteworthy task instances, all logs are treated like the most precious of them."""
_HELD = (
    states.QUEUED,
    states.RUNNING,
    states.RESTARTING,
    states.DEFERRED,
    states.UP_FOR_RETRY,
    states.UP_FOR_RESCHEDULE,
)
_SESSION_SECONDS = 5.0
_TIMEOUT_SECONDS = 20.0
_LONG_ID = 60
"""Ids of at least so many characters may have a shortened name in the log folder."""


@dataclass(slots=True)
class RunLogs:
    """What counts for the logs of one DagRun. Task directories are named as below it: `task_id=t/map_index=1`."""

    state: str = ""
    """Empty: the metastore does not know the run (it was cleaned, or is of another cluster)."""
    is_newest: bool = False
    """Among the newest runs of its DAG."""
    all_live: bool = False
    all_failed: bool = False
    live: set[str] = field(default_factory=set)
    """Task instances that run, are queued, or will go on with the try they are in."""
    failed: set[str] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether logs may appear in it at any time."""
        return self.state in (states.QUEUED, states.RUNNING)


class LogStates:
    """A view of a metastore. `runs` raises MetastoreUnavailable when nobody can say; SchemaNotCurrent likewise."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._database: Database | None = None
        self._opened = 0.0
        self._dag: tuple[str, int, list[str], frozenset[str]] | None = None
        self._is_mysql = url.startswith(("mysql", "mariadb"))
        rows = self._query("SELECT version_num FROM alembic_version")
        if not rows or str(rows[0][0]) != expected_revision():
            self.close()
            raise SchemaNotCurrent("the schema of the metastore is not current", hint="run: opskit db migrate")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def runs(self, dag_directory: str, run_directories: Sequence[str], newest: int) -> Mapping[str, RunLogs]:
        """By run directory, for some of one DAG's. `newest`: so many newest runs of the DAG are marked."""
        dag_ids, marked = self._of_dag(dag_directory, newest)
        found = {name: RunLogs(is_newest=name in marked) for name in run_directories}
        if not dag_ids:
            return found
        numbers: dict[int, tuple[str, str]] = {}
        for number, dag_id, run_id, state in self._run_rows(dag_ids, run_directories):
            name = _run_directory(run_id)
            name = name if name in found else f"run_id={run_id}"
            if name not in found:
                continue
            found[name].state = state
            found[name].all_failed = state == states.FAILED
            numbers[int(number)] = (name, dag_id)
        if numbers:
            self._add_tasks(found, numbers)
        return found

    def _of_dag(self, dag_directory: str, newest: int) -> tuple[list[str], frozenset[str]]:
        """The ids that a DAG's directory may stand for, and the directories of its newest runs."""
        if self._dag is None or self._dag[:2] != (dag_directory, newest):
            name = dag_directory.removeprefix("dag_id=")
            ids = list(dict.fromkeys((unquote(name), name)))
            if "%~" in name:
                rows = self._query(f"SELECT DISTINCT dag_id FROM dag_run WHERE {self._length('dag_id')} >= {_LONG_ID}")
                ids = [row[0] for row in rows if log_path(row[0], "r", "t", -1, 1).split("/")[0] == dag_directory]
            marked: set[str] = set()
            for dag_id in ids if newest else ():
                rows = self._query(
                    f"SELECT run_id FROM dag_run WHERE dag_id = {self._text(dag_id)}"
                    f" ORDER BY logical_date DESC LIMIT {int(newest)}"
                )
                marked.update(name for (run_id,) in rows for name in (_run_directory(run_id), f"run_id={run_id}"))
            self._dag = (dag_directory, newest, ids, frozenset(marked))
        return self._dag[2], self._dag[3]

    def _run_rows(self, dag_ids: list[str], run_directories: Sequence[str]) -> Iterable[tuple[int, str, str, str]]:
        wanted: dict[str, None] = {}
        is_long = False
        for directory in run_directories:
            name = directory.removeprefix("run_id=")
            is_long = is_long or "%~" in name
            wanted.update(dict.fromkeys((unquote(name), name)))
        which = f"run_id IN ({', '.join(map(self._text, wanted))})"
        if is_long:
            which = f"({which} OR {self._length('run_id')} >= {_LONG_ID})"
        rows = self._query(
            "SELECT id, dag_id, run_id, state FROM dag_run"
            f" WHERE dag_id IN ({', '.join(map(self._text, dag_ids))}) AND {which}"
        )
        return [(int(row[0]), row[1], row[2], row[3]) for row in rows]

    def _add_tasks(self, found: dict[str, RunLogs], numbers: dict[int, tuple[str, str]]) -> None:
        which = f"dag_run_id IN ({', '.join(map(str, numbers))}) AND state IN ({_quoted((*_HELD, states.FAILED))})"
        counts = self._query(f"SELECT dag_run_id, state, COUNT(*) FROM task_instance WHERE {which} GROUP BY 1, 2")
        many: set[int] = set()
        for number, state, count in counts:
            run = found[numbers[int(number)][0]]
            if int(count) > MOST_TASKS:
                many.add(int(number))
                run.all_live = run.all_live or state in _HELD
                run.all_failed = run.all_failed or state == states.FAILED
        few = {int(row[0]) for row in counts} - many
        if not few:
            return
        rows = self._query(
            f"SELECT dag_run_id, task_id, map_index, state FROM task_instance WHERE {which}"
            f" AND dag_run_id IN ({', '.join(map(str, few))})"
        )
        for number, task_id, map_index, state in rows:
            run = found[numbers[int(number)][0]]
            where = run.failed if state == states.FAILED else run.live
            mapped = f"/map_index={map_index}" if int(map_index) >= 0 else ""
            where.add(log_path("d", "r", task_id, int(map_index), 1).split("/", 2)[2].rsplit("/", 1)[0])
            where.add(f"task_id={task_id}{mapped}")

    def _query(self, sql: str) -> list[tuple[str, ...]]:
        try:
            # A session of the probe lives for seconds; a clean-up may take hours.
            if self._database is None or time.monotonic() - self._opened > _SESSION_SECONDS:
                self.close()
                self._database = open_database(self._url, _TIMEOUT_SECONDS)
                self._opened = time.monotonic()
            return self._database.query(sql)
        except ProbeFailed as failure:
            if failure.kind == "no_schema":
                raise SchemaNotCurrent("the metastore has no schema", hint="run: opskit db migrate") from failure
            raise MetastoreUnavailable(
                f"the metastore can't be asked which logs are in use: {failure}",
                hint="nothing is removed without its answer; look at: opskit db check",
            ) from failure

    def _text(self, value: str) -> str:
        return text_literal(self._url, value)  # (a directory's name need not be UTF-8: then it is no run's)

    def _length(self, column: str) -> str:
        return f"CHAR_LENGTH({column})" if self._is_mysql else f"LENGTH({column})"


def _run_directory(run_id: str) -> str:
    return log_path("d", run_id, "t", -1, 1).split("/")[1]


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
