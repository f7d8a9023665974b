"""Pools: how many slots task instances may occupy at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from opskit.core.dag import states
from opskit.core.metastore.dags import nearest
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.core.metastore.tables import pool, task_instance
from opskit.errors import GuardRefused, NotFound, UsageError

_LONGEST_NAME = 250


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool; `used_slots` are those of task instances in flight."""

    pool: str
    slots: int
    used_slots: int
    description: str | None

    @property
    def open_slots(self) -> int:
        return max(0, self.slots - self.used_slots)


def list_pools(connection: Connection) -> list[Pool]:
    """All pools by name."""
    return [Pool(**row._mapping) for row in connection.execute(select(pool).order_by(pool.c.pool))]


def get_pool(connection: Connection, name: str) -> Pool:
    """One pool. NotFound, naming the nearest one, when there is none."""
    row = connection.execute(select(pool).where(pool.c.pool == name)).first()
    if row is None:
        raise _not_found(connection, name)
    return Pool(**row._mapping)


def set_pool(connection: Connection, name: str, slots: int, description: str | None = None) -> bool:
    """Make or change a pool; whether it is new. A description of None leaves the one that is there.

    Slots may be fewer than are used now: then nothing starts in it until enough have ended. Wake the schedulers after.
    """
    check_pool(name, slots)
    there = connection.execute(select(pool.c.pool).where(pool.c.pool == name).with_for_update()).first()
    values: dict[str, object] = {"slots": slots}
    if description is not None:
        values["description"] = description
    if there is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(pool).values(pool=name, used_slots=0, **values))
            return True
        except IntegrityError:
            pass  # somebody else has made it at the same time
    connection.execute(update(pool).where(pool.c.pool == name).values(**values))
    return False


def update_pool(connection: Connection, name: str, fields: Mapping[str, Any]) -> str:
    """Change `slots`, `description`, or the name (`pool`); what is not in `fields` stays. The name from now on.

    NotFound; UsageError for what can't be a pool's, and for a name that is taken; GuardRefused for another name of
    default_pool, or of one with task instances in flight. Wake the schedulers after.
    """
    row = connection.execute(select(pool).where(pool.c.pool == name).with_for_update()).first()
    if row is None:
        raise _not_found(connection, name)
    unknown = sorted(fields.keys() - {"pool", "slots", "description"})
    if unknown:
        raise UsageError(f"pool {name}: {', '.join(unknown)} can't be changed")
    new = str(fields.get("pool", name))
    check_pool(new, int(fields.get("slots", row.slots)))
    if new != name:
        if name == DEFAULT_POOL:
            raise GuardRefused(f"{DEFAULT_POOL} can't have another name", hint="tasks without a pool run in it")
        if connection.execute(select(pool.c.pool).where(pool.c.pool == new)).first() is not None:
            raise UsageError(f"there is a pool {new!r} already", hint="choose another name")
        _refuse_in_flight(connection, name)
    if fields:
        connection.execute(update(pool).where(pool.c.pool == name).values(**fields))
    return new


def check_pool(name: str, slots: int) -> None:
    """UsageError for a name or number that can't be a pool's."""
    if not name or len(name) > _LONGEST_NAME:
        raise UsageError(f"a pool's name has 1 to {_LONGEST_NAME} characters")
    if slots < 0:
        raise UsageError(f"pool {name}: {slots} slots are less than none", hint="0 stops all tasks of the pool")


def delete_pool(connection: Connection, name: str) -> None:
    """NotFound for an unknown pool; GuardRefused for default_pool, and for one with task instances in flight."""
    get_pool(connection, name)
    if name == DEFAULT_POOL:
        raise GuardRefused(f"{DEFAULT_POOL} can't be deleted", hint="change its slots instead")
    _refuse_in_flight(connection, name)
    connection.execute(delete(pool).where(pool.c.pool == name))


def _refuse_in_flight(connection: Connection, name: str) -> None:
    in_flight = connection.execute(
        select(func.count())
        .select_from(task_instance)
        .where(task_instance.c.pool == name, task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    ).scalar()
    if in_flight:
        raise GuardRefused(f"pool {name} has {in_flight} task instances in flight", hint="set its slots to 0 and wait")


def _not_found(connection: Connection, name: str) -> NotFound:
    return NotFound(f"there is no pool {name!r}", hint=nearest(name, [known.pool for known in list_pools(connection)]))
