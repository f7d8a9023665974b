"""Pools: create, update, delete."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import pools
from opskit.core.metastore.interchange import PoolFields
from opskit.core.metastore.pools import Pool
from opskit.web.changes import auditing
from opskit.web.faults import Conflict
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store

_RESOURCE = "Pools"


def create(store: Store, who: Who, value: PoolFields) -> Pool:
    """Add a pool. Forbidden; Conflict when the name is taken; UsageError for what can't be a pool's."""
    who.require(CREATE, _RESOURCE)
    with store.changing() as database:
        if not pools.set_pool(database, value.pool, value.slots, value.description or None):
            # Nothing stays of it: the transaction is rolled back.
            raise Conflict(f"there is a pool {value.pool!r} already", hint="edit it, or choose another name")
        auditing.write(database, who, "pools set", datetime.now(UTC), pool=value.pool, slots=value.slots, new=True)
        return pools.get_pool(database, value.pool)


def update(store: Store, who: Who, name: str, fields: Mapping[str, Any]) -> Pool:
    """Change `slots`, `description` or the name (`pool`), and nothing else.

    Forbidden, NotFound, UsageError; GuardRefused for a new name of default_pool, or of a pool that is in use."""
    who.require(EDIT, _RESOURCE)
    with store.changing() as database:
        new = pools.update_pool(database, name, fields)
        said = {key: fields[key] for key in ("pool", "slots") if key in fields}
        auditing.write(
            database, who, "pools set", datetime.now(UTC), pool=name, new=False, fields=sorted(fields), to=said
        )
        return pools.get_pool(database, new)


def delete(store: Store, who: Who, name: str) -> None:
    """Forbidden, NotFound; GuardRefused for default_pool, and for a pool with task instances in flight."""
    who.require(DELETE, _RESOURCE)
    with store.changing() as database:
        pools.delete_pool(database, name)
        auditing.write(database, who, "pools delete", datetime.now(UTC), pool=name)
