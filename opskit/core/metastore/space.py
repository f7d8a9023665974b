"""How large the tables are, how much of them holds nothing any more, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from opskit.core.metastore.tables import metadata
from opskit.errors import LockHeld

FILE = "(file)"
"""SQLite tells the size of its whole file only."""
_WORTH_BYTES = 16 << 20
_LOCK_NUMBER = 0x6F70736B636C


@dataclass(frozen=True, slots=True)
class Space:
    size_bytes: int
    reusable_bytes: int
    """Free pages, or the part of dead rows."""


def read(connection: Connection) -> dict[str, Space]:
    """Sizes by table, with indexes and all partitions."""
    kind = connection.dialect.name
    run = connection.exec_driver_sql
    names = list(metadata.tables)
    if kind == "sqlite":
        pages, free, size = (int(run(f"PRAGMA {name}").scalar_one()) for name in _PRAGMAS)
        return {FILE: Space(pages * size, free * size)}
    if kind == "postgresql":
        rows = run(
            "SELECT c.relname, sum(pg_total_relation_size(p.oid)), sum(coalesce(s.n_dead_tup, 0)), "
            "sum(coalesce(s.n_live_tup, 0)) FROM pg_class c "
            "JOIN pg_class p ON p.oid = c.oid OR p.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid) "
            "LEFT JOIN pg_stat_user_tables s ON s.relid = p.oid "
            "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') "
            "AND NOT c.relispartition GROUP BY c.relname"
        )
        return {
            str(name): Space(int(size), int(size * dead / (dead + live)) if dead + live else 0)
            for name, size, dead, live in rows
            if name in names
        }
    rows = run(
        "SELECT table_name, data_length + index_length, data_free FROM information_schema.tables "
        "WHERE table_schema = DATABASE()"
    )
    return {str(name): Space(int(size or 0), int(free or 0)) for name, size, free in rows if name in names}


_PRAGMAS = ("page_count", "freelist_count", "page_size")


def advice(spaces: Mapping[str, Space], kind: str) -> list[str]:
    """Statements that give back space where more than a fifth of a table, and enough to matter, holds nothing."""
    lines = []
    for name, space in sorted(spaces.items()):
        if space.reusable_bytes < _WORTH_BYTES or space.reusable_bytes * 5 < space.size_bytes:
            continue
        free = f"{space.reusable_bytes >> 20} MiB of {space.size_bytes >> 20} MiB hold nothing"
        if kind == "sqlite":
            lines.append(f"VACUUM;  -- {free}; stop the scheduler first, and have as much free disk again")
        elif kind == "postgresql":
            lines.append(f"VACUUM (ANALYZE) {name};  -- {free}; new rows use it again, no lock")
        else:
            lines.append(f"OPTIMIZE TABLE {name};  -- {free}; rebuilds the table")
    return lines


@contextmanager
def single_flight(engine: Engine) -> Iterator[None]:
    """One clean-up per metastore, whatever the host: a lock of the database, which goes with its session. On SQLite all
    are on one host, and its lock file is enough."""
    kind = engine.dialect.name
    if kind == "sqlite":
        yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        run = connection.exec_driver_sql
        if kind == "postgresql":
            given = run(f"SELECT pg_try_advisory_lock({_LOCK_NUMBER})").scalar()
        else:
            name = str(run("SELECT CONCAT('opskit-clean-', LEFT(SHA2(DATABASE(), 256), 40))").scalar_one())
            given = connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar()
        if not given:
            raise LockHeld(
                "another opskit cleans this metastore right now, maybe on another host",
                hint="wait until it has ended; the lock goes with its session",
            )
        try:
            yield
        finally:
            if not connection.invalidated:
                if kind == "postgresql":
                    run(f"SELECT pg_advisory_unlock({_LOCK_NUMBER})")
                else:
                    connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
