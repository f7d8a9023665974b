"""Assets as lists show them: who makes them and waits for them, their events, and what waits in the queue.

A reference of a DAG names an asset by its name and URI, by one of the two, or through an alias; each has its hash.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, or_, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.asset_rows import OUTLET, SCHEDULE, uri_hash
from opskit.core.metastore.browsing.window import Window, cut, total
from opskit.core.metastore.dags import touch
from opskit.core.metastore.tables import (
    asset,
    asset_alias,
    asset_event,
    asset_event_run,
    asset_queue,
    asset_reference,
    dag,
    dag_run,
)
from opskit.errors import NotFound


@dataclass(slots=True)
class Dataset:
    """One asset. When a reference was made is not kept: `created_at` is the asset's own."""

    id: int
    name: str
    uri: str
    group: str
    extra: dict[str, Any]
    created_at: datetime
    producers: list[tuple[str, str]] = field(default_factory=list)
    """(dag_id, task_id)"""
    consumers: list[str] = field(default_factory=list)
    """DAGs that its events make runs of."""


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """A run that an event has made."""

    dag_id: str
    run_id: str
    logical_date: datetime
    start_date: datetime | None
    end_date: datetime | None
    state: str
    data_interval_start: datetime
    data_interval_end: datetime


@dataclass(slots=True)
class Event:
    """One event of an asset; without a source somebody made it by hand."""

    id: int
    asset_id: int
    uri: str
    at: datetime
    extra: dict[str, Any]
    source_dag_id: str | None
    source_task_id: str | None
    source_run_id: str | None
    source_map_index: int
    created_runs: list[CreatedRun] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Queued:
    """Events of an asset that no run of a DAG has been made of yet; `since` the oldest."""

    dag_id: str
    uri: str
    since: datetime


def datasets(
    connection: Connection, window: Window, *, uri_pattern: str | None = None, dag_ids: Collection[str] | None = None
) -> tuple[list[Dataset], int]:
    """Orders: id, uri, created_at, updated_at (which is when it was made). `uri_pattern`: a part of the URI, whatever
    its case. `dag_ids`: made or waited for by one of these DAGs."""
    query = select(asset)
    if uri_pattern is not None:
        query = query.where(func.lower(asset.c.uri).contains(uri_pattern.lower(), autoescape=True))
    if dag_ids is not None:
        hashes = select(asset_reference.c.hash).where(
            asset_reference.c.dag_id.in_(sorted(dag_ids)), asset_reference.c.role.in_((SCHEDULE, OUTLET))
        )
        linked = select(asset_alias.c.asset_id).where(asset_alias.c.name_hash.in_(hashes))
        query = query.where(
            or_(
                *(column.in_(hashes) for column in (asset.c.hash, asset.c.name_hash, asset.c.uri_hash)),
                asset.c.id.in_(linked),
            )
        )
    columns = {"id": asset.c.id, "uri": asset.c.uri, "created_at": asset.c.created_at, "updated_at": asset.c.created_at}
    rows = connection.execute(cut(query, window, columns, asset.c.id)).all()
    return _datasets(connection, rows), total(connection, query)


def dataset(connection: Connection, uri: str) -> Dataset:
    """The asset with this URI, the oldest when there are several. NotFound."""
    query = select(asset).where(asset.c.uri_hash == uri_hash(uri)).order_by(asset.c.id).limit(1)
    rows = connection.execute(query).all()
    if not rows:
        raise NotFound(f"there is no dataset {uri!r}", hint="opskit assets list shows all")
    return _datasets(connection, rows)[0]


def _datasets(connection: Connection, rows: Sequence[Any]) -> list[Dataset]:
    found = {
        row.id: Dataset(row.id, row.name, row.uri, row.asset_group, json.loads(row.extra), row.created_at)
        for row in rows
    }
    by_key: dict[str, list[Dataset]] = {}
    for row in rows:
        for key in (row.hash, row.name_hash, row.uri_hash):
            by_key.setdefault(key, []).append(found[row.id])
    for row in connection.execute(select(asset_alias).where(asset_alias.c.asset_id.in_(list(found)))):
        by_key.setdefault(row.name_hash, []).append(found[row.asset_id])
    query = (
        select(asset_reference)
        .join(dag, dag.c.dag_id == asset_reference.c.dag_id)
        .where(dag.c.is_active.is_(True), asset_reference.c.hash.in_(list(by_key)))
        .order_by(asset_reference.c.dag_id, asset_reference.c.task_id)
    )
    for row in connection.execute(query):
        for one in by_key[row.hash]:
            if row.role == SCHEDULE and row.dag_id not in one.consumers:
                one.consumers.append(row.dag_id)
            elif row.role == OUTLET and (row.dag_id, row.task_id) not in one.producers:
                one.producers.append((row.dag_id, row.task_id))
    return list(found.values())


# --- events ---


