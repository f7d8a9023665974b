"""Removes what `retention` selects: runs in short transactions, then their children as whole partitions where that is
possible, and by key elsewhere."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, not_, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from opskit.core.metastore import partitions, retention
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.governor import Governor
from opskit.core.metastore.history import CHILDREN
from opskit.core.metastore.partitions import Partition
from opskit.core.metastore.retention import Cutoffs, Selection, among
from opskit.core.metastore.tables import dag_run, dag_version, metadata, xcom
from opskit.errors import OpskitError

CHUNK_RUNS = 20_000
"""DagRuns that are archived together."""
_KEPT_RUNS, _KEPT_ROWS, _KEPT_BYTES = 1_000, 5_000, 4 << 20
"""What may be copied while a table is locked."""
_COUNTED_ROWS = 200_000
"""More are not counted when they go as partitions: that would take longer than all else."""

Rows = Callable[[], Iterator[Mapping[str, Any]]]
Keep = Callable[[str, Mapping[str, Rows]], None]
"""Called before rows are removed, with what they are and, by table, a function that reads them. When it raises, they
stay."""


@dataclass(frozen=True, slots=True)
class Orders:
    """How old what must be to go."""

    runs: Cutoffs
    children: Mapping[str, Cutoffs]
    """Tables of `CHILDREN` whose rows go earlier than their DagRuns."""
    before: Mapping[str, datetime]
    """Single tables, and dag_version."""


@dataclass(slots=True)
class Pruned:
    """What has gone so far."""

    rows: dict[str, int] = field(default_factory=dict)
    about: set[str] = field(default_factory=set)
    """Tables whose rows in `rows` are the server's estimate."""
    partitions: list[str] = field(default_factory=list)
    """Partitions that went whole, or were replaced by a small one."""
    left: list[str] = field(default_factory=list)
    """What was to go and did not, in words: the time was up, or a table was in use."""
    failed: dict[str, str] = field(default_factory=dict)
    """Table → error."""
    notes: list[str] = field(default_factory=list)

    def add(self, table: str, rows: int) -> None:
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring partitions of which few rows stay."""

    parts: tuple[Partition, ...]
    dirty: frozenset[str]
    """Names of those with rows that go."""

    @property
    def table(self) -> Table:
        return metadata.tables[self.parts[0].table]

    @property
    def where(self) -> ColumnElement[bool]:
        column = self.table.c.dag_run_id
        lower, upper = self.parts[0].lower, self.parts[-1].upper
        return and_(column >= (lower or 0), column < upper)

    def without(self, numbers: list[int]) -> list[int]:
        """Those of these ids, which are in order, that lie in none of the partitions."""
        lower, upper = self.parts[0].lower or 0, self.parts[-1].upper or 0
        return numbers[: bisect_left(numbers, lower)] + numbers[bisect_left(numbers, upper) :]


def prune(
    engine: Engine,
    orders: Orders,
    governor: Governor,
    *,
    keep: Keep | None = None,
    told: Callable[[Pruned], None] = lambda _: None,
) -> Pruned:
    """Remove it. What was removed stays removed when this ends early; the next call goes on from there."""
    return _Pruning(engine, orders, governor, keep, told).run()


class _Pruning:
    def __init__(
        self, engine: Engine, orders: Orders, governor: Governor, keep: Keep | None, told: Callable[[Pruned], None]
    ) -> None:
        self._engine, self._orders, self._governor = engine, orders, governor
        self._keep, self._told = keep, told
        self._done = Pruned()

    def run(self) -> Pruned:
        partitions.drop_retired(self._engine)
        steps: list[tuple[str, Callable[[], None]]] = [("dag_run", self._runs)]
        steps += [(name, lambda name=name: self._own_age(name)) for name in self._orders.children]  # type: ignore[misc]
        steps += [
            (table.name, lambda table=table, where=where: self._single(table, where))  # type: ignore[misc]
            for table, where, _ in retention.single_tables(self._orders.before)
        ]
        steps += [
            (table.name, lambda table=table, where=where: self._by_key(table, where))  # type: ignore[misc]
            for table, where, _ in retention.lost_links(self._orders.before)
        ]
        unused = retention.unused_version(self._orders.before["dag_version"])
        steps.append((dag_version.name, lambda: self._single(dag_version, unused)))
        errors: list[OpskitError] = []
        for name, step in steps:
            if not self._governor.go_on():
                self._done.left.append(f"{name}: the time was up")
                continue
            try:
                step()
            except OpskitError as error:
                # The other tables do not wait for this one.
                self._done.failed[name] = error.message
                errors.append(error)
            except DBAPIError as error:
                # A table that is not ours refers to these rows, for example.
                self._done.failed[name] = " ".join(str(error.orig).split())
        if len(errors) == len(steps):
            raise errors[0]
        return self._done

    # --- runs ---

    def _runs(self) -> None:
        with reading(self._engine) as connection:
            selection = retention.select_runs(connection, self._orders.runs)
            newest = _newest(connection)
            groups = [group for table in CHILDREN for group in _groups(connection, table, selection, newest)]
        after = 0
        while after < newest:
            end = newest
            if self._keep is not None:
                with reading(self._engine) as connection:
                    end = _chunk_end(connection, selection, after) or newest
                    some = retention.count(connection, dag_run, selection.going(after, end))
                if some:
                    self._keep("runs", self._readers(selection, after, end))
            selection, finished = self._walk(selection, after, end, groups)
            if not finished:
                self._done.left.append("dag_run: the time was up")
                return
            after = end
        for group in groups:
            self._replace(group, None)
            self._by_key(group.table, and_(group.where, retention.orphan(group.table)))
        with reading(self._engine) as connection:
            horizon = _horizon(connection, selection)
        for table in CHILDREN:
            orphans = (
                and_(table.c.dag_run_id < horizon, retention.orphan(table)) if horizon else retention.orphan(table)
            )
            self._by_key(table, orphans)

    def _readers(self, selection: Selection, after: int, end: int) -> dict[str, Rows]:
        """Runs of a chunk, and what goes with them: rows of theirs, and rows whose run is gone already."""
        going = selection.going(after, end)
        readers: dict[str, Rows] = {"dag_run": lambda: self._read(dag_run, going)}
        for table in CHILDREN:
            column = table.c.dag_run_id
            stays = exists().where(dag_run.c.id == column, not_(going))
            condition = and_(column > after, column <= end, ~stays)
            readers[table.name] = lambda table=table, condition=condition: self._read(table, condition)  # type: ignore[misc]
        return readers

    def _read(self, table: Table, condition: ColumnElement[bool]) -> Iterator[Mapping[str, Any]]:
        with reading(self._engine) as connection:
            query = select(table).where(condition).order_by(*table.primary_key.columns)
            if table in CHILDREN:
                # Rows in an archive are found by the names of DAG and run.
                run = dag_run.alias("run")
                query = query.add_columns(run.c.dag_id, run.c.run_id)
                query = query.outerjoin(run, run.c.id == table.c.dag_run_id)
            rows = connection.execution_options(yield_per=500).execute(query)
            for row in rows:
                yield dict(row._mapping)

    def _walk(self, selection: Selection, after: int, end: int, groups: Sequence[_Group]) -> tuple[Selection, bool]:
        """Delete the runs that go, with those of their rows that no group covers; whether all were done.

        First all DAGs together, without a wait for those that somebody works on; then these one by one: whoever waits
        for one lock holds no other.
        """
        held: set[str] = set()
        selection, finished = self._pass(selection, after, end, groups, held)
        for dag_id in sorted(held):
            if finished:
                selection, finished = self._pass(selection, after, end, groups, set(), only=dag_id)
        return selection, finished

    def _pass(
        self,
        selection: Selection,
        after: int,
        end: int,
        groups: Sequence[_Group],
        held: set[str],
        only: str | None = None,
    ) -> tuple[Selection, bool]:
        while self._governor.go_on():
            with transaction(self._engine) as connection:
                rows = self._next(connection, selection, after, end, only)
                if not rows:
                    return selection, True
                dag_ids = {row.dag_id for row in rows}
                free = retention.lock_dags(connection, selection, dag_ids, skip=only is None)
                started = time.monotonic()
                if free is not None:
                    gone = self._delete(connection, selection, after, rows, groups, free)
            if free is None:
                with reading(self._engine) as connection:
                    selection = retention.select_runs(connection, self._orders.runs)
                continue
            held |= dag_ids - free
            self._governor.measured("dag_run", len(rows), time.monotonic() - started)
            for name, count in gone.items():
                self._done.add(name, count)
            after = int(rows[-1].id)
            self._told(self._done)
        return selection, False

    def _next(
        self, connection: Connection, selection: Selection, after: int, end: int, only: str | None
    ) -> Sequence[Any]:
        query = select(dag_run.c.id, dag_run.c.dag_id).where(selection.going(after, end)).order_by(dag_run.c.id)
        # MariaDB would take the index on the state, and sort nearly all runs for each of these.
        query = query.with_hint(dag_run, "FORCE INDEX (PRIMARY)", "mysql")
        if only is not None:
            query = query.where(dag_run.c.dag_id == only)
        return connection.execute(query.limit(self._governor.size("dag_run"))).all()

    def _delete(
        self,
        connection: Connection,
        selection: Selection,
        after: int,
        rows: Sequence[Any],
        groups: Sequence[_Group],
        free: frozenset[str],
    ) -> dict[str, int]:
        going = and_(selection.going(after, int(rows[-1].id)), dag_run.c.dag_id.in_(sorted(free)))
        rows = [row for row in rows if row.dag_id in free]
        gone: dict[str, int] = {}
        for table in CHILDREN:
            numbers = [row.id for row in rows]
            for group in groups:
                if group.table is table:
                    numbers = group.without(numbers)
            for part in retention.parts_of(numbers, 900):
                still = connection.execute(select(dag_run.c.id).where(among(dag_run.c.id, part), going)).scalars().all()
                removed = connection.execute(delete(table).where(among(table.c.dag_run_id, still))).rowcount
                gone[table.name] = gone.get(table.name, 0) + removed
        gone["dag_run"] = connection.execute(delete(dag_run).where(going)).rowcount
        return gone

    # --- partitions ---

    def _replace(self, group: _Group, own: Selection | None) -> None:
        """Replace the partitions by what stays of them, if nobody holds the table. What is left then goes by key."""
        if not any(part.name in group.dirty for part in group.parts):
            return
        table = group.table
        numbers = dag_run.c.id
        lower, upper = group.parts[0].lower or 0, group.parts[-1].upper
        assert upper is not None
        with reading(self._engine) as connection:
            in_range = and_(numbers >= lower, numbers < upper)
            stay = in_range if own is None else and_(in_range, not_(own.going()))
            kept = connection.execute(select(numbers).where(stay)).scalars().all()
            about = sum(-1 if part.about_rows is None else part.about_rows for part in group.parts)
            estimated = about > _COUNTED_ROWS and all(part.about_rows is not None for part in group.parts)
            rows = about if estimated else retention.count(connection, table, group.where)
            staying = retention.count(connection, table, among(table.c.dag_run_id, kept))
        if staying > 2 * _KEPT_ROWS or rows == staying:
            return  # runs came back into use: what goes, goes by key
        parts = group.parts
        if not partitions.has_gaps(self._engine):
            parts = tuple(part for part in parts if part.name in group.dirty)
        if not partitions.replace(self._engine, parts, kept):
            with reading(self._engine) as connection:
                users = partitions.users(connection, table.name)
            self._done.notes.append(
                f"{table.name} was in use all the time{users}: its rows went by key, and their space is used again only"
            )
            return
        partitions.merge(self._engine, group.parts)
        self._done.add(table.name, rows - staying)
        if estimated:
            self._done.about.add(table.name)
        self._done.partitions += [f"{table.name} {part.name}" for part in parts]
        self._told(self._done)

    def _own_age(self, name: str) -> None:
        """Rows of a child table that are older than they may be, of runs that stay."""
        table = metadata.tables[name]
        with reading(self._engine) as connection:
            selection = retention.select_runs(connection, self._orders.children[name])
            newest = _newest(connection)
            groups = _groups(connection, table, selection, newest)
            some = exists().where(dag_run.c.id == table.c.dag_run_id, selection.going())
            any_row = connection.execute(select(table.c.dag_run_id).where(some).limit(1)).first()
        if any_row is None:
            return
        if self._keep is not None:
            self._keep(name, {name: lambda: self._read(table, some)})
        for group in groups:
            self._replace(group, selection)
        after = 0
        while self._governor.go_on():
            started = time.monotonic()
            with transaction(self._engine) as connection:
                query = select(dag_run.c.id).where(selection.going(after)).order_by(dag_run.c.id)
                numbers = connection.execute(query.limit(min(900, self._governor.size(name)))).scalars().all()
                condition = among(table.c.dag_run_id, numbers)
                removed = connection.execute(delete(table).where(condition, some)).rowcount
            if not numbers:
                return
            self._governor.measured(name, len(numbers), time.monotonic() - started)
            self._done.add(name, removed)
            after = numbers[-1]
        self._done.left.append(f"{name}: the time was up")

    # --- single tables ---

    def _single(self, table: Table, condition: ColumnElement[bool]) -> None:
        if self._keep is not None:
            with reading(self._engine) as connection:
                some = connection.execute(select(*table.primary_key).where(condition).limit(1)).first()
            if some is not None:
                self._keep(table.name, {table.name: lambda: self._read(table, condition)})
        self._by_key(table, condition)

    def _by_key(self, table: Table, condition: ColumnElement[bool]) -> None:
        while self._governor.go_on():
            started = time.monotonic()
            with transaction(self._engine) as connection:
                removed = _delete_some(connection, table, condition, self._governor.size(table.name))
            if not removed:
                return
            self._governor.measured(table.name, removed, time.monotonic() - started)
            self._done.add(table.name, removed)
            self._told(self._done)
        self._done.left.append(f"{table.name}: the time was up")


def _delete_some(connection: Connection, table: Table, condition: ColumnElement[bool], limit: int) -> int:
    # Locked first, then judged again by the DELETE: a row that gets into use meanwhile stays.
    keys = list(table.primary_key.columns)
    if len(keys) > 1:
        numbers = connection.execute(
            select(keys[0]).where(condition).distinct().order_by(keys[0]).limit(limit)
        ).scalars()
        chosen = among(keys[0], numbers.all())
        return connection.execute(delete(table).where(chosen, condition)).rowcount
    found = connection.execute(
        select(*keys).where(condition).order_by(*keys).limit(limit).with_for_update(skip_locked=True)
    ).all()
    removed = 0
    for part in retention.parts_of([row[0] for row in found], 500):
        removed += connection.execute(delete(table).where(keys[0].in_(part), condition)).rowcount
    return removed


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.max(dag_run.c.id))).scalar() or 0)


def _chunk_end(connection: Connection, selection: Selection, after: int) -> int | None:
    query = select(dag_run.c.id).where(selection.going(after)).order_by(dag_run.c.id)
    return connection.execute(query.offset(CHUNK_RUNS - 1).limit(1)).scalar()


def _horizon(connection: Connection, selection: Selection) -> int | None:
    """The first run that is not history yet: below it children without a run are looked for. None: there is none."""
    return connection.execute(
        select(dag_run.c.id)
        .where(not_(selection.old), ~among(dag_run.c.id, {n for some in selection.kept_of.values() for n in some}))
        .order_by(dag_run.c.id)
        .limit(1)
    ).scalar()


def _groups(connection: Connection, table: Table, selection: Selection, newest: int) -> list[_Group]:
    """Partitions of this table of which so little stays that it can be copied while the table is locked."""
    parts = partitions.read(connection)[table.name]
    stays: dict[str, int] = {}
    dirty: set[str] = set()
    for part in parts:
        if part.upper is None or part.upper > newest:
            continue
        in_range = and_(dag_run.c.id >= (part.lower or 0), dag_run.c.id < part.upper)
        query = select(dag_run.c.id).where(in_range, not_(selection.going())).limit(_KEPT_RUNS + 1)
        staying = connection.execute(query).scalars().all()
        if len(staying) > _KEPT_RUNS:
            continue
        column = table.c.dag_run_id
        size = func.coalesce(func.sum(func.length(table.c.value)), 0) if table is xcom else func.count()
        rows, size_bytes = connection.execute(select(func.count(), size).where(among(column, staying))).one()
        if rows > _KEPT_ROWS or (table is xcom and int(size_bytes) > _KEPT_BYTES):
            continue
        stays[part.name] = int(rows)
        others = and_(column >= (part.lower or 0), column < part.upper, ~among(column, staying))
        if connection.execute(select(column).where(others).limit(1)).first():
            dirty.add(part.name)
    groups: list[_Group] = []
    for side_by_side in partitions.neighbours(parts, set(stays)):
        some: list[Partition] = []
        for part in side_by_side:
            if some and sum(stays[one.name] for one in some) + stays[part.name] > _KEPT_ROWS:
                groups.append(_Group(tuple(some), frozenset(dirty)))
                some = []
            some.append(part)
        groups.append(_Group(tuple(some), frozenset(dirty)))
    return groups
