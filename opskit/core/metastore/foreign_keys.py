"""Foreign keys as the live database tells them: in which order rows go, which are still referenced, what is missing.

It works on any schema, not on our tables only: nothing here is a list that somebody must keep up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    FromClause,
    MetaData,
    Table,
    and_,
    delete,
    exists,
    func,
    inspect,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.engine import transaction

_LONGEST_WAY = 8
"""Of cascades from table to table."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows of `child` refer to rows of `parent`."""

    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    action: str
    """What the database does with the child when the parent is deleted: CASCADE, SET NULL, or empty: it refuses."""
    indexed: bool
    """Whether the database can find the child's rows without reading them all."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """Of one table: rows that went, and rows that stay because something still refers to them."""

    table: str
    removed: int
    referenced: int


def references(connection: Connection) -> list[Reference]:
    """All of the current schema."""
    inspector = inspect(connection)
    found = []
    indexes, keys = inspector.get_multi_indexes(), inspector.get_multi_pk_constraint()
    unique = inspector.get_multi_unique_constraints()
    for place, constraints in inspector.get_multi_foreign_keys().items():
        child = place[1]
        starts = [tuple(index["column_names"]) for index in indexes.get(place, [])]
        starts += [tuple(constraint["column_names"]) for constraint in unique.get(place, [])]
        starts.append(tuple(keys[place]["constrained_columns"]) if place in keys else ())
        for key in constraints:
            columns = tuple(key["constrained_columns"])
            action = str(key.get("options", {}).get("ondelete") or "").upper()
            action = "SET NULL" if action.startswith("SET ") else action if action == "CASCADE" else ""
            found.append(
                Reference(
                    child,
                    columns,
                    key["referred_table"],
                    tuple(key["referred_columns"]),
                    action,
                    any(set(start[: len(columns)]) == set(columns) for start in starts),
                )
            )
    return sorted(found, key=lambda one: (one.child, one.columns))


def children_first(tables: Sequence[str], known: Sequence[Reference]) -> list[str]:
    """The tables in an order in which each stands before those that it refers to. Where they refer to each other in a
    circle, the first by name goes first: rows that are still referenced stay, whatever the order."""
    left, ordered = sorted(tables), []
    while left:
        free = [
            table
            for table in left
            if not any(r.parent == table and r.child in left and r.child != table for r in known)
        ]
        chosen = free or left[:1]
        ordered += chosen
        left = [table for table in left if table not in chosen]
    return ordered


def missing_indexes(known: Sequence[Reference], kind: str) -> list[str]:
    """Statements that make the indexes without which each deletion of a parent reads the whole child table."""
    lines = []
    for one in known:
        if not one.indexed:
            concurrently = "CONCURRENTLY " if kind == "postgresql" else ""
            name = f"ix_{one.child}_{'_'.join(one.columns)}"[:63]
            lines.append(f"CREATE INDEX {concurrently}{name} ON {one.child} ({', '.join(one.columns)});")
    return sorted(set(lines))


def unreferenced(
    table: FromClause,
    name: str,
    reflected: MetaData,
    known: Sequence[Reference],
    alone: Collection[str],
    depth: int = 0,
) -> ColumnElement[bool]:
    """A condition on rows of `table`: nothing refers to them. Rows of tables that are not in `alone` may do so when the
    database deletes them too, and nothing refers to those in turn: a cascade that meets such a row fails as a whole."""
    parts: list[ColumnElement[bool]] = []
    for one in known:
        if one.parent != name or one.action == "SET NULL":
            continue
        # Aliased: a table may refer to itself, and come twice on a way.
        child = reflected.tables[one.child].alias(f"{one.child}_{depth}")
        pairs = zip(one.columns, one.parent_columns, strict=True)
        conditions = [child.c[column] == table.c[target] for column, target in pairs]
        if one.action == "CASCADE" and one.child not in alone and depth < _LONGEST_WAY:
            conditions.append(not_(unreferenced(child, one.child, reflected, known, alone, depth + 1)))
        parts.append(~exists().where(*conditions))
    return and_(true(), *parts)


def clear(
    engine: Engine,
    conditions: Callable[[MetaData], dict[str, ColumnElement[bool]]],
    *,
    batch_size: int = 1000,
    go_on: Callable[[], bool] = lambda: True,
) -> list[Cleared]:
    """Delete rows of several tables of the live schema, children first, in transactions of `batch_size` rows in the
    order of the primary key. `conditions(reflected)` says which rows of each table are to go. Rows that are still
    referenced stay and are counted; a table without a primary key is one transaction."""
    with transaction(engine) as connection:
        known = references(connection)
        reflected = MetaData()
        reflected.reflect(connection)
    wanted = conditions(reflected)
    done = []
    for name in children_first(list(wanted), known):
        table, condition = reflected.tables[name], wanted[name]
        free = unreferenced(table, name, reflected, known, wanted)
        removed = 0
        while True:
            with transaction(engine) as connection:
                gone = _delete_batch(connection, table, and_(condition, free), batch_size)
            removed += gone
            # With a key that refers to its own table, leaves go first, then what referred to them.
            if not gone or not go_on():
                break
        with transaction(engine) as connection:
            held = connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
        done.append(Cleared(name, removed, int(held)))
    return done


def _delete_batch(connection: Connection, table: Table, condition: ColumnElement[bool], limit: int) -> int:
    keys = list(table.primary_key.columns)
    if not keys:
        return connection.execute(delete(table).where(condition)).rowcount
    rows = connection.execute(select(*keys).where(condition).order_by(*keys).limit(limit)).all()
    removed = 0
    for start in range(0, len(rows), 200):
        some = rows[start : start + 200]
        chosen = (
            keys[0].in_([row[0] for row in some])
            if len(keys) == 1
            else or_(*[and_(*[key == value for key, value in zip(keys, row, strict=True)]) for row in some])
        )
        removed += connection.execute(delete(table).where(chosen, condition)).rowcount
    return removed
