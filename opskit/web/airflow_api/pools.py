"""/pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field, field_validator

from opskit.core.dag import states
from opskit.core.metastore import pools
from opskit.core.metastore.browsing import objects
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.interchange import PoolFields as Stored
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Answer, Body, Listing, Number, UpdateMask, changed, paged
from opskit.web.changes import pools as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["Pool"])
_Reader = Annotated[Who, Depends(allow(READ, "Pools"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Pools"))]
_Editor = Annotated[Who, Depends(allow(EDIT, "Pools"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Pools"))]
_Slots = Annotated[Number, Field(ge=0)]


class Pool(Answer):
    """A pool, with its slots by what the task instances that have or want them are doing."""

    name: str
    slots: int
    occupied_slots: int
    running_slots: int
    queued_slots: int
    scheduled_slots: int
    deferred_slots: int
    open_slots: int
    description: str | None
    include_deferred: bool = Field(description="Always false: a deferred task instance occupies no slot.")


class PoolCollection(Listing):
    pools: list[Pool]


class _Written(Body):
    description: str | None = None
    include_deferred: Annotated[bool, Field(json_schema_extra={"const": False})] = False

    @field_validator("include_deferred")
    @classmethod
    def _never(cls, value: bool) -> bool:
        if value:
            raise ValueError("a deferred task instance occupies no slot here")
        return value


class NewPool(_Written):
    """A pool."""

    name: str = Field(min_length=1, max_length=250)
    slots: _Slots


class PoolPatch(_Written):
    """What can be changed of a pool."""

    name: str | None = Field(None, min_length=1, max_length=250)
    slots: _Slots | None = None


@router.get("/pools", operation_id="get_pools")
def get_pools(store: TheStore, _: _Reader, window: Annotated[Window, paged("name", "id", "slots")]) -> PoolCollection:
    """List pools."""
    with store.reading() as database:
        found, total = objects.pools(database, window)
        return PoolCollection(pools=_shown(database, found), total_entries=total)


@router.post("/pools", operation_id="post_pool")
def post_pool(store: TheStore, who: _Creator, body: NewPool) -> Pool:
    """Add a pool."""
    changes.create(store, who, Stored(body.name, body.slots, body.description or ""))
    return _answer(store, body.name)


@router.get("/pools/{pool_name:path}", operation_id="get_pool")
def get_pool(store: TheStore, _: _Reader, pool_name: str) -> Pool:
    """Get a pool."""
    return _answer(store, pool_name)


@router.patch("/pools/{pool_name:path}", operation_id="patch_pool")
def patch_pool(store: TheStore, who: _Editor, pool_name: str, body: PoolPatch, mask: UpdateMask) -> Pool:
    """Change slots, description or name of a pool. Without `update_mask`, name and slots are needed, as in Airflow."""
    if mask is None and (body.name is None or body.slots is None):
        raise UsageError("without update_mask, name and slots must be sent", hint="for example ?update_mask=slots")
    fields = changed(body, mask)
    fields.pop("include_deferred", None)
    if fields.get("slots", 0) is None or fields.get("name", "") is None:
        raise UsageError("name and slots can't be null")
    if "name" in fields:
        fields["pool"] = fields.pop("name")
    return _answer(store, changes.update(store, who, pool_name, fields).pool)


@router.delete("/pools/{pool_name:path}", operation_id="delete_pool", status_code=204)
def delete_pool(store: TheStore, who: _Deleter, pool_name: str) -> None:
    """Delete a pool that no task instance in flight uses."""
    if pool_name == DEFAULT_POOL:
        raise UsageError(f"{DEFAULT_POOL} can't be deleted", hint="change its slots instead")  # 400, as in Airflow
    changes.delete(store, who, pool_name)


def _answer(store: TheStore, name: str) -> Pool:
    with store.reading() as database:
        return _shown(database, [pools.get_pool(database, name)])[0]


def _shown(database: Connection, found: Sequence[pools.Pool]) -> list[Pool]:
    by_pool = objects.slots(database, [one.pool for one in found])
    return [
        Pool(
            name=one.pool,
            slots=one.slots,
            occupied_slots=one.used_slots,
            running_slots=by_pool[one.pool].of(states.RUNNING),
            queued_slots=by_pool[one.pool].of(states.QUEUED),
            scheduled_slots=by_pool[one.pool].of(states.SCHEDULED),
            deferred_slots=by_pool[one.pool].of(states.DEFERRED),
            open_slots=one.open_slots,
            description=one.description,
            include_deferred=False,
        )
        for one in found
    ]