def events(connection: Connection, window: Window, wanted: Mapping[str, Any]) -> tuple[list[Event], int]:
    """`wanted`: values of asset_id, source_dag_id, source_task_id, source_run_id, source_map_index; None: any.

    Orders: timestamp, source_dag_id, source_task_id, source_run_id, source_map_index."""
    names = ("source_dag_id", "source_task_id", "source_run_id", "source_map_index")
    query = _events()
    for name, value in wanted.items():
        if value is not None:
            query = query.where(asset_event.c[name] == value)
    columns = {name: asset_event.c[name] for name in names} | {"timestamp": asset_event.c.at}
    found = [_event(row) for row in connection.execute(cut(query, window, columns, asset_event.c.id))]
    return _with_runs(connection, found), total(connection, query)


def event(connection: Connection, number: int) -> Event:
    """One event, which is there."""
    row = connection.execute(_events().where(asset_event.c.id == number)).one()
    return _with_runs(connection, [_event(row)])[0]


def newest_event(connection: Connection, asset_id: int) -> int:
    """The id of the newest event of an asset, which has one."""
    query = select(func.max(asset_event.c.id)).where(asset_event.c.asset_id == asset_id)
    return int(connection.execute(query).scalar_one())


def events_of_run(connection: Connection, dag_id: str, run_id: str) -> list[Event]:
    """The events that a run was made of, the oldest first. NotFound for an unknown run."""
    row = connection.execute(select(dag_run.c.id).where(dag_run.c.dag_id == dag_id, dag_run.c.run_id == run_id)).first()
    if row is None:
        raise NotFound(f"DAG {dag_id} has no run {run_id!r}")
    query = _events().join(asset_event_run, asset_event_run.c.event_id == asset_event.c.id)
    query = query.where(asset_event_run.c.dag_run_id == row.id).order_by(asset_event.c.id)
    return _with_runs(connection, [_event(one) for one in connection.execute(query)])


def _events() -> Select[Any]:
    return select(asset_event, asset.c.uri).join(asset, asset.c.id == asset_event.c.asset_id)


def _event(row: Any) -> Event:
    return Event(
        id=row.id,
        asset_id=row.asset_id,
        uri=row.uri,
        at=row.at,
        extra=json.loads(row.extra),
        source_dag_id=row.source_dag_id,
        source_task_id=row.source_task_id,
        source_run_id=row.source_run_id,
        source_map_index=row.source_map_index,
    )


def _with_runs(connection: Connection, found: list[Event]) -> list[Event]:
    by_id = {one.id: one for one in found}
    columns = ["dag_id", "run_id", "logical_date", "start_date", "end_date", "state"]
    columns += ["data_interval_start", "data_interval_end"]
    query = (
        select(asset_event_run.c.event_id, *(dag_run.c[name] for name in columns))
        .join(dag_run, dag_run.c.id == asset_event_run.c.dag_run_id)
        .where(asset_event_run.c.event_id.in_(list(by_id)))
        .order_by(dag_run.c.dag_id, dag_run.c.id)
    )
    for row in connection.execute(query):
        by_id[row.event_id].created_runs.append(CreatedRun(*(getattr(row, name) for name in columns)))
    return found


# --- what waits ---


def queued(
    connection: Connection,
    *,
    uri: str | None = None,
    dag_ids: Iterable[str] | None = None,
    before: datetime | None = None,
) -> list[Queued]:
    """What waits for these DAGs (None: for any), of this asset, since a time before `before`; by DAG and URI."""
    since = func.min(asset_event.c.at)
    query = (
        select(asset_queue.c.dag_id, asset.c.uri, since.label("since"))
        .join(asset, asset.c.id == asset_queue.c.asset_id)
        .join(asset_event, asset_event.c.id == asset_queue.c.event_id)
        .group_by(asset_queue.c.dag_id, asset.c.uri)
        .order_by(asset_queue.c.dag_id, asset.c.uri)
    )
    for condition in _of_queue(uri, dag_ids):
        query = query.where(condition)
    rows = connection.execute(query).all()
    return [Queued(row.dag_id, row.uri, row.since) for row in rows if before is None or row.since < before]


def forget_queued(
    connection: Connection,
    now: datetime,
    *,
    uri: str | None = None,
    dag_ids: Iterable[str] | None = None,
    before: datetime | None = None,
) -> int:
    """Remove from the queue what `queued` names (of it, events before `before`): no run will be made of it. How many
    events. Wake the schedulers after."""
    conditions = _of_queue(uri, dag_ids)
    rows = connection.execute(select(asset_queue.c.dag_id).distinct().where(*conditions)).scalars()
    # Whoever makes a run of the queue holds the row of its DAG.
    touch(connection, rows, now)
    if before is not None:
        conditions.append(asset_queue.c.event_id.in_(select(asset_event.c.id).where(asset_event.c.at < before)))
    return int(connection.execute(delete(asset_queue).where(*conditions)).rowcount)


def _of_queue(uri: str | None, dag_ids: Iterable[str] | None) -> list[Any]:
    conditions: list[Any] = []
    if uri is not None:
        ids = select(asset.c.id).where(asset.c.uri_hash == uri_hash(uri))
        conditions.append(asset_queue.c.asset_id.in_(ids))
    if dag_ids is not None:
        conditions.append(asset_queue.c.dag_id.in_(sorted(dag_ids)))
    return conditions
