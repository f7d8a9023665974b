"""What tasks keep: for their own next tries (`task_state`), and about assets (`asset_state`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, or_, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.asset_rows import leaf_hash
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.runs import find_run
from opskit.core.metastore.tables import asset, asset_state, task_state
from opskit.errors import NotFound, UsageError

Scope = Sequence[Any]
"""`("task", dag_id, run_id, task_id, map_index)` or `("asset", name, uri)`; of an asset one of both may be None."""


def _rows(connection: Connection, scope: Scope) -> tuple[Table, dict[str, Any]]:
    """The table of a scope, and the columns that say whose state it is. NotFound for an unknown run or asset."""
    if scope[0] == "task":
        _, dag_id, run_id, task_id, map_index = scope
        run = find_run(connection, dag_id, run_id)
        if run is None:
            raise NotFound(f"DAG {dag_id} has no run {run_id!r}")
        return task_state, {"dag_run_id": run.id, "task_id": task_id, "map_index": map_index}
    _, name, uri = scope
    query = select(asset.c.id)
    if name is not None:
        query = query.where(asset.c.name_hash == _hash("name", name))
    if uri is not None:
        query = query.where(asset.c.uri_hash == _hash("uri", uri))
    found = connection.execute(query.order_by(asset.c.id).limit(1)).scalar()
    if found is None:
        raise NotFound(f"there is no asset {name or uri!r}")
    return asset_state, {"asset_id": found}


def _hash(kind: str, text: str) -> str:
    from opskit.core.dag.asset_conditions import Leaf

    return leaf_hash(Leaf(kind, text, "") if kind == "name" else Leaf(kind, "", text))


def get_state(connection: Connection, scope: Scope, key: str, now: datetime) -> Any:
    """The value; None when there is none, or when its time is over."""
    table, whose = _rows(connection, scope)
    query = select(table.c.value).where(_is(table, whose), table.c.key == key)
    if table is task_state:
        query = query.where(or_(task_state.c.expires_at.is_(None), task_state.c.expires_at > now))
    text = connection.execute(query).scalar()
    return None if text is None else json.loads(text)


def set_state(connection: Connection, scope: Scope, key: str, value: Any, expires_at: datetime | None) -> None:
    """Write a value in the place of an older one; `expires_at` is of no meaning for an asset. UsageError for what is no
    JSON, and for a key of more than 250 characters."""
    if not key or len(key) > 250:
        raise UsageError(f"the key {key[:50]!r} can't be kept: it must have 1 to 250 characters")
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the value of {key!r} can't be written as JSON: {error}") from error
    table, whose = _rows(connection, scope)
    values = {**whose, "key": key, "value": text}
    if table is task_state:
        values["expires_at"] = expires_at
    bulk_insert(connection, table, list(values), [tuple(values.values())], on_conflict="update")


def delete_state(connection: Connection, scope: Scope, key: str | None) -> int:
    """Forget a value, or all (None); how many there were."""
    table, whose = _rows(connection, scope)
    which = [table.c.key == key] if key is not None else []
    return connection.execute(delete(table).where(_is(table, whose), *which)).rowcount


def _is(table: Table, whose: dict[str, Any]) -> ColumnElement[bool]:
    return and_(*[table.c[name] == value for name, value in whose.items()])
