"""The configuration tier: connections, variables, pools, users, roles and pause states as one small JSON value.

Passwords of users are hashes, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.contents import Secrets
from opskit.core.metastore.engine import reading
from opskit.core.metastore.partial import Change
from opskit.core.metastore.pools import delete_pool
from opskit.core.metastore.schema import DEFAULT_POOL, current_revision
from opskit.core.metastore.tables import connection, dag, pool, variable, web_role, web_user
from opskit.core.metastore.users import remove_user
from opskit.errors import OpskitError, VerificationFailed

FORMAT = 1
_TABLES: dict[str, tuple[Table, str, tuple[str, ...]]] = {
    "connections": (
        connection,
        "conn_id",
        ("conn_id", "conn_type", "description", "host", "schema", "login", "password", "port", "extra", "is_encrypted"),
    ),
    "variables": (variable, "key", ("key", "val", "is_encrypted", "description")),
    "pools": (pool, "pool", ("pool", "slots", "description")),
    "users": (
        web_user,
        "username",
        ("username", "first_name", "last_name", "email", "password", "is_active", "roles", "identity"),
    ),
    "roles": (web_role, "name", ("name", "permissions")),
    "pauses": (dag, "dag_id", ("dag_id", "is_paused")),
}
_SINCE = {"users": "0003", "roles": "0003"}
"""The revision of the schema that brought a table. What is older has no such section: then nothing is known of it."""
_SECRETS = {"connections": ("password", "extra"), "variables": ("val",)}
KINDS = {
    "connection": "connections",
    "variable": "variables",
    "pool": "pools",
    "role": "roles",
    "user": "users",
    "dag-pause": "pauses",
}
"""What one item is called, and the section it stands in."""
_KIND_OF = {section: kind for kind, section in KINDS.items()}

Decrypt = Callable[[str, str], str]
"""`decrypt(value, what)` gives the text, or raises OpskitError for a value that the keys can't read."""


def small_set(rows: Callable[[str], list[dict[str, Any]]], revision: str | None) -> dict[str, Any]:
    """The small set as plain JSON values, ordered. Encrypted values stay so. `rows(table)` gives a table's rows;
    `revision` is that of the schema."""
    data: dict[str, Any] = {"format": FORMAT}
    for name, (table, key, columns) in _TABLES.items():
        if (revision or "") < _SINCE.get(name, ""):
            continue
        data[name] = [
            {column: bool(row[column]) if column.startswith("is_") else row[column] for column in columns}
            for row in sorted(rows(table.name), key=lambda row: str(row[key]))
        ]
    return data


def read_small_set(source: Connection) -> dict[str, Any]:
    """The small set of an open metastore."""
    tables = {table.name: (table, columns) for table, _, columns in _TABLES.values()}

    def rows(name: str) -> list[dict[str, Any]]:
        table, columns = tables[name]
        return [dict(row._mapping) for row in source.execute(select(*[table.c[column] for column in columns]))]

    return small_set(rows, current_revision(source))


def read_live(engine: Engine) -> dict[str, Any]:
    """The small set of a metastore in use: one state of it, without holding anybody up."""
    if engine.dialect.name != "sqlite":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with reading(engine) as source:
        return read_small_set(source)


def select_items(data: Mapping[str, Any], items: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The small set with these items (kind, name) only. Those that are not there are left out."""
    wanted = set(items)
    chosen: dict[str, Any] = {"format": data["format"]}
    for kind, section in KINDS.items():
        if section in data:
            chosen[section] = [row for row in data[section] if (kind, row[_TABLES[section][1]]) in wanted]
    return chosen


def check_secrets(data: Mapping[str, Any], decrypt: Decrypt | None) -> Secrets:
    """Decrypt every secret of a small set. None: there is no key."""
    total, unreadable = 0, []
    for name, columns in _SECRETS.items():
        key = _TABLES[name][1]
        for row in data[name]:
            for column in columns:
                if not row["is_encrypted"] or not row[column]:
                    continue
                total += 1
                what = f"{_KIND_OF[name]} {row[key]}: {column}"
                try:
                    if decrypt is None:
                        raise OpskitError("there is no key")
                    decrypt(row[column], what)
                except OpskitError:
                    unreadable.append(what)
    return Secrets(total, tuple(unreadable))


def decide(
    present: Mapping[str, Any],
    wanted: Mapping[str, Any],
    *,
    unpause: bool = False,
    exact: bool = False,
    decrypt: Decrypt | None = None,
) -> list[Change]:
    """What it takes to give a metastore, whose small set is `present`, the small set `wanted`.

    No DAG is unpaused unless `unpause`; what `wanted` does not have stays unless `exact`. Secrets are compared
    decrypted where that is possible, so that a rotated key alone changes nothing.
    """
    if wanted.get("format") != FORMAT:
        raise VerificationFailed(f"the small set has format {wanted.get('format')!r}, this opskit reads {FORMAT}")
    changes = []
    for kind, section in KINDS.items():
        if section not in wanted:
            continue
        key = _TABLES[section][1]
        there = {row[key]: row for row in present[section]}
        for row in wanted[section]:
            before = there.pop(row[key], None)
            if before is None:
                if section == "pauses":
                    changes.append(Change(kind, row[key], "keep", (), "there is no such DAG"))
                else:
                    changes.append(Change(kind, row[key], "create"))
                continue
            fields = tuple(name for name in row if not _same(section, name, before, row, decrypt))
            if not fields:
                continue
            if section == "pauses" and not row["is_paused"] and not unpause:
                changes.append(Change(kind, row[key], "keep", fields, "a restore unpauses only when it is told to"))
            else:
                changes.append(Change(kind, row[key], "update", fields))
        if section != "pauses":
            for name in there:
                if not exact or (section == "pools" and name == DEFAULT_POOL):
                    changes.append(Change(kind, name, "keep", (), "it is newer: only an exact restore deletes"))
                else:
                    changes.append(Change(kind, name, "delete"))
    return changes


def _same(
    section: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any], decrypt: Decrypt | None
) -> bool:
    if before[name] == after[name]:
        return True
    secret = name in _SECRETS.get(section, ()) and before["is_encrypted"] and after["is_encrypted"]
    if not secret or decrypt is None or not before[name] or not after[name]:
        return False
    try:
        return decrypt(before[name], name) == decrypt(after[name], name)
    except OpskitError:
        return False


def apply(target: Connection, data: Mapping[str, Any], changes: Sequence[Change], now: datetime) -> None:
    """Carry out what `decide` said, in the caller's transaction. GuardRefused for a pool that is in use and must go."""
    for change in changes:
        table, key, _ = _TABLES[KINDS[change.kind]]
        if change.action == "keep":
            continue
        if change.action == "delete":
            if table is pool:
                delete_pool(target, change.name)
            elif table is web_user:
                remove_user(target, change.name)
            else:
                target.execute(delete(table).where(table.c[key] == change.name))
            continue
        row = next(row for row in data[KINDS[change.kind]] if row[key] == change.name)
        values = dict(row)
        if change.action == "create":
            target.execute(insert(table).values(**values))
            continue
        if table is dag:
            # Its scheduler reads it again.
            values |= {"revision": dag.c.revision + 1, "wake_at": now}
        target.execute(update(table).where(table.c[key] == change.name).values(**values))
