"""History in partitions: the children of `dag_run` lie in ranges of its id, so that what is old goes as whole tables.

On PostgreSQL, MariaDB and MySQL; SQLite has no partitions. Rows beyond the last range go to the partition REST, so an
insert never fails. Whoever waits for one of our locks waits LOCK_MS at most: each change of the partitions gives up
when it is not alone with the table for a moment, and is tried again.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from opskit.core.metastore.engine import reading, redacted
from opskit.core.metastore.faults import translate
from opskit.core.metastore.tables import dag_run, metadata

TABLES = ("xcom", "task_attempt", "task_instance")
"""The tables in partitions, each by its column dag_run_id."""
SMALLEST = 10_000
"""DagRuns of the first partition, and of each where few runs are made."""
REST = "rest"
LOCK_MS = 50
PATIENCE_SECONDS = 5.0
"""How long a table that is in use is tried again."""
logger = logging.getLogger(__name__)
_DAYS = 15
"""What a new partition is to last: a sixth of the default retention."""
_LARGEST = 10_000_000
_LOCK_NUMBER = 0x6F70736B7001
_RETIRED = "retired"
_BOUNDS = re.compile(r"FROM \((MINVALUE|'?-?\d+'?)\) TO \('?(\d+)'?\)")
_BUSY = frozenset({"55P03", "40P01", 1205, 1213, 3572})
"""Codes for a lock that was not given, or a deadlock."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows of one table with `lower` <= dag_run_id < `upper`; None: no bound."""

    table: str
    name: str
    lower: int | None
    upper: int | None
    size_bytes: int
    about_rows: int | None = None
    """As the server's statistics say; None: they say nothing."""


def has_partitions(kind: str) -> bool:
    """Whether a database of this dialect has them."""
    return kind != "sqlite"


def is_partition(name: str) -> bool:
    """Whether a table of this name is a part of one of ours. (PostgreSQL lists parts as tables.)"""
    return any(re.fullmatch(rf"{table}_(to_\d+|{REST}|{_RETIRED}_\d+)", name) for table in TABLES)


def begin(connection: Connection) -> None:
    """Give tables that have no partition yet their first ones. They must be new: they are locked meanwhile."""
    kind = connection.dialect.name
    if not has_partitions(kind):
        return
    present = read(connection)
    for table in TABLES:
        if present[table]:
            continue
        if kind == "postgresql":
            connection.exec_driver_sql(
                f"CREATE TABLE {table}_to_{SMALLEST} PARTITION OF {table} FOR VALUES FROM (MINVALUE) TO ({SMALLEST})"
            )
            connection.exec_driver_sql(f"CREATE TABLE {table}_{REST} PARTITION OF {table} DEFAULT")
        else:
            connection.exec_driver_sql(
                f"ALTER TABLE {table} PARTITION BY RANGE (dag_run_id) "
                f"(PARTITION to_{SMALLEST} VALUES LESS THAN ({SMALLEST}), "
                f"PARTITION {REST} VALUES LESS THAN MAXVALUE)"
            )


def read(connection: Connection) -> dict[str, list[Partition]]:
    """Partitions of each table, the lowest ids first, REST last. Tables without any have an empty list."""
    found: dict[str, list[Partition]] = {table: [] for table in TABLES}
    kind = connection.dialect.name
    if kind == "postgresql":
        rows = connection.exec_driver_sql(
            "SELECT p.relname, c.relname, pg_get_expr(c.relpartbound, c.oid), pg_total_relation_size(c.oid), "
            "c.reltuples "
            "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent "
            "WHERE i.inhparent IN (to_regclass('xcom'), to_regclass('task_attempt'), to_regclass('task_instance'))"
        )
        for table, name, bound, size, about in rows:
            match = _BOUNDS.search(bound)
            lower = upper = None
            if match:
                lower = None if match[1] == "MINVALUE" else int(match[1].strip("'"))
                upper = int(match[2])
            found[table].append(Partition(table, name, lower, upper, int(size), None if about < 0 else int(about)))
    elif has_partitions(kind):
        rows = connection.exec_driver_sql(
            "SELECT table_name, partition_name, partition_description, data_length + index_length, table_rows "
            "FROM information_schema.partitions WHERE table_schema = DATABASE() AND partition_name IS NOT NULL "
            "ORDER BY table_name, partition_ordinal_position"
        )
        for table, name, bound, size, about in rows:
            if table in found:
                before = found[table][-1].upper if found[table] else None
                upper = None if bound == "MAXVALUE" else int(bound)
                found[table].append(Partition(table, name, before, upper, int(size), about))
    for parts in found.values():
        parts.sort(key=lambda part: (part.upper is None, part.upper or 0))
    return found


