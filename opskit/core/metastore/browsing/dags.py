"""Lists of DAGs, with what a list shows of their definition."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.engine import Connection

from opskit.core.metastore import dag_plans
from opskit.core.metastore.browsing.window import Window, cut, total
from opskit.core.metastore.dags import Dag, dag_of
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.core.metastore.tables import dag, dag_file, dag_run, dag_version, pool
from opskit.errors import NotFound

_KEPT = 5_000
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DagFilter:
    """None: any. `dag_ids`: the ones that may be seen. `pattern`: a part of the id, % and _ stand for anything.
    `tags`: one of them is enough."""

    dag_ids: Collection[str] | None = None
    pattern: str | None = None
    tags: Collection[str] | None = None
    active: bool | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What lists show of a version of a DAG."""

    timetable: dict[str, Any]
    schedule_words: str
    display_name: str | None
    default_view: str | None
    max_active_runs: int | None
    max_active_tasks: int | None
    max_consecutive_failed_dag_runs: int | None
    limits_tasks: bool
    """A task has a limit of its own."""
    pools: frozenset[str]
    queues: dict[str, str]
    """Of tasks in another than the default queue."""
    display_names: dict[str, str]
    """Of tasks that have another name than their id."""


@dataclass(frozen=True, slots=True)
class ListedDag:
    """A DAG in a list."""

    dag: Dag
    settings: Settings | None
    has_import_errors: bool
    """The last load of its file has failed; the DAG is of an earlier one."""


@dataclass(frozen=True, slots=True)
class DagWarning:
    """Something that is wrong with a DAG and does not keep it from being loaded. `kind` as in Airflow."""

    dag_id: str
    kind: str
    message: str
    at: datetime


_settings: OrderedDict[str, Settings] = OrderedDict()
_lock = threading.Lock()


_BROKEN = select(dag_file.c.path).where(dag_file.c.import_error.is_not(None))
_LISTED = select(dag, dag.c.fileloc.in_(_BROKEN).label("listed_broken"))


def list_dags(database: Connection, which: DagFilter, window: Window) -> tuple[list[ListedDag], int]:
    """Orders: dag_id."""
    query = _filtered(_LISTED, which)
    counted = query.add_columns(func.count().over().label("listed_total"))
    rows = database.execute(cut(counted, window, {"dag_id": dag.c.dag_id}, dag.c.dag_id)).all()
    return _listed(database, rows), rows[0].listed_total if rows else window.total(0, lambda: total(database, query))


def get_dag(database: Connection, dag_id: str) -> ListedDag:
    """NotFound when there is none."""
    rows = database.execute(_LISTED.where(dag.c.dag_id == dag_id)).all()
    if not rows:
        raise NotFound(f"there is no DAG {dag_id!r}")
    return _listed(database, rows)[0]


def dag_ids(database: Connection, which: DagFilter, window: Window) -> tuple[list[str], int]:
    """Only the ids."""
    query = _filtered(select(dag.c.dag_id), which)
    rows = database.execute(cut(query, window, {"dag_id": dag.c.dag_id}, dag.c.dag_id)).scalars()
    return list(rows), total(database, query)


def settings_of(database: Connection, dag_ids: Collection[str]) -> dict[str, Settings]:
    """By dag_id, of the current versions."""
    query = select(dag.c.dag_id, dag.c.version_hash).where(dag.c.dag_id.in_(sorted(set(dag_ids))))
    versions = {row.dag_id: row.version_hash for row in database.execute(query)}
    known = settings(database, versions.values())
    return {dag_id: known[version] for dag_id, version in versions.items() if version in known}


def dags_of_file(database: Connection, path: str) -> list[str]:
    """The DAGs, also inactive ones, whose file lies at this path below the DAG folder."""
    return list(database.execute(select(dag.c.dag_id).where(dag.c.fileloc == path).order_by(dag.c.dag_id)).scalars())


def source_of_file(database: Connection, path: str) -> str | None:
    """The text of a DAG file when the current version of one of its DAGs was loaded."""
    query = (
        select(dag_version.c.source)
        .join(dag, dag.c.version_hash == dag_version.c.hash)
        .where(dag.c.fileloc == path, dag_version.c.source.is_not(None))
        .order_by(dag.c.is_active.desc(), dag.c.last_parsed_at.desc())
    )
    found: str | None = database.execute(query.limit(1)).scalar()
    return found


