"""Events of assets: recorded in the wave of the task that made them, queued for the DAGs that wait for them, and taken
from the queue when a run is made of them.

Whoever records events or makes a run of them holds the rows of the consumers in `dag`: so no event is counted for two
runs, and none is lost between them.
"""

from __future__ import annotations

import json
import logging
import secrets
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select
from sqlalchemy.engine import Connection, Row

from opskit.core.dag import asset_conditions, states
from opskit.core.dag.asset_conditions import Leaf
from opskit.core.metastore import asset_partitions
from opskit.core.metastore.asset_rows import NewAsset, alias_hash, ensure_assets, hashes_of, leaf_hash
from opskit.core.metastore.bulk import bulk_insert
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

logger = logging.getLogger(__name__)
ASSET_TRIGGERED, DATASET_TRIGGERED = "asset_triggered", "dataset_triggered"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event of an asset, which need not be known yet."""

    name: str
    uri: str
    group: str
    extra: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    source: tuple[str, str, str, int] | None = None
    """dag_id, task_id, run_id, map_index; None: made by hand."""
    partition_key: str | None = None
    partition_date: datetime | None = None


def of_result(
    events: Iterable[Mapping[str, Any]],
    source: tuple[str, str, str, int],
    partition: tuple[str | None, datetime | None] = (None, None),
) -> list[NewEvent]:
    """The `events` of a *Result*. `partition`: key and date of the run; an event that names another has no date."""
    made = []
    for one in events:
        key = one.get("partition_key") or partition[0]
        date = partition[1] if key == partition[0] else None
        aliases = tuple(one["aliases"])
        made.append(NewEvent(one["name"], one["uri"], one["group"], one["extra"], aliases, source, key, date))
    return made


def consumers(connection: Connection, events: Collection[NewEvent]) -> set[str]:
    """The DAGs that wait for assets or aliases of these events: to be locked before `record`."""
    return {row.dag_id for row in _consumer_rows(connection, events)}


def _consumer_rows(connection: Connection, events: Collection[NewEvent]) -> Sequence[Any]:
    plain = hashes_of([(one.name, one.uri) for one in events])
    aliases = {alias_hash(name) for one in events for name in one.aliases}
    hashes = [number for number, keys in plain.items() if keys]
    linked = select(asset_alias.c.name_hash).join(asset, asset.c.id == asset_alias.c.asset_id)
    linked = linked.where(asset.c.hash.in_(hashes))
    return connection.execute(
        select(dag.c.dag_id, dag.c.is_paused, dag.c.asset_condition, asset_reference.c.hash)
        .join(asset_reference, asset_reference.c.dag_id == dag.c.dag_id)
        .where(
            asset_reference.c.role == "schedule",
            or_(asset_reference.c.hash.in_([*hashes, *aliases]), asset_reference.c.hash.in_(linked)),
            dag.c.is_active.is_(True),
        )
    ).all()


def record(connection: Connection, events: Collection[NewEvent], now: datetime) -> set[str]:
    """Write these events, and queue them for the DAGs that wait for them; the DAGs whose condition is met now.

    For a paused DAG an event waits, too, and is one of those that its next run is made of; but it takes a later one to
    make that run.
    """
    ids = ensure_assets(connection, [NewAsset(one.name, one.uri, one.group) for one in events], now)
    links = {(alias_hash(name), ids[one.name, one.uri], name, now) for one in events for name in one.aliases}
    columns = ["name_hash", "asset_id", "name", "created_at"]
    bulk_insert(connection, asset_alias, columns, sorted(links), on_conflict="ignore")
    numbers = [_insert_event(connection, one, ids[one.name, one.uri], now) for one in events]
    waiting = _consumer_rows(connection, events)
    if not waiting:
        return set()
    of_alias = _assets_of_aliases(connection, {row.hash for row in waiting})
    plain = hashes_of([(one.name, one.uri) for one in events])
    queue: set[tuple[int, str, int, bool]] = set()
    partitioned = {row.dag_id: parsed for row in waiting if (parsed := _partitioned(row.asset_condition)) is not None}
    for row in waiting:
        for number, one in zip(numbers, events, strict=True):
            asset_id = ids[one.name, one.uri]
            if row.dag_id in partitioned or one.partition_key is not None:
                continue  # what waits for partitions waits for nothing else, and nobody else for them
            if (one.name, one.uri) in plain.get(row.hash, ()) or asset_id in of_alias.get(row.hash, ()):
                queue.add((number, row.dag_id, asset_id, not row.is_paused))
    for dag_id, condition in partitioned.items():
        new = [
            (number, ids[one.name, one.uri], (one.name, one.uri), one.partition_key, one.partition_date)
            for number, one in zip(numbers, events, strict=True)
        ]
        asset_partitions.enqueue(connection, dag_id, condition, new)
    columns = ["event_id", "dag_id", "asset_id", "counts"]
    bulk_insert(connection, asset_queue, columns, sorted(queue), on_conflict="ignore")
    return _met(
        connection, {row.dag_id: row.asset_condition for row in waiting if row.asset_condition and not row.is_paused}
    )


def _insert_event(connection: Connection, one: NewEvent, asset_id: int, now: datetime) -> int:
    dag_id, task_id, run_id, map_index = one.source or (None, None, None, -1)
    done = connection.execute(
        insert(asset_event).values(
            asset_id=asset_id,
            at=now,
            extra=json.dumps(dict(one.extra), ensure_ascii=False),
            aliases=json.dumps(sorted(one.aliases), ensure_ascii=False),
            source_dag_id=dag_id,
            source_task_id=task_id,
            source_run_id=run_id,
            source_map_index=map_index,
            partition_key=one.partition_key,
        )
    )
    assert done.inserted_primary_key is not None
    return int(done.inserted_primary_key[0])


def _assets_of_aliases(connection: Connection, hashes: Collection[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    query = select(asset_alias.c.name_hash, asset_alias.c.asset_id).where(asset_alias.c.name_hash.in_(sorted(hashes)))
    for row in connection.execute(query):
        found.setdefault(row.name_hash, set()).add(row.asset_id)
    return found


def _met(connection: Connection, conditions: Mapping[str, str]) -> set[str]:
    """Those of these DAGs (dag_id → condition as JSON text) whose condition is met by what waits for them."""
    parted = {dag_id: parsed for dag_id, text in conditions.items() if (parsed := _partitioned(text)) is not None}
    met = {dag_id for dag_id, condition in parted.items() if asset_partitions.ready(connection, dag_id, condition)}
    conditions = {dag_id: text for dag_id, text in conditions.items() if dag_id not in parted}
    if not conditions:
        return met
    waiting: dict[str, set[int]] = {}
    assets: dict[int, tuple[str, str]] = {}
    rows = connection.execute(
        select(asset_queue.c.dag_id, asset.c.id, asset.c.name, asset.c.uri)
        .distinct()
        .join(asset, asset.c.id == asset_queue.c.asset_id)
        .where(asset_queue.c.dag_id.in_(sorted(conditions)), asset_queue.c.counts.is_(True))
    )
    for row in rows:
        waiting.setdefault(row.dag_id, set()).add(row.id)
        assets[row.id] = (row.name, row.uri)
    parsed = {dag_id: json.loads(conditions[dag_id]) for dag_id in waiting}
    aliases = {
        alias_hash(leaf.name)
        for condition in parsed.values()
        for leaf in asset_conditions.leaves(condition)
        if leaf.kind == "alias"
    }
    of_alias = _assets_of_aliases(connection, aliases) if aliases else {}

    def there(dag_id: str, leaf: Leaf) -> bool:
        have = waiting[dag_id]
        if leaf.kind == "alias":
            return bool(have & of_alias.get(alias_hash(leaf.name), set()))
        keys = [assets[number] for number in have]
        if leaf.kind == "asset":
            return (leaf.name, leaf.uri) in keys
        return any(name == leaf.name if leaf.kind == "name" else uri == leaf.uri for name, uri in keys)

    return met | {
        dag_id
        for dag_id, condition in parsed.items()
        if asset_conditions.evaluate(condition, lambda leaf, dag_id=dag_id: there(dag_id, leaf))  # type: ignore[misc]
    }


def start_run(connection: Connection, dag_id: str, timetable: Mapping[str, Any], now: datetime) -> Row[Any] | None:
    """Make a queued run of all events that wait for a DAG, when they meet its condition; its row, else None. The caller
    holds the DAG's row, and knows that it may have another run. Of a DAG that waits for partitions: of the events of
    one partition."""
    if asset_partitions.is_partitioned(timetable["condition"]):
        return _start_partition(connection, dag_id, timetable, now)
    if not _met(connection, {dag_id: json.dumps(timetable["condition"])}):
        return None
    events = _queued(connection, dag_id, timetable["condition"])
    at = _free_date(connection, dag_id, now)
    start, end = (at, at) if timetable.get("dialect") == 3 else _interval(connection, events)
    run_type = DATASET_TRIGGERED if timetable.get("dialect") == 2 else ASSET_TRIGGERED
    values = {
        "dag_id": dag_id,
        "run_id": _run_id(run_type, at, timetable.get("dialect")),
        "run_type": run_type,
        "logical_date": at,
        "data_interval_start": start,
        "data_interval_end": end,
        "queued_at": now,
    }
    row = _insert_run(connection, values, [event.id for event in events])
    connection.execute(delete(asset_queue).where(asset_queue.c.dag_id == dag_id))
    return row


def _start_partition(
    connection: Connection, dag_id: str, timetable: Mapping[str, Any], now: datetime
) -> Row[Any] | None:
    dropped = asset_partitions.drop_stale(connection, dag_id, timetable["condition"])
    if dropped:
        logger.info("%s: %d events waited for partitions that its mappers do not lead to any more", dag_id, dropped)
    ready = asset_partitions.ready(connection, dag_id, timetable["condition"])
    if not ready:
        return None
    at = _free_date(connection, dag_id, now)
    values = {
        "dag_id": dag_id,
        "run_id": _run_id(ASSET_TRIGGERED, at, 3),
        "run_type": ASSET_TRIGGERED,
        "logical_date": at,
        "data_interval_start": at,
        "data_interval_end": at,
        "queued_at": now,
        "partition_key": ready[0].key,
        "partition_date": ready[0].date,
    }
    row = _insert_run(connection, values, ready[0].event_ids)
    asset_partitions.take(connection, dag_id, ready[0].key)
    return row


def _insert_run(connection: Connection, values: Mapping[str, Any], event_ids: Iterable[int]) -> Row[Any]:
    done = connection.execute(insert(dag_run).values(state=states.QUEUED, conf="{}", **values))
    assert done.inserted_primary_key is not None
    number = int(done.inserted_primary_key[0])
    rows = [(event_id, number) for event_id in event_ids]
    bulk_insert(connection, asset_event_run, ["event_id", "dag_run_id"], rows, on_conflict="ignore")
    return connection.execute(select(dag_run).where(dag_run.c.id == number)).one()


def _partitioned(condition: str | None) -> dict[str, Any] | None:
    """A condition (JSON text) whose runs are of partitions; None for any other."""
    if condition is None or '"mapper"' not in condition:
        return None
    parsed: dict[str, Any] = json.loads(condition)
    return parsed if asset_partitions.is_partitioned(parsed) else None


def _queued(connection: Connection, dag_id: str, condition: dict[str, Any]) -> list[Row[Any]]:
    """The events in the queue of a DAG, the oldest first; without those of assets that its condition, since it was
    changed, does not name any more."""
    rows = connection.execute(
        select(asset_event, asset.c.name, asset.c.uri)
        .join(asset_queue, asset_queue.c.event_id == asset_event.c.id)
        .join(asset, asset.c.id == asset_event.c.asset_id)
        .where(asset_queue.c.dag_id == dag_id)
        .order_by(asset_event.c.id)
    ).all()
    wanted = {leaf_hash(leaf) for leaf in asset_conditions.leaves(condition)}
    meant = {
        key
        for number, keys in hashes_of([(row.name, row.uri) for row in rows]).items()
        if number in wanted
        for key in keys
    }
    linked = {number for numbers in _assets_of_aliases(connection, wanted).values() for number in numbers}
    return [row for row in rows if (row.name, row.uri) in meant or row.asset_id in linked]


def _run_id(run_type: str, at: datetime, dialect: int | None) -> str:
    # Airflow 3 adds a random word: there, such runs have no logical date that would tell them apart.
    letters = string.ascii_letters + string.digits
    word = "_" + "".join(secrets.choice(letters) for _ in range(8)) if dialect == 3 else ""
    return f"{run_type}__{at.isoformat()}{word}"


def _free_date(connection: Connection, dag_id: str, now: datetime) -> datetime:
    newest = connection.execute(
        select(func.max(dag_run.c.logical_date)).where(
            dag_run.c.dag_id == dag_id,
            dag_run.c.logical_date >= now,
            dag_run.c.logical_date < now + timedelta(seconds=1),
        )
    ).scalar()
    return now if newest is None else newest + timedelta(microseconds=1)


def _interval(connection: Connection, events: Sequence[Row[Any]]) -> tuple[datetime, datetime]:
    """From the earliest start to the latest end of the runs that the events come from; the time of an event where
    nobody knows its run."""
    sources = sorted({(event.source_dag_id, event.source_run_id) for event in events if event.source_dag_id})
    known: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for begin in range(0, len(sources), 200):
        wanted = [
            and_(dag_run.c.dag_id == dag_id, dag_run.c.run_id == run_id)
            for dag_id, run_id in sources[begin : begin + 200]
        ]
        query = select(
            dag_run.c.dag_id, dag_run.c.run_id, dag_run.c.data_interval_start, dag_run.c.data_interval_end
        ).where(or_(*wanted))
        for row in connection.execute(query):
            known[row.dag_id, row.run_id] = (row.data_interval_start, row.data_interval_end)
    spans = [known.get((event.source_dag_id, event.source_run_id), (event.at, event.at)) for event in events]
    return min(start for start, _ in spans), max(end for _, end in spans)
