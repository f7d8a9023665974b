"""The encrypted values as they are stored: which key reads each, and how they come under another.

A value is named `connections/<conn_id>/password`, `connections/<conn_id>/extra` or `variables/<key>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select, update
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import bulk_update, reading, transaction
from opskit.core.metastore.tables import connection, variable
from opskit.errors import NotFound

_TABLES: tuple[tuple[str, Table, str, tuple[str, ...]], ...] = (
    ("connections", connection, "conn_id", ("password", "extra")),
    ("variables", variable, "key", ("val",)),
)


@dataclass(frozen=True, slots=True)
class StoredSecret:
    name: str
    key: str
    """Fingerprint of the key that reads it; empty: none of the keys does, or it is not encrypted."""
    is_encrypted: bool = True


def list_secrets(database: Connection, cipher: Cipher) -> list[StoredSecret]:
    """All values that are, or should be, encrypted, by name."""
    found = []
    for kind, table, key, columns in _TABLES:
        for row in database.execute(select(table).order_by(table.c[key])):
            found += [
                StoredSecret(name, cipher.key_of(stored) if row.is_encrypted else "", row.is_encrypted)
                for name, stored in _stored(kind, row, key, columns)
            ]
    return found


def reencrypt(engine: Engine, cipher: Cipher, *, batch_size: int, after_batch: Callable[[int, int], None]) -> int:
    """Bring every value that can be read under the newest key of the cipher; how many changed. A transaction per batch,
    so it may be stopped and begun again at any point. `after_batch(done, total)` counts rows."""
    newest = cipher.fingerprint
    names: list[tuple[int, str]] = []
    with reading(engine) as database:
        for number, (_, table, key, _) in enumerate(_TABLES):
            names += [
                (number, name) for name in database.execute(select(table.c[key]).order_by(table.c[key])).scalars()
            ]
    changed = 0
    for start in range(0, len(names), batch_size):
        batch = names[start : start + batch_size]
        with transaction(engine) as database:
            for number, (_, table, key, columns) in enumerate(_TABLES):
                some = [name for which, name in batch if which == number]
                changed += _reencrypt(database, cipher, newest, table, key, columns, some) if some else 0
        after_batch(start + len(batch), len(names))
    return changed


def _reencrypt(
    database: Connection,
    cipher: Cipher,
    newest: str,
    table: Table,
    key: str,
    columns: tuple[str, ...],
    names: Sequence[str],
) -> int:
    rows = []
    changed = 0
    for row in database.execute(select(table).where(table.c[key].in_(names)).with_for_update()):
        values = {column: getattr(row, column) for column in columns}
        fresh = {column: _fresh(cipher, newest, stored, row.is_encrypted) for column, stored in values.items()}
        if fresh != values or not row.is_encrypted:
            changed += sum(fresh[column] != values[column] for column in columns)
            rows.append([row._mapping[key], *(fresh[column] for column in columns), True])
    bulk_update(database, table, [key], [*columns, "is_encrypted"], rows)
    return changed


def _fresh(cipher: Cipher, newest: str, stored: str | None, is_encrypted: bool) -> str | None:
    if not stored:
        return stored
    if not is_encrypted:
        return cipher.encrypt(stored)
    found = cipher.key_of(stored)
    return stored if found in ("", newest) else cipher.rotate(stored)


def adopt(engine: Engine, cipher: Cipher, other: Cipher) -> list[str]:
    """Bring values that only `other` can read under the newest key of the cipher; their names."""
    adopted = []
    with transaction(engine) as database:
        for kind, table, key, columns in _TABLES:
            for row in database.execute(select(table).with_for_update()).all():
                values: dict[str, Any] = {}
                for name, stored in _stored(kind, row, key, columns):
                    if not row.is_encrypted or cipher.key_of(stored) or not other.key_of(stored):
                        continue
                    column = name.rpartition("/")[2] if kind == "connections" else "val"
                    values[column] = cipher.encrypt(other.decrypt(stored, name))
                    adopted.append(name)
                if values:
                    database.execute(update(table).where(table.c[key] == row._mapping[key]).values(**values))
    return adopted


def set_secrets(database: Connection, cipher: Cipher, values: Mapping[str, str | None]) -> None:
    """Give values anew; None empties one. NotFound for a name that does not exist; UsageError for extras that are no
    JSON object."""
    from opskit.core.dag.connection import Connection as Checked

    for name, value in values.items():
        kind, _, rest = name.partition("/")
        known = {known: (table, key, columns) for known, table, key, columns in _TABLES}
        if kind not in known:
            raise NotFound(f"there is no secret {name!r}", hint="opskit fernet audit names them")
        table, key, columns = known[kind]
        row_name, _, column = rest.rpartition("/") if kind == "connections" else (rest, "", "val")
        if column not in columns:
            raise NotFound(f"there is no secret {name!r}", hint="connections/<conn_id>/password or …/extra")
        if column == "extra" and value is not None:
            Checked(row_name, extra=value)
        empty = "" if column == "val" else None
        stored = cipher.encrypt(value) if value else empty
        query = update(table).where(table.c[key] == row_name).values(**{column: stored})
        if database.execute(query).rowcount != 1:
            raise NotFound(f"there is no {kind.removesuffix('s')} {row_name!r}")


def _stored(kind: str, row: Any, key: str, columns: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for column in columns:
        stored = getattr(row, column)
        if stored:
            name = row._mapping[key]
            yield (f"{kind}/{name}/{column}" if kind == "connections" else f"{kind}/{name}"), stored
