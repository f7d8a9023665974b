"""What people and tasks ask of assets, and events that people make."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.dag.asset_conditions import Leaf
from opskit.core.dag.runtime import EventRow
from opskit.core.metastore import asset_events
from opskit.core.metastore.asset_rows import INLET, OUTLET, SCHEDULE, alias_hash, asset_hash, leaf_hash
from opskit.core.metastore.dags import nearest, touch
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
from opskit.errors import NotFound, UsageError

_BATCH = 500


@dataclass(slots=True)
class AssetInfo:
    """One asset, with who makes it and who waits for it."""

    id: int
    name: str
    uri: str
    group: str
    extra: dict[str, Any]
    producers: list[tuple[str, str]] = field(default_factory=list)
    """(dag_id, task_id)"""
    consumers: list[str] = field(default_factory=list)
    """DAGs that it makes runs of."""
    readers: list[tuple[str, str]] = field(default_factory=list)
    """(dag_id, task_id) of tasks that have it among their inlets."""
    aliases: list[str] = field(default_factory=list)
    watchers: list[str] = field(default_factory=list)
    events: int = 0
    last_event_at: datetime | None = None


def list_assets(connection: Connection) -> list[AssetInfo]:
    """All assets, by name and URI."""
    found = {
        row.id: AssetInfo(row.id, row.name, row.uri, row.asset_group, json.loads(row.extra))
        for row in connection.execute(select(asset).order_by(asset.c.name, asset.c.uri))
    }
    counted = select(asset_event.c.asset_id, func.count().label("many"), func.max(asset_event.c.at).label("newest"))
    for row in connection.execute(counted.group_by(asset_event.c.asset_id)):
        if row.asset_id in found:
            found[row.asset_id].events, found[row.asset_id].last_event_at = row.many, row.newest
    by_alias: dict[str, list[AssetInfo]] = {}
    for row in connection.execute(select(asset_alias).order_by(asset_alias.c.name)):
        if row.asset_id in found:
            found[row.asset_id].aliases.append(row.name)
            by_alias.setdefault(row.name_hash, []).append(found[row.asset_id])
    by_hash: dict[str, list[AssetInfo]] = dict(by_alias)
    for one in found.values():
        for leaf in (Leaf("asset", one.name, one.uri), Leaf("name", one.name, ""), Leaf("uri", "", one.uri)):
            by_hash.setdefault(leaf_hash(leaf), []).append(one)
    references = select(asset_reference).join(dag, dag.c.dag_id == asset_reference.c.dag_id)
    references = references.where(dag.c.is_active.is_(True)).order_by(*asset_reference.primary_key.columns)
    for row in connection.execute(references):
        for one in by_hash.get(row.hash, ()):
            _add(one, row)
    return list(found.values())


def _add(one: AssetInfo, row: Any) -> None:
    if row.role == SCHEDULE:
        if row.dag_id not in one.consumers:
            one.consumers.append(row.dag_id)
    elif row.role == OUTLET:
        if (row.dag_id, row.task_id) not in one.producers:
            one.producers.append((row.dag_id, row.task_id))
    elif row.role == INLET and (row.dag_id, row.task_id) not in one.readers:
        one.readers.append((row.dag_id, row.task_id))
    one.watchers += [name for name in json.loads(row.watchers) if name not in one.watchers]


def find_asset(connection: Connection, name: str | None = None, uri: str | None = None) -> dict[str, Any] | None:
    """The asset with this name (and this URI), the first one when there are several: name, uri, group, extra."""
    row = _find(connection, name, uri)
    if row is None:
        return None
    return {"name": row.name, "uri": row.uri, "group": row.asset_group, "extra": json.loads(row.extra)}


def _find(connection: Connection, name: str | None, uri: str | None) -> Any:
    query = select(asset).order_by(asset.c.id).limit(1)
    if name is not None and uri is not None:
        query = query.where(asset.c.hash == asset_hash(name, uri))
    elif name is not None:
        query = query.where(asset.c.name_hash == leaf_hash(Leaf("name", name, "")))
    else:
        query = query.where(asset.c.uri_hash == leaf_hash(Leaf("uri", "", uri or "")))
    return connection.execute(query).first()


def get_asset(connection: Connection, name_or_uri: str) -> Any:
    """The row of the asset with this name or this URI. NotFound, naming the nearest one."""
    row = _find(connection, name_or_uri, None) or _find(connection, None, name_or_uri)
    if row is None:
        known = connection.execute(select(asset.c.name).order_by(asset.c.name)).scalars().all()
        raise NotFound(
            f"there is no asset {name_or_uri!r}", hint=nearest(name_or_uri, known) or "opskit assets list shows all"
        )
    return row


def events(
    connection: Connection,
    *,
    name: str | None = None,
    uri: str | None = None,
    alias: str | None = None,
    dag_id: str | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    ascending: bool = True,
    limit: int | None = None,
) -> list[EventRow]:
    """Events of assets with this name and URI, through this alias, made by this DAG; None: of any. `after` and `before`
    are excluded."""
    query = _events()
    if name is not None:
        query = query.where(asset.c.name_hash == leaf_hash(Leaf("name", name, "")))
    if uri is not None:
        query = query.where(asset.c.uri_hash == leaf_hash(Leaf("uri", "", uri)))
    if alias is not None:
        linked = select(asset_alias.c.asset_id).where(asset_alias.c.name_hash == alias_hash(alias))
        query = query.where(asset_event.c.asset_id.in_(linked))
    if dag_id is not None:
        query = query.where(asset_event.c.source_dag_id == dag_id)
    if after is not None:
        query = query.where(asset_event.c.at > after)
    if before is not None:
        query = query.where(asset_event.c.at < before)
    query = query.order_by(asset_event.c.id.asc() if ascending else asset_event.c.id.desc())
    if limit is not None and alias is None:
        query = query.limit(limit)
    found = [_event(row) for row in connection.execute(query)]
    if alias is not None:
        # The asset may have had other events, that did not come through the alias.
        found = [event for event in found if alias in event["aliases"]][:limit]
    return found


def triggering_events(connection: Connection, dag_id: str, run_id: str) -> list[EventRow]:
    """The events that made a run, the oldest first."""
    query = (
        _events()
        .join(asset_event_run, asset_event_run.c.event_id == asset_event.c.id)
        .join(dag_run, dag_run.c.id == asset_event_run.c.dag_run_id)
        .where(dag_run.c.dag_id == dag_id, dag_run.c.run_id == run_id)
        .order_by(asset_event.c.id)
    )
    return [_event(row) for row in connection.execute(query)]


def runs_of_events(connection: Connection, ids: Collection[int]) -> dict[int, list[tuple[str, str]]]:
    """asset_event.id → `(dag_id, run_id)` of the runs that it has made."""
    found: dict[int, list[tuple[str, str]]] = {}
    ordered = sorted(ids)
    for start in range(0, len(ordered), _BATCH):
        query = (
            select(asset_event_run.c.event_id, dag_run.c.dag_id, dag_run.c.run_id)
            .join(dag_run, dag_run.c.id == asset_event_run.c.dag_run_id)
            .where(asset_event_run.c.event_id.in_(ordered[start : start + _BATCH]))
            .order_by(asset_event_run.c.event_id, dag_run.c.dag_id)
        )
        for row in connection.execute(query):
            found.setdefault(row.event_id, []).append((row.dag_id, row.run_id))
    return found


def waiting(connection: Connection) -> dict[str, dict[tuple[str, str], int]]:
    """dag_id → `(name, uri)` of an asset → its events that no run of that DAG has been made of yet."""
    query = (
        select(asset_queue.c.dag_id, asset.c.name, asset.c.uri, func.count().label("many"))
        .join(asset, asset.c.id == asset_queue.c.asset_id)
        .group_by(asset_queue.c.dag_id, asset.c.name, asset.c.uri)
        .order_by(asset_queue.c.dag_id, asset.c.name)
    )
    found: dict[str, dict[tuple[str, str], int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.dag_id, {})[row.name, row.uri] = row.many
    return found


def make_event(
    connection: Connection,
    name_or_uri: str,
    extra: Mapping[str, Any],
    now: datetime,
    partition_key: str | None = None,
) -> set[str]:
    """An event that no task has made; the DAGs whose condition it meets. Call `wake` after the commit. NotFound;
    UsageError for a partition key that is empty or longer than 250 characters."""
    row = get_asset(connection, name_or_uri)
    if partition_key is not None and not 1 <= len(partition_key.strip()) <= len(partition_key) <= 250:
        raise UsageError("a partition key has 1 to 250 characters")
    new = [asset_events.NewEvent(row.name, row.uri, row.asset_group, dict(extra), partition_key=partition_key)]
    touch(connection, asset_events.consumers(connection, new), now)
    return asset_events.record(connection, new, now)


def producer_of(connection: Connection, name_or_uri: str) -> str:
    """The one DAG that makes this asset. NotFound when none does; UsageError when several do."""
    row = get_asset(connection, name_or_uri)
    found = next(one for one in list_assets(connection) if one.id == row.id)
    dag_ids = sorted({dag_id for dag_id, _ in found.producers})
    if not dag_ids:
        raise NotFound(f"no DAG makes the asset {row.name!r}", hint="opskit assets trigger makes an event by hand")
    if len(dag_ids) > 1:
        raise UsageError(
            f"several DAGs make the asset {row.name!r}: {', '.join(dag_ids)}", hint="trigger one: opskit dags trigger"
        )
    return dag_ids[0]


def _events() -> Any:
    return select(asset_event, asset.c.name, asset.c.uri, asset.c.asset_group, asset.c.extra.label("asset_extra")).join(
        asset, asset.c.id == asset_event.c.asset_id
    )


def _event(row: Any) -> EventRow:
    return {
        "id": row.id,
        "at": row.at,
        "name": row.name,
        "uri": row.uri,
        "group": row.asset_group,
        "asset_extra": json.loads(row.asset_extra),
        "extra": json.loads(row.extra),
        "source_dag_id": row.source_dag_id,
        "source_task_id": row.source_task_id,
        "source_run_id": row.source_run_id,
        "source_map_index": row.source_map_index,
        "aliases": json.loads(row.aliases),
        "partition_key": row.partition_key,
    }


def as_json(rows: Iterable[EventRow]) -> list[dict[str, Any]]:
    """Events with their times as text."""
    return [{**row, "at": row["at"].isoformat()} for row in rows]
