"""DAGs as rows: what the DAG processor stores, and what people ask of them and do to them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from opskit.core.dag import serialized, states
from opskit.core.metastore import asset_rows
from opskit.core.metastore.history import delete_runs
from opskit.core.metastore.tables import dag, dag_file, dag_run, dag_version, held_dag, task_instance
from opskit.errors import GuardRefused, NotFound


@dataclass(frozen=True, slots=True)
class Dag:
    """One DAG, as lists and pages show it."""

    dag_id: str
    fileloc: str
    is_paused: bool
    is_active: bool
    version_hash: str
    description: str | None
    owners: list[str]
    tags: list[str]
    schedule: str
    last_parsed_at: datetime | None
    next_logical_date: datetime | None
    next_interval_start: datetime | None
    next_interval_end: datetime | None
    next_run_after: datetime | None
    unpaused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileError:
    """A DAG file whose last load failed. DAGs of earlier loads go on with their last good version."""

    path: str
    at: datetime
    error: str


def touch(connection: Connection, dag_ids: Iterable[str], now: datetime) -> int:
    """Tell the schedulers, in the transaction of the change, that these DAGs were changed from outside; how many exist.

    Locks the rows, in the order that the schedulers lock them in. Call it *before* the change itself: then the change
    waits for a wave under way and never deadlocks with it. After the commit, wake the schedulers.
    """
    names = sorted(set(dag_ids))
    if not names:
        return 0
    connection.execute(select(dag.c.dag_id).where(dag.c.dag_id.in_(names)).order_by(dag.c.dag_id).with_for_update())
    done = connection.execute(
        update(dag).where(dag.c.dag_id.in_(names)).values(revision=dag.c.revision + 1, wake_at=now)
    )
    return done.rowcount


def list_dags(
    connection: Connection,
    *,
    include_inactive: bool = False,
    paused: bool | None = None,
    dag_ids: Collection[str] | None = None,
) -> list[Dag]:
    """DAGs in the order of their ids. `paused`: only those that are, or only those that are not."""
    query = select(dag).order_by(dag.c.dag_id)
    if not include_inactive:
        query = query.where(dag.c.is_active.is_(True))
    if paused is not None:
        query = query.where(dag.c.is_paused.is_(paused))
    if dag_ids is not None:
        query = query.where(dag.c.dag_id.in_(list(dag_ids)))
    return [dag_of(row) for row in connection.execute(query)]


_BY_ID = select(dag).where(dag.c.dag_id == bindparam("named"))


def get_dag(connection: Connection, dag_id: str) -> Dag:
    """One DAG, also an inactive one. NotFound, naming the nearest one."""
    row = connection.execute(_BY_ID, {"named": dag_id}).first()
    if row is None:
        raise _not_found(connection, dag_id)
    return dag_of(row)


def get_serialized(connection: Connection, dag_id: str, version_hash: str | None = None) -> serialized.SerializedDag:
    """The DAG's tasks and settings, of this version or of the current one. NotFound when it is not there."""
    return serialized.load(json.loads(_version(connection, dag_id, version_hash).data))


def newest_tasks(connection: Connection, dag_ids: Collection[str]) -> dict[str, list[str]]:
    """The task_ids of the current version of each of these DAGs that is active."""
    rows = connection.execute(
        select(dag.c.dag_id, dag_version.c.data)
        .join(dag_version, dag_version.c.hash == dag.c.version_hash)
        .where(dag.c.dag_id.in_(list(dag_ids)), dag.c.is_active.is_(True))
    )
    return {row.dag_id: [task["task_id"] for task in json.loads(row.data)["tasks"]] for row in rows}


def unfinished_tasks(connection: Connection, tasks: Mapping[str, Collection[str]]) -> dict[tuple[str, str], int]:
    """(dag_id, task_id) → task instances of these tasks that have not ended, of runs that go on."""
    wanted = [
        and_(dag_run.c.dag_id == dag_id, task_instance.c.task_id.in_(sorted(task_ids)))
        for dag_id, task_ids in tasks.items()
    ]
    if not wanted:
        return {}
    rows = connection.execute(
        select(dag_run.c.dag_id, task_instance.c.task_id, func.count().label("many"))
        .select_from(task_instance.join(dag_run, dag_run.c.id == task_instance.c.dag_run_id))
        .where(
            dag_run.c.state.in_((states.QUEUED, states.RUNNING)),
            or_(task_instance.c.state.is_(None), task_instance.c.state.not_in(sorted(states.FINISHED))),
            or_(*wanted),
        )
        .group_by(dag_run.c.dag_id, task_instance.c.task_id)
    )
    return {(row.dag_id, row.task_id): row.many for row in rows}


def get_source(connection: Connection, dag_id: str) -> str | None:
    """Text of the DAG file when the current version was loaded."""
    source: str | None = _version(connection, dag_id, None).source
    return source