def next_upper(last_upper: int, newest_id: int, per_day: float, *, now_rest: int = 0) -> tuple[int, int] | None:
    """Bounds of the partition to be made ahead; None while the last one has room for a day and for SMALLEST / 2 runs.

    `newest_id`: the newest DagRun; `per_day`: DagRuns made in a day at the present rate; `now_rest`: the largest id in
    REST, 0 when that is empty. A partition lasts about 15 days.
    """
    if last_upper - newest_id > max(SMALLEST // 2, per_day):
        return None
    width = min(_LARGEST, max(SMALLEST, int(per_day * _DAYS)))
    digits = 10 ** max(0, len(str(width)) - 2)
    width = -(-width // digits) * digits
    # What has got into REST stays there; a margin is for runs that are being made now.
    lower = last_upper if now_rest < last_upper else now_rest + SMALLEST // 10
    return lower, max(lower, newest_id) + width


def make_ahead(engine: Engine, now: datetime, *, patience_seconds: float = 0.0) -> list[str]:
    """Make the partitions for runs to come, where it is time; names of what was made.

    Never waits long: what can't be done at once is left to the next call, until then rows go to REST.
    """
    made: list[str] = []
    if not has_partitions(engine.dialect.name):
        return made
    with reading(engine) as connection:
        present = read(connection)
        newest = int(connection.execute(select(func.max(dag_run.c.id))).scalar() or 0)
        last = {table: max((part.upper or 0 for part in present[table]), default=0) for table in TABLES}
        per_day = _per_day(connection, newest, now)
        due = [table for table in TABLES if last[table] and next_upper(last[table], newest, per_day)]
        rest = {table: _newest_in_rest(connection, table, last[table]) for table in due}
    for table in due:
        bounds = next_upper(last[table], newest, per_day, now_rest=rest[table])
        assert bounds is not None
        try:
            if add(engine, table, *bounds, patience_seconds=patience_seconds):
                made.append(f"{table}_to_{bounds[1]}")
        except DBAPIError as error:
            # Not worth a scheduler: rows go to REST. Another process was faster, or the user may not make tables.
            logger.warning("the partition of %s up to %d was not made: %s", table, bounds[1], error.orig)
    return made


def add(engine: Engine, table: str, lower: int, upper: int, *, patience_seconds: float = 0.0) -> bool:
    """Make a partition, see `patiently`. Elsewhere than on PostgreSQL it begins where the last one ends."""
    return patiently(engine, partial(_add, table=table, bounds=(lower, upper)), patience_seconds=patience_seconds)


def _per_day(connection: Connection, newest: int, now: datetime) -> float:
    row = connection.execute(
        select(dag_run.c.id, dag_run.c.queued_at)
        .where(dag_run.c.id >= newest - SMALLEST)
        .order_by(dag_run.c.id)
        .limit(1)
    ).first()
    if row is None:
        return 0.0
    days = max((now - row.queued_at).total_seconds() / 86_400, 1 / 24)
    return float((newest - row.id) / days)


def _newest_in_rest(connection: Connection, table: str, last_upper: int) -> int:
    column = metadata.tables[table].c.dag_run_id
    return int(connection.execute(select(func.max(column)).where(column >= last_upper)).scalar() or 0)


def _add(connection: Connection, table: str, bounds: tuple[int, int]) -> None:
    lower, upper = bounds
    run, name = connection.exec_driver_sql, f"to_{upper}"
    if connection.dialect.name == "postgresql":
        # Two who do it at the same moment: the second one finds the table, and gives up.
        run(f"CREATE TABLE {table}_{name} (LIKE {table} INCLUDING ALL)")
        run(f"ALTER TABLE {table} ATTACH PARTITION {table}_{name} FOR VALUES FROM ({lower}) TO ({upper})")
    else:
        # Ranges have no gaps here: rows of REST move.
        run(
            f"ALTER TABLE {table} REORGANIZE PARTITION {REST} INTO "
            f"(PARTITION {name} VALUES LESS THAN ({upper}), PARTITION {REST} VALUES LESS THAN MAXVALUE)"
        )


def patiently(engine: Engine, change: Callable[[Connection], None], *, patience_seconds: float) -> bool:
    """Run a change of the schema in a session that waits LOCK_MS at most for a lock (on MariaDB: not at all), again
    when the table was in use; whether it was done. Nothing has changed when not. Raises as `transaction` does."""
    deadline, pause = time.monotonic() + patience_seconds, 0.01
    while True:
        try:
            with _hasty(engine) as connection:
                change(connection)
            return True
        except DBAPIError as error:
            if _code(error) not in _BUSY:
                raise translate(error, redacted(engine.url)) from error
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)


@contextmanager
def _hasty(engine: Engine) -> Iterator[Connection]:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'")
            yield connection
        return
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        # MySQL knows whole seconds only, from 1.
        shortest = 0 if _is_mariadb(connection) else 1
        before = connection.exec_driver_sql("SELECT @@SESSION.lock_wait_timeout").scalar_one()
        connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {shortest}")
        try:
            yield connection
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql("UNLOCK TABLES")
                connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {before}")


def _is_mariadb(connection: Connection) -> bool:
    return "mariadb" in str(connection.exec_driver_sql("SELECT VERSION()").scalar_one()).lower()


def is_busy(error: BaseException) -> bool:
    """Whether an error of `transaction` comes from a lock that another session held."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and _code(cause) in _BUSY


def has_gaps(engine: Engine) -> bool:
    """Whether partitions are tables of their own, which need not lie side by side."""
    return engine.dialect.name == "postgresql"


def users(connection: Connection, table: str) -> str:
    """Who holds a table, in words; empty where the database does not tell."""
    if connection.dialect.name != "postgresql":
        return ""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT a.application_name, a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
        f"WHERE l.relation = to_regclass('{table}') AND l.granted AND a.pid <> pg_backend_pid()"
    )
    names = [f"{name or 'a program'} (pid {pid})" for name, pid in rows]
    return f", by {', '.join(names[:3])}" if names else ""


def _code(error: DBAPIError) -> Any:
    # PyMySQL has an SQLSTATE too, which says less than its number.
    arguments = getattr(error.orig, "args", ())
    if arguments and isinstance(arguments[0], int):
        return arguments[0]
    return getattr(error.orig, "sqlstate", None)


def replace(
    engine: Engine, parts: Sequence[Partition], kept: Sequence[int], *, patience_seconds: float = PATIENCE_SECONDS
) -> bool:
    """Put in the place of neighbouring partitions of one table their rows of the DagRuns `kept`, and drop all others.

    Neighbours become one partition on PostgreSQL; elsewhere each is replaced by itself, and `merge` joins them. The
    rows that stay are copied while the table is locked: a few thousand at most. False: the table was in use all the
    time; then nothing has changed, or (elsewhere than on PostgreSQL) some of the partitions are done.
    """
    if engine.dialect.name == "postgresql":
        changes = [partial(_replace_postgresql, parts=parts, kept=kept)]
    else:
        changes = [partial(_replace_mysql, part=part, kept=kept) for part in parts]
    done = all(patiently(engine, change, patience_seconds=patience_seconds) for change in changes)
    drop_retired(engine)
    return done


def _replace_postgresql(connection: Connection, parts: Sequence[Partition], kept: Sequence[int]) -> None:
    run, table = connection.exec_driver_sql, parts[0].table
    lower, upper = parts[0].lower, parts[-1].upper
    fresh = f"{table}_{_RETIRED}_{upper}"
    run(f"CREATE TABLE {fresh} (LIKE {table} INCLUDING ALL)")
    run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    for part in parts:
        if kept:
            run(f"INSERT INTO {fresh} SELECT * FROM {part.name} WHERE dag_run_id = ANY(%s)", (list(kept),))
        run(f"ALTER TABLE {table} DETACH PARTITION {part.name}")
    # The old one and the new one change their names.
    run(f"ALTER TABLE {parts[-1].name} RENAME TO {table}_{_RETIRED}_0")
    run(f"ALTER TABLE {fresh} RENAME TO {table}_to_{upper}")
    for number, part in enumerate(parts[:-1], start=1):
        run(f"ALTER TABLE {part.name} RENAME TO {table}_{_RETIRED}_{number}")
    bound = "MINVALUE" if lower is None else lower
    run(f"ALTER TABLE {table} ATTACH PARTITION {table}_to_{upper} FOR VALUES FROM ({bound}) TO ({upper})")


def _replace_mysql(connection: Connection, part: Partition, kept: Sequence[int]) -> None:
    run, table = connection.exec_driver_sql, part.table
    fresh = f"{table}_{_RETIRED}_{part.upper}"
    run(f"DROP TABLE IF EXISTS {fresh}")
    run(f"CREATE TABLE {fresh} LIKE {table}")
    run(f"ALTER TABLE {fresh} REMOVE PARTITIONING")
    run(f"LOCK TABLES {table} WRITE, {table} AS old READ, {fresh} WRITE")
    if kept:
        numbers = ", ".join(str(int(number)) for number in kept)
        run(f"INSERT INTO {fresh} SELECT * FROM {table} PARTITION ({part.name}) AS old WHERE dag_run_id IN ({numbers})")
    run(f"ALTER TABLE {table} EXCHANGE PARTITION {part.name} WITH TABLE {fresh}")


def merge(engine: Engine, parts: Sequence[Partition], *, patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Make one of neighbouring partitions with few rows. PostgreSQL has no need of it: `replace` does."""
    if engine.dialect.name == "postgresql" or len(parts) < 2:
        return True
    names = ", ".join(part.name for part in parts)

    def join(connection: Connection) -> None:
        connection.exec_driver_sql(
            f"ALTER TABLE {parts[0].table} REORGANIZE PARTITION {names} INTO "
            f"(PARTITION {parts[-1].name} VALUES LESS THAN ({parts[-1].upper}))"
        )

    return patiently(engine, join, patience_seconds=patience_seconds)


def drop_retired(engine: Engine) -> None:
    """Drop what was taken out of the tables, also by a process that was killed before it could do this."""
    with engine.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")
        for name in retired(connection):
            connection.exec_driver_sql(f"DROP TABLE {name}")


def retired(connection: Connection) -> list[str]:
    """Tables that were taken out of the history and not dropped yet."""
    if not has_partitions(connection.dialect.name):
        return []
    if connection.dialect.name == "postgresql":
        query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
    else:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    names = connection.exec_driver_sql(query).scalars().all()
    return sorted(str(name) for name in names if re.fullmatch(rf"({'|'.join(TABLES)})_{_RETIRED}_\d+", str(name)))


def neighbours(parts: Sequence[Partition], chosen: Collection[str]) -> list[list[Partition]]:
    """The chosen ones (by name), in groups that lie side by side."""
    groups: list[list[Partition]] = []
    before: Partition | None = None
    for part in parts:
        if part.name in chosen:
            if groups and before is not None and groups[-1][-1] is before and before.upper == part.lower:
                groups[-1].append(part)
            else:
                groups.append([part])
        before = part
    return groups
