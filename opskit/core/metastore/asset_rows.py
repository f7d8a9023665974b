"""Rows of assets and of what refers to them. The caller holds the transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Connection

from opskit.core.dag import asset_conditions
from opskit.core.dag.asset_conditions import Leaf
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import asset, asset_partition_queue, asset_queue, asset_reference

SCHEDULE, OUTLET, INLET = "schedule", "outlet", "inlet"
_PART = 500


class NewAsset(NamedTuple):
    """`extra` is None where nobody says what it is: that of a known asset stays."""

    name: str
    uri: str
    group: str
    extra: dict[str, Any] | None = None


class Reference(NamedTuple):
    """Where a DAG names something: `task_id` is empty for its schedule."""

    task_id: str
    role: str
    leaf: Leaf
    watchers: tuple[str, ...] = ()


def leaf_hash(leaf: Leaf) -> str:
    """The hash by which references are found, and assets (as leaves of the kind `asset`)."""
    return hashlib.sha256("\0".join(leaf).encode()).hexdigest()


def asset_hash(name: str, uri: str) -> str:
    return leaf_hash(Leaf("asset", name, uri))


def alias_hash(name: str) -> str:
    return leaf_hash(Leaf("alias", name, ""))


def name_hash(name: str) -> str:
    return leaf_hash(Leaf("name", name, ""))


def uri_hash(uri: str) -> str:
    return leaf_hash(Leaf("uri", "", uri))


def ensure_assets(connection: Connection, assets: Collection[NewAsset], now: datetime) -> dict[tuple[str, str], int]:
    """`(name, uri)` → asset.id; those that are missing are made. Group and extra of the others are kept true."""
    wanted = {asset_hash(one.name, one.uri): one for one in assets}
    known = _by_hash(connection, wanted)
    missing = sorted(wanted.keys() - known.keys())
    if missing:
        rows = [
            {
                "hash": number,
                "name_hash": name_hash(wanted[number].name),
                "uri_hash": uri_hash(wanted[number].uri),
                "name": wanted[number].name,
                "uri": wanted[number].uri,
                "asset_group": wanted[number].group,
                "extra": _text(wanted[number].extra or {}),
                "created_at": now,
            }
            for number in missing
        ]
        connection.execute(_insert_or_leave(connection), rows)
        known.update(_by_hash(connection, missing))
    for number, row in known.items():
        extra = wanted[number].extra
        if extra is not None and (row.extra, row.asset_group) != (_text(extra), wanted[number].group):
            connection.execute(
                asset.update().where(asset.c.id == row.id).values(extra=_text(extra), asset_group=wanted[number].group)
            )
    return {(row.name, row.uri): row.id for row in known.values()}


def _by_hash(connection: Connection, hashes: Collection[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    ordered = sorted(hashes)
    for start in range(0, len(ordered), _PART):
        # Shared: while we refer to an asset, no clean-up takes it for one that nobody uses.
        query = select(asset).where(asset.c.hash.in_(ordered[start : start + _PART]))
        query = query.with_for_update(read=True, key_share=True)
        found.update({row.hash: row for row in connection.execute(query)})
    return found


def _insert_or_leave(connection: Connection) -> Any:
    """An INSERT that leaves a row alone that another transaction has made meanwhile."""
    kind = connection.dialect.name
    if kind == "postgresql":
        return postgresql.insert(asset).on_conflict_do_nothing(index_elements=["hash"])
    if kind == "sqlite":
        return sqlite.insert(asset).on_conflict_do_nothing(index_elements=["hash"])
    return mysql.insert(asset).on_duplicate_key_update(hash=asset.c.hash)


def _text(extra: Mapping[str, Any]) -> str:
    return json.dumps(extra, ensure_ascii=False, sort_keys=True)


def references_of(data: Mapping[str, Any]) -> tuple[list[Reference], list[NewAsset]]:
    """What a serialized DAG names, and the assets among that."""
    found: list[Reference] = []
    assets: dict[tuple[str, str], NewAsset] = {}
    for task_id, role, expression in _expressions(data):
        leaf = asset_conditions.leaf_of(expression)
        if leaf is None:
            continue
        own = expression.get("asset", {})
        found.append(Reference(task_id, role, leaf, tuple(own.get("watchers", ()))))
        if leaf.kind == "asset":
            assets[leaf.name, leaf.uri] = NewAsset(leaf.name, leaf.uri, own["group"], own.get("extra", {}))
    return list({(one.task_id, one.role, one.leaf): one for one in found}.values()), list(assets.values())


def _expressions(data: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    condition = data["timetable"].get("condition")
    todo = [] if condition is None else [condition]
    while todo:
        one = todo.pop()
        parts = one.get("all", one.get("any"))
        if parts is None:
            yield "", SCHEDULE, one
        else:
            todo += parts
    for task in data["tasks"]:
        for role, name in ((OUTLET, "outlets"), (INLET, "inlets")):
            for expression in task.get(name, ()):
                yield task["task_id"], role, expression


def store_references(connection: Connection, dags: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """Put the references of these DAGs (dag_id → serialized form) in the place of their former ones, and make the
    assets that they name. One statement where nobody uses assets."""
    rows: list[tuple[Any, ...]] = []
    assets: dict[tuple[str, str], NewAsset] = {}
    for dag_id, data in dags.items():
        references, named = references_of(data)
        assets.update({(one.name, one.uri): one for one in named})
        rows += [
            (dag_id, one.task_id, one.role, leaf_hash(one.leaf), *one.leaf, json.dumps(list(one.watchers)))
            for one in references
        ]
    dag_ids = sorted(dags)
    for start in range(0, len(dag_ids), _PART):
        some = dag_ids[start : start + _PART]
        connection.execute(delete(asset_reference).where(asset_reference.c.dag_id.in_(some)))
    if rows:
        columns = ["dag_id", "task_id", "role", "hash", "kind", "name", "uri", "watchers"]
        bulk_insert(connection, asset_reference, columns, rows, on_conflict="update")
        ensure_assets(connection, list(assets.values()), now)


def forget_dag(connection: Connection, dag_id: str) -> None:
    """Nothing refers to assets for this DAG any more, and it waits for nothing."""
    connection.execute(delete(asset_reference).where(asset_reference.c.dag_id == dag_id))
    for table in (asset_queue, asset_partition_queue):
        connection.execute(delete(table).where(table.c.dag_id == dag_id))


def condition_text(data: Mapping[str, Any]) -> str | None:
    """The `asset_condition` column of a serialized DAG."""
    condition = data["timetable"].get("condition")
    return None if condition is None else json.dumps(condition, sort_keys=True, ensure_ascii=False)


def hashes_of(names: Sequence[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Hash of a reference → the assets `(name, uri)` that it means, without aliases."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name, uri in names:
        for number in (asset_hash(name, uri), name_hash(name), uri_hash(uri)):
            found.setdefault(number, set()).add((name, uri))
    return found