def set_paused(connection: Connection, dag_ids: Collection[str], paused: bool, now: datetime) -> list[str]:
    """Pause or unpause DAGs; the ids of those that were not so before. NotFound for an id that does not exist.

    Who says it of one DAG means it: such a DAG is no longer among those that `held_dags.resume_all` unpauses.
    """
    known = {item.dag_id: item for item in list_dags(connection, include_inactive=True, dag_ids=dag_ids)}
    for dag_id in dag_ids:
        if dag_id not in known:
            raise _not_found(connection, dag_id)
    changed = sorted(dag_id for dag_id in known if known[dag_id].is_paused != paused)
    if changed:
        touch(connection, changed, now)
        connection.execute(update(dag).where(dag.c.dag_id.in_(changed)).values(is_paused=paused))
        if not paused:
            connection.execute(update(dag).where(dag.c.dag_id.in_(changed)).values(unpaused_at=now))
    connection.execute(delete(held_dag).where(held_dag.c.dag_id.in_(list(known))))
    return changed


def import_errors(connection: Connection) -> list[FileError]:
    """Files whose last load failed, by path."""
    rows = connection.execute(
        select(dag_file.c.path, dag_file.c.parsed_at, dag_file.c.import_error)
        .where(dag_file.c.import_error.is_not(None))
        .order_by(dag_file.c.path)
    )
    return [FileError(row.path, row.parsed_at, row.import_error) for row in rows]


def delete_dag(connection: Connection, dag_id: str) -> int:
    """Forget a DAG with its runs, versions and history; how many runs went. A DAG whose file is still there comes back
    as a new one. NotFound for an unknown one, GuardRefused while an attempt of it is in flight."""
    row = connection.execute(select(dag.c.fileloc).where(dag.c.dag_id == dag_id).with_for_update()).first()
    if row is None:
        raise _not_found(connection, dag_id)
    in_flight = connection.execute(
        select(func.count())
        .select_from(task_instance.join(dag_run, dag_run.c.id == task_instance.c.dag_run_id))
        .where(dag_run.c.dag_id == dag_id, task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    ).scalar()
    if in_flight:
        raise GuardRefused(
            f"DAG {dag_id} has {in_flight} task instances in flight",
            hint="pause it and wait for them, or mark their runs failed first",
        )
    removed = delete_runs(connection, select(dag_run.c.id).where(dag_run.c.dag_id == dag_id))
    asset_rows.forget_dag(connection, dag_id)
    connection.execute(delete(dag_version).where(dag_version.c.dag_id == dag_id))
    connection.execute(delete(held_dag).where(held_dag.c.dag_id == dag_id))
    connection.execute(delete(dag).where(dag.c.dag_id == dag_id))
    for file in connection.execute(select(dag_file).where(dag_file.c.path == row.fileloc)):
        # Without its row the DAG processor loads the file again, if it is there.
        connection.execute(delete(dag_file).where(dag_file.c.path_hash == file.path_hash))
    return removed


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A hint that names what is most like `name`; None when nothing is."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else None


def _not_found(connection: Connection, dag_id: str) -> NotFound:
    known = connection.execute(select(dag.c.dag_id).order_by(dag.c.dag_id)).scalars().all()
    return NotFound(
        f"there is no DAG {dag_id!r}",
        hint=nearest(dag_id, known) or "opskit dags list shows all; opskit dags list-import-errors what failed to load",
    )


def _version(connection: Connection, dag_id: str, version_hash: str | None) -> Any:
    query = select(dag_version.c.data, dag_version.c.source)
    if version_hash is None:
        query = query.join(dag, dag.c.version_hash == dag_version.c.hash).where(dag.c.dag_id == dag_id)
    else:
        query = query.where(dag_version.c.hash == version_hash, dag_version.c.dag_id == dag_id)
    row = connection.execute(query).first()
    if row is None:
        if version_hash is not None:
            raise NotFound(f"there is no version {version_hash} of DAG {dag_id!r}")
        raise _not_found(connection, dag_id)
    return row


def dag_of(row: Any) -> Dag:
    return Dag(
        dag_id=row.dag_id,
        fileloc=row.fileloc,
        is_paused=row.is_paused,
        is_active=row.is_active,
        version_hash=row.version_hash,
        description=row.description,
        owners=[owner.strip() for owner in row.owners.split(",") if owner.strip()],
        tags=json.loads(row.tags),
        schedule=row.schedule,
        last_parsed_at=row.last_parsed_at,
        next_logical_date=row.next_logical_date,
        next_interval_start=row.next_interval_start,
        next_interval_end=row.next_interval_end,
        next_run_after=row.next_run_after,
        unpaused_at=row.unpaused_at,
    )


def owners_text(owners: Sequence[str]) -> str:
    """As the `owners` column holds them."""
    return ", ".join(owners)[:2000]
