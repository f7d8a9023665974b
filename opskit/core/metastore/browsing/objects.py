"""Lists of connections, variables and pools, a part at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.browsing.window import Window, cut, total
from opskit.core.metastore.connections import Shown, shown
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.pools import Pool
from opskit.core.metastore.tables import connection as connection_table
from opskit.core.metastore.tables import pool, task_instance, variable
from opskit.errors import OpskitError

_COUNTED = (states.SCHEDULED, states.QUEUED, states.RUNNING, states.DEFERRED)


def connections(database: Connection, window: Window) -> tuple[list[Shown], int]:
    """Orders: connection_id, conn_type, description, host, port, id. Nothing is decrypted."""
    table = connection_table
    columns = {name: table.c[name] for name in ("conn_type", "description", "host", "port")}
    columns |= {"connection_id": table.c.conn_id, "id": table.c.conn_id}
    query = select(table)
    rows = database.execute(cut(query, window, columns, table.c.conn_id))
    return [shown(row) for row in rows], total(database, query)


@dataclass(frozen=True, slots=True)
class ReadVariable:
    """A variable; a value of None can't be decrypted with the keys that there are."""

    key: str
    value: str | None
    description: str | None


def variables(database: Connection, window: Window, cipher: Cipher) -> tuple[list[ReadVariable], int]:
    """Orders: key, id (the key, too), value (as it is stored: encrypted)."""
    columns = {"key": variable.c.key, "id": variable.c.key, "value": variable.c.val}
    query = select(variable)
    found = []
    for row in database.execute(cut(query, window, columns, variable.c.key)):
        try:
            value = cipher.decrypt(row.val, f"variable {row.key!r}") if row.is_encrypted and row.val else row.val
        except OpskitError:
            value = None
        found.append(ReadVariable(row.key, value, row.description))
    return found, total(database, query)


def pools(database: Connection, window: Window) -> tuple[list[Pool], int]:
    """Orders: name, slots, id (the name, too)."""
    columns = {"name": pool.c.pool, "id": pool.c.pool, "slots": pool.c.slots}
    query = select(pool)
    rows = database.execute(cut(query, window, columns, pool.c.pool))
    return [Pool(**row._mapping) for row in rows], total(database, query)


@dataclass(slots=True)
class Slots:
    """Slots of a pool by the state of the task instances that want or have them."""

    by_state: dict[str, int] = field(default_factory=dict)

    def of(self, state: str) -> int:
        return self.by_state.get(state, 0)


def slots(database: Connection, names: Collection[str]) -> dict[str, Slots]:
    """Pool → its slots by state, of scheduled, queued, running and deferred task instances."""
    found = {name: Slots() for name in names}
    query = (
        select(task_instance.c.pool, task_instance.c.state, func.sum(task_instance.c.pool_slots).label("many"))
        .where(task_instance.c.state.in_(_COUNTED), task_instance.c.pool.in_(sorted(names)))
        .group_by(task_instance.c.pool, task_instance.c.state)
    )
    for row in database.execute(query):
        found[row.pool].by_state[row.state] = int(row.many)
    return found
