"""From load results to what the metastore stores: pause state and next run of each DAG, and the text of its file."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.core.dag import serialized, timetables
from opskit.core.metastore import dag_loads
from opskit.core.metastore.dag_loads import LoadedDag, LoadedFile, NextRun, Stored
from opskit.core.metastore.engine import Connection
from opskit.core.runner.loader import LoadResult
from opskit.core.scheduler.next_runs import Interval, next_runs

log = logging.getLogger(__name__)


def store(
    connection: Connection,
    results: Sequence[LoadResult],
    gone: Collection[str],
    config: Config,
    now: datetime,
) -> tuple[Stored, list[LoadedFile]]:
    """Write results in the transaction of the caller; what changed, and the files as they were stored.

    No two good results define the same DAG. A DAG whose next run can't be planned makes an import error of its file.
    """
    dag_ids = [dag["dag_id"] for result in results if result.error is None for dag in result.dags]
    versions = dag_loads.read_versions(connection, dag_ids)
    owners = dag_loads.read_owners(connection)
    unchanged = {
        dag["dag_id"]
        for result in results
        for dag in result.dags
        if owners.get(dag["dag_id"]) == result.path and versions.get(dag["dag_id"]) == dag_loads.version_of(dag)[0]
    }
    # For display and for waking only: the scheduler plans again from the runs it reads under the lease.
    last = dag_loads.last_automated(connection, [dag_id for dag_id in dag_ids if dag_id not in unchanged])
    planner = _Planner(config, now)
    files = [_loaded_file(result, unchanged, last, config, planner) for result in results]
    return dag_loads.store_loaded_files(connection, files, now, gone), files


def _loaded_file(
    result: LoadResult, unchanged: Collection[str], last: Mapping[str, Interval], config: Config, planner: _Planner
) -> LoadedFile:
    dags: list[LoadedDag] = []
    error = result.error
    if error is None:
        for data in result.dags:
            try:
                dags.append(_loaded_dag(data, data["dag_id"] in unchanged, last.get(data["dag_id"]), config, planner))
            except Exception as problem:  # one bad schedule must not fail the other files
                log.debug("%s: the next run can't be planned", result.path, exc_info=True)
                error = f"DagInvalid: the next run of DAG {data['dag_id']!r} can't be planned: {problem}"
                break
    return LoadedFile(
        path=result.path,
        content_hash=result.content_hash,
        dags=() if error else dags,
        import_error=error,
        parse_seconds=result.seconds,
        source=None if error else _source(config.dags_folder, result),
        release=result.release or None,
    )


def _loaded_dag(
    data: Mapping[str, Any], unchanged: bool, last: Interval | None, config: Config, planner: _Planner
) -> LoadedDag:
    paused = data.get("is_paused_upon_creation")
    return LoadedDag(
        dag_id=data["dag_id"],
        data=data,
        schedule=str(data.get("ui", {}).get("schedule", "")),
        is_paused_at_creation=bool(config.get("core", "dags_are_paused_at_creation")) if paused is None else paused,
        next_run=None if unchanged else planner.next_run(data, last),
    )


class _Planner:
    """Plans next runs as of one moment. DAGs of the same schedule and dates share the answer: cron is slow."""

    def __init__(self, config: Config, now: datetime) -> None:
        self._catchup = bool(config.get("scheduler", "catchup_by_default"))
        self._first_run = str(config.get("scheduler", "first_run"))
        self._now = now
        self._known: dict[tuple[Any, ...], NextRun | None] = {}

    def next_run(self, data: Mapping[str, Any], last: Interval | None) -> NextRun | None:
        """`last` is the data interval of the newest scheduled or backfill run; None when there is none."""
        dates = (data.get(name) for name in ("start_date", "end_date", "catchup", "first_run"))
        key = (json.dumps(data["timetable"], sort_keys=True), last, *dates)
        if timetables.is_asked(data["timetable"]):
            return None  # its file is asked later, see `planning`
        if key not in self._known:
            loaded = serialized.load(dict(data))
            runs = next_runs(loaded, last, self._catchup, self._now, first_run=self._first_run)
            self._known[key] = (
                NextRun(runs[0].logical_date, *runs[0].data_interval, runs[0].run_after) if runs else None
            )
        return self._known[key]


def _source(root: Path, result: LoadResult) -> str | None:
    """The text that was loaded; None when the file has changed since (it is loaded again soon) or is no text."""
    try:
        content = (root / result.path).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != result.content_hash:
        return None
    # A zero byte is no text for PostgreSQL.
    return content.decode("utf-8", "replace").replace("\0", "\ufffd")
