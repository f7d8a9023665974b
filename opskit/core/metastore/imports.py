"""Brings what `interchange` read into the metastore, and says of each item what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection as DatabaseConnection

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, pools, variables
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.interchange import PoolFields
from opskit.core.metastore.variables import Variable


@dataclass(slots=True)
class Imported:
    """Names by what happened."""

    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """They exist with another content, and were not to be replaced."""

    def note(self, name: str, *, exists: bool, same: bool, overwrite: bool) -> bool:
        """Decide about one item; whether it is to be written."""
        if same:
            self.unchanged.append(name)
        elif exists and not overwrite:
            self.kept.append(name)
        else:
            (self.replaced if exists else self.added).append(name)
            return True
        return False


def import_connections(
    database: DatabaseConnection, cipher: Cipher, items: Iterable[Connection], *, overwrite: bool
) -> Imported:
    done = Imported()
    broken: list[str] = []
    there = {str(item.conn_id): item for item in connections.list_connections(database, cipher, None, broken)}
    for item in items:
        name = str(item.conn_id)
        old = there.get(name)
        if old is not None and item.description is None:
            item.description = old.description  # a URI holds none
        same = old is not None and old == item and old.description == item.description
        if done.note(name, exists=old is not None or name in broken, same=same, overwrite=overwrite):
            connections.put_connection(database, cipher, item, overwrite=True)
    return done


def import_variables(
    database: DatabaseConnection, cipher: Cipher, items: Iterable[Variable], *, overwrite: bool
) -> Imported:
    done = Imported()
    broken: list[str] = []
    there = {item.key: item for item in variables.list_variables(database, cipher, None, broken)}
    for item in items:
        old = there.get(item.key)
        same = old is not None and old.value == item.value and item.description in (None, old.description)
        if done.note(item.key, exists=old is not None or item.key in broken, same=same, overwrite=overwrite):
            variables.set_variable(database, cipher, item.key, item.value, item.description)
    return done


def import_pools(database: DatabaseConnection, items: Iterable[PoolFields], *, overwrite: bool = True) -> Imported:
    done = Imported()
    there = {item.pool: item for item in pools.list_pools(database)}
    for item in items:
        old = there.get(item.pool)
        same = old is not None and (old.slots, old.description or "") == (item.slots, item.description)
        if done.note(item.pool, exists=old is not None, same=same, overwrite=overwrite):
            pools.set_pool(database, item.pool, item.slots, item.description)
    return done
