"""Events of partitions on their way to runs: which partitions of a DAG an event is for, and when one has all it needs.

A condition whose leaves have a `mapper` is of a `PartitionedAssetTimetable`. The caller holds the DAG's row."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.engine import Connection

from opskit.core.dag import asset_conditions
from opskit.core.dag.asset_conditions import Leaf
from opskit.core.dag.partition_mappers import PartitionMapper, RollupMapper, downstream_keys, mapper_from
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import asset, asset_partition_queue

logger = logging.getLogger(__name__)

Asset = tuple[str, str]
"""name, URI"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits in the queue of a DAG, for one partition of it."""

    event_id: int
    partition_key: str
    source_key: str
    asset: Asset
    partition_date: datetime | None


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition that a run can be made of."""

    key: str
    date: datetime | None
    event_ids: tuple[int, ...]


def is_partitioned(condition: Mapping[str, Any]) -> bool:
    """Whether the runs of this condition are of partitions."""
    if "mapper" in condition:
        return True
    return any(is_partitioned(part) for part in condition.get("all", condition.get("any", ())))


def _leaves(condition: Mapping[str, Any]) -> Iterable[tuple[Leaf, PartitionMapper]]:
    leaf = asset_conditions.leaf_of(dict(condition))
    if leaf is not None:
        yield leaf, mapper_from(condition["mapper"])
        return
    for part in condition.get("all", condition.get("any", ())):
        yield from _leaves(part)


def _names(leaf: Leaf, found: Asset) -> bool:
    if leaf.kind == "asset":
        return (leaf.name, leaf.uri) == found
    return found[0] == leaf.name if leaf.kind == "name" else leaf.kind == "uri" and found[1] == leaf.uri


def keys_for(
    condition: Mapping[str, Any], found: Asset, source_key: str, date: datetime | None
) -> dict[str, datetime | None]:
    """The partitions of a DAG that an event of this partition is for, with what stays of its date. ValueError, or what
    else a mapper raises, for a key that it can't map."""
    for leaf, mapper in _leaves(condition):
        if _names(leaf, found):
            carried = mapper.carry_partition_date(date)
            return dict.fromkeys(downstream_keys(mapper, source_key), carried)
    return {}


def enqueue(
    connection: Connection,
    dag_id: str,
    condition: Mapping[str, Any],
    events: Iterable[tuple[int, int, Asset, str | None, datetime | None]],
) -> None:
    """Queue events `(event_id, asset_id, (name, uri), partition_key, partition_date)` for a DAG. One that no run can be
    made of is told in the log, and left out."""
    rows = []
    for event_id, asset_id, found, key, date in events:
        if key is None:
            logger.warning("%s waits for partitions of asset %s, but its event has no partition key", dag_id, found[0])
            continue
        try:
            keys = keys_for(condition, found, key, date)
        except (ValueError, TypeError) as error:
            logger.warning("%s can't map the partition %r of asset %s: %s", dag_id, key, found[0], error)
            continue
        rows += [(event_id, dag_id, target, asset_id, key, carried) for target, carried in keys.items()]
    columns = ["event_id", "dag_id", "partition_key", "asset_id", "source_key", "partition_date"]
    bulk_insert(connection, asset_partition_queue, columns, rows, on_conflict="ignore")


def ready(connection: Connection, dag_id: str, condition: Mapping[str, Any]) -> list[Partition]:
    """The partitions of a DAG whose condition is met, those first whose first event is oldest."""
    leaves = list(_leaves(condition))
    found: dict[str, list[Waiting]] = {}
    for one in _waiting(connection, dag_id):
        found.setdefault(one.partition_key, []).append(one)
    made = []
    for key, waiting in found.items():
        there = functools.partial(_there, leaves, key, waiting)
        if asset_conditions.evaluate(dict(condition), there):
            numbers = tuple(dict.fromkeys(one.event_id for one in waiting))
            made.append(Partition(key, _date(leaves, key, waiting), numbers))
    return made


def _there(leaves: Sequence[tuple[Leaf, PartitionMapper]], key: str, waiting: Sequence[Waiting], leaf: Leaf) -> bool:
    mine = [one for one in waiting if _names(leaf, one.asset)]
    mapper = next(mapper for other, mapper in leaves if other == leaf)
    if not mine or not isinstance(mapper, RollupMapper):
        return bool(mine)
    try:
        return mapper.enough(key, {one.source_key for one in mine})
    except ValueError as error:
        logger.warning("the partition %r of asset %s can't be decided: %s", key, leaf.name or leaf.uri, error)
        return False


def _date(leaves: Sequence[tuple[Leaf, PartitionMapper]], key: str, waiting: Sequence[Waiting]) -> datetime | None:
    """When the partition begins, where the mappers of all its events agree; else what the events have carried."""
    dates = set()
    for leaf, mapper in leaves:
        if any(_names(leaf, one.asset) for one in waiting):
            try:
                dates.add(mapper.to_partition_date(key))
            except ValueError as error:
                logger.warning("the partition %r tells no date: %s", key, error)
    dates.discard(None)
    if not dates:
        dates = {one.partition_date for one in waiting}
    return dates.pop() if len(dates) == 1 else None


def _waiting(connection: Connection, dag_id: str) -> list[Waiting]:
    queue = asset_partition_queue.c
    rows = connection.execute(
        select(queue.event_id, queue.partition_key, queue.source_key, queue.partition_date, asset.c.name, asset.c.uri)
        .join(asset, asset.c.id == queue.asset_id)
        .where(queue.dag_id == dag_id)
        .order_by(queue.event_id, queue.partition_key)
    )
    return [
        Waiting(row.event_id, row.partition_key, row.source_key, (row.name, row.uri), row.partition_date)
        for row in rows
    ]


def take(connection: Connection, dag_id: str, partition_key: str) -> None:
    """A run has been made of this partition: nothing waits for it any more."""
    queue = asset_partition_queue
    connection.execute(delete(queue).where(queue.c.dag_id == dag_id, queue.c.partition_key == partition_key))


def drop_stale(connection: Connection, dag_id: str, condition: Mapping[str, Any] | None) -> int:
    """Forget what waits for partitions that the DAG's mappers, since they were changed, do not lead to; how much."""
    gone = []
    for one in _waiting(connection, dag_id):
        try:
            kept = condition is not None and one.partition_key in keys_for(condition, one.asset, one.source_key, None)
        except (ValueError, TypeError, KeyError):
            kept = False
        if not kept:
            gone.append((one.event_id, one.partition_key))
    queue = asset_partition_queue.c
    for start in range(0, len(gone), 200):
        some = [and_(queue.event_id == number, queue.partition_key == key) for number, key in gone[start : start + 200]]
        connection.execute(delete(asset_partition_queue).where(queue.dag_id == dag_id, or_(*some)))
    return len(gone)