def count_runs_by_state(database: Connection, dag_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """dag_id → state → runs, of these DAGs that exist."""
    known = database.execute(select(dag.c.dag_id).where(dag.c.dag_id.in_(sorted(dag_ids)))).scalars()
    found: dict[str, dict[str, int]] = {dag_id: {} for dag_id in sorted(known)}
    query = (
        select(dag_run.c.dag_id, dag_run.c.state, func.count())
        .where(dag_run.c.dag_id.in_(sorted(found)))
        .group_by(dag_run.c.dag_id, dag_run.c.state)
    )
    for dag_id, state, count in database.execute(query):
        found[dag_id][state] = count
    return found


def warnings(database: Connection) -> list[DagWarning]:
    """Of active DAGs: pools that there are not, schedules whose own code has failed."""
    query = select(dag.c.dag_id, dag.c.version_hash, dag.c.last_parsed_at).where(dag.c.is_active.is_(True))
    rows = database.execute(query.order_by(dag.c.dag_id)).all()
    known = settings(database, {row.version_hash for row in rows})
    pools = set(database.execute(select(pool.c.pool)).scalars())
    told = dag_plans.warnings(database)
    found = []
    for row in rows:
        at = row.last_parsed_at or _NEVER
        wanted = known[row.version_hash].pools if row.version_hash in known else frozenset()
        found += [
            DagWarning(
                row.dag_id,
                "non-existent pool",
                f"a task is to run in the pool {name!r}, which does not exist: it waits",
                at,
            )
            for name in sorted(wanted - pools)
        ]
        if row.dag_id in told:
            found.append(DagWarning(row.dag_id, "schedule", told[row.dag_id], at))
    return found


def task_queues(database: Connection) -> dict[str, dict[str, str]]:
    """dag_id → task_id → queue, of the tasks of current versions whose queue is not `default`."""
    rows = database.execute(
        select(dag.c.dag_id, dag_version.c.data)
        .join(dag_version, dag_version.c.hash == dag.c.version_hash)
        .where(dag_version.c.data.contains('"queue":"', autoescape=True))
    )
    found: dict[str, dict[str, str]] = {}
    for dag_id, data in rows:
        queues = {task["task_id"]: task["queue"] for task in json.loads(data)["tasks"] if "queue" in task}
        if queues:
            found[dag_id] = queues
    return found


def _filtered(query: Select[Any], which: DagFilter) -> Select[Any]:
    if which.dag_ids is not None:
        query = query.where(dag.c.dag_id.in_(sorted(which.dag_ids)))
    if which.active is not None:
        query = query.where(dag.c.is_active.is_(which.active))
    if which.paused is not None:
        query = query.where(dag.c.is_paused.is_(which.paused))
    if which.pattern:
        query = query.where(dag.c.dag_id.ilike(f"%{which.pattern}%"))
    if which.tags:
        query = query.where(or_(*map(_has_tag, which.tags)))
    return query


def _has_tag(tag: str) -> ColumnElement[bool]:
    """The column holds a JSON list of texts: this one with its quotation marks stands for nothing else."""
    spellings = {json.dumps(tag), json.dumps(tag, ensure_ascii=False)}
    # LIKE would take upper case for lower case on SQLite.
    return or_(*[func.length(func.replace(dag.c.tags, text, "")) < func.length(dag.c.tags) for text in spellings])


def _listed(database: Connection, rows: Collection[Any]) -> list[ListedDag]:
    known = settings(database, {row.version_hash for row in rows})
    return [ListedDag(_dag(row), known.get(row.version_hash), bool(row.listed_broken)) for row in rows]


_dag = lru_cache(maxsize=_KEPT)(dag_of)
"""By the row: most DAGs are as they were when the list was last asked for."""


def settings(database: Connection, hashes: Iterable[str]) -> dict[str, Settings]:
    """By version hash; of each version it is read once per process."""
    wanted = set(hashes)
    with _lock:
        found = {one: _settings[one] for one in wanted & _settings.keys()}
    missing = wanted - found.keys()
    if missing:
        query = select(dag_version.c.hash, dag_version.c.data).where(dag_version.c.hash.in_(sorted(missing)))
        read = {row.hash: _read_settings(json.loads(row.data)) for row in database.execute(query)}
        found |= read
        with _lock:
            _settings.update(read)
            while len(_settings) > _KEPT:
                _settings.popitem(last=False)
    return found


def _read_settings(data: dict[str, Any]) -> Settings:
    ui = data.get("ui", {})
    limits = ("max_active_tis_per_dag", "max_active_tis_per_dagrun")
    return Settings(
        timetable=data["timetable"],
        schedule_words=str(ui.get("schedule_words", "")),
        display_name=ui.get("display_name"),
        default_view=ui.get("default_view"),
        max_active_runs=data.get("max_active_runs"),
        max_active_tasks=data.get("max_active_tasks"),
        max_consecutive_failed_dag_runs=data.get("max_consecutive_failed_dag_runs"),
        limits_tasks=any(task.get(name) is not None for task in data["tasks"] for name in limits),
        pools=frozenset(task.get("pool", DEFAULT_POOL) for task in data["tasks"]),
        queues={task["task_id"]: task["queue"] for task in data["tasks"] if "queue" in task},
        display_names={
            task["task_id"]: str(task["ui"]["display_name"])
            for task in data["tasks"]
            if task.get("ui", {}).get("display_name")
        },
    )
