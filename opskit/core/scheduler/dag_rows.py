"""From load results to what the metastore stores: pause state and next run of each DAG, and the text of its file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.core.dag import serialized
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
    files = [_loaded_file(result, unchanged, last, config, now) for result in results]
    return dag_loads.store_loaded_files(connection, files, now, gone), files


def _loaded_file(
    result: LoadResult, unchanged: Collection[str], last: Mapping[str, Interval], config: Config, now: datetime
) -> LoadedFile:
    dags: list[LoadedDag] = []
    error = result.error
    if error is None:
        for data in result.dags:
            try:
                dags.append(_loaded_dag(data, data["dag_id"] in unchanged, last.get(data["dag_id"]), config, now))
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
    )


def _loaded_dag(
    data: Mapping[str, Any], unchanged: bool, last: Interval | None, config: Config, now: datetime
) -> LoadedDag:
    paused = data.get("is_paused_upon_creation")
    return LoadedDag(
        dag_id=data["dag_id"],
        data=data,
        schedule=str(data.get("ui", {}).get("schedule", "")),
        is_paused_at_creation=bool(config.get("core", "dags_are_paused_at_creation")) if paused is None else paused,
        next_run=None if unchanged else plan_next_run(data, last, config, now),
    )


def plan_next_run(data: Mapping[str, Any], last: Interval | None, config: Config, now: datetime) -> NextRun | None:
    """`last` is the data interval of the newest scheduled or backfill run; None when there is none."""
    catchup = bool(config.get("scheduler", "catchup_by_default"))
    for info in next_runs(serialized.load(dict(data)), last, catchup, now):
        return NextRun(info.logical_date, info.data_interval.start, info.data_interval.end, info.run_after)
    return None


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
