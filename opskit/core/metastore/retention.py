"""Removes what is old and ended: plan with counts first, then in small transactions that hold no lock for long."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, or_, select
from sqlalchemy.engine import Connection, Engine

from opskit.core.dag import states
from opskit.core.metastore.engine import transaction
from opskit.core.metastore.tables import (
    attempt_result,
    dag,
    dag_run,
    dag_version,
    instance,
    log,
    task_attempt,
    task_instance,
    xcom,
)

_ENDED = (states.SUCCESS, states.FAILED)
_CHILDREN = (xcom, task_attempt, task_instance)


@dataclass(frozen=True, slots=True)
class Removal:
    """Rows of one table that would go, or have gone."""

    table: str
    rows: int
    why: str


@dataclass(slots=True)
class Pruned:
    """What has gone so far: table → rows."""

    rows: dict[str, int] = field(default_factory=dict)
    transactions: int = 0

    def add(self, table: str, rows: int) -> None:
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows


def plan(connection: Connection, before: datetime) -> list[Removal]:
    """What `prune` would remove, with reasons; tables without such rows are left out.

    Runs that ended before `before` go, but never, of any DAG: the newest run, the newest successful one, the newest
    scheduled or backfill one (the timetable goes on from it), and the run just before an unfinished one (it may depend
    on it).
    """
    old = _old_runs(connection, before)
    kept = _protected(connection, {dag_id for _, dag_id in old})
    numbers = [number for number, _ in old if number not in kept]
    found = [Removal("dag_run", len(numbers), f"ended before {before.isoformat()}")]
    for table in _CHILDREN:
        rows = sum(_count(connection, table, table.c.dag_run_id.in_(part)) for part in _parts(numbers, 10_000))
        found.append(Removal(table.name, rows, "of these DagRuns"))
        found.append(Removal(table.name, _count(connection, table, _orphan(table)), "their DagRun is gone"))
    for table, condition, why in _single_tables(before):
        found.append(Removal(table.name, _count(connection, table, condition), why))
    # Versions that only those runs hold go with them.
    held = _count_versions(connection, before, set(numbers))
    found.append(Removal(dag_version.name, held, "no DAG and no DagRun uses them"))
    return [removal for removal in found if removal.rows]


def prune(
    engine: Engine,
    before: datetime,
    *,
    batch_size: int = 500,
    after_batch: Callable[[Pruned], bool | None] | None = None,
) -> Pruned:
    """Remove it, `batch_size` DagRuns (or rows of other tables, times ten) per transaction, the oldest ids first.

    `after_batch` is told what has gone so far, and ends the work early by returning False. What was removed stays
    removed when it fails in the middle; the next call goes on from there.
    """
    done = Pruned()

    def go_on() -> bool:
        done.transactions += 1
        return after_batch is None or after_batch(done) is not False

    last = 0
    while True:
        with transaction(engine) as connection:
            last_of_batch = _prune_runs(connection, before, last, batch_size, done)
        if last_of_batch is None:
            break
        last = last_of_batch
        if not go_on():
            return done
    for table, condition, _ in [*((child, _orphan(child), "") for child in _CHILDREN), *_single_tables(before)]:
        while True:
            with transaction(engine) as connection:
                removed = _prune_rows(connection, table, condition, batch_size * 10)
            done.add(table.name, removed)
            if not removed:
                break
            if not go_on():
                return done
    with transaction(engine) as connection:
        done.add(dag_version.name, _prune_rows(connection, dag_version, _unused_version(before), None))
    return done


def _prune_runs(connection: Connection, before: datetime, after: int, limit: int, done: Pruned) -> int | None:
    """One batch; the largest id that was looked at, None when there is nothing after `after`."""
    rows = connection.execute(
        select(dag_run.c.id, dag_run.c.dag_id)
        .where(dag_run.c.id > after, *_old(before))
        .order_by(dag_run.c.id)
        .limit(limit)
    ).all()
    if not rows:
        return None
    dag_ids = sorted({row.dag_id for row in rows})
    # Whoever clears, marks or schedules runs of a DAG holds its row: nobody revives a run while it is removed.
    connection.execute(select(dag.c.dag_id).where(dag.c.dag_id.in_(dag_ids)).order_by(dag.c.dag_id).with_for_update())
    kept = _protected(connection, dag_ids)
    numbers = [row.id for row in rows if row.id not in kept]
    still = connection.execute(select(dag_run.c.id).where(dag_run.c.id.in_(numbers), *_old(before))).scalars().all()
    # Children first and by key: a cascade would look for them run by run.
    for table in _CHILDREN:
        done.add(table.name, connection.execute(delete(table).where(table.c.dag_run_id.in_(still))).rowcount)
    done.add("dag_run", connection.execute(delete(dag_run).where(dag_run.c.id.in_(still))).rowcount)
    return int(rows[-1].id)


def _prune_rows(connection: Connection, table: Table, condition: ColumnElement[bool], limit: int | None) -> int:
    keys = list(table.primary_key)
    # Locked first, then judged again by the DELETE: a row that gets into use meanwhile stays.
    found = connection.execute(select(*keys).where(condition).order_by(*keys).limit(limit).with_for_update()).all()
    removed = 0
    for part in _parts(found, 500):
        chosen: ColumnElement[bool]
        if len(keys) == 1:
            chosen = keys[0].in_([row[0] for row in part])
        else:
            chosen = or_(*[and_(*[key == value for key, value in zip(keys, row, strict=True)]) for row in part])
        removed += connection.execute(delete(table).where(chosen, condition)).rowcount
    return removed


def _old(before: datetime) -> tuple[ColumnElement[bool], ...]:
    return dag_run.c.state.in_(_ENDED), func.coalesce(dag_run.c.end_date, dag_run.c.queued_at) < before


def _old_runs(connection: Connection, before: datetime) -> list[tuple[int, str]]:
    rows = connection.execute(select(dag_run.c.id, dag_run.c.dag_id).where(*_old(before)).order_by(dag_run.c.id))
    return [(row.id, row.dag_id) for row in rows]


def _protected(connection: Connection, dag_ids: Collection[str]) -> set[int]:
    """Ids of the runs that stay whatever their age."""
    kept: set[int] = set()
    conditions: list[list[ColumnElement[bool]]] = [
        [],
        [dag_run.c.state == states.SUCCESS],
        [dag_run.c.run_type.in_(["scheduled", "backfill"])],
    ]
    for part in _parts(sorted(dag_ids), 1000):
        for condition in conditions:
            newest = (
                select(dag_run.c.dag_id, func.max(dag_run.c.logical_date).label("at"))
                .where(dag_run.c.dag_id.in_(part), *condition)
                .group_by(dag_run.c.dag_id)
                .subquery()
            )
            kept.update(_ids_at(connection, newest))
        unfinished = dag_run.alias("unfinished")
        before = dag_run.alias("before")
        previous = (
            select(before.c.dag_id, func.max(before.c.logical_date).label("at"))
            .join_from(
                unfinished,
                before,
                and_(before.c.dag_id == unfinished.c.dag_id, before.c.logical_date < unfinished.c.logical_date),
            )
            .where(unfinished.c.dag_id.in_(part), unfinished.c.state.not_in(_ENDED))
            .group_by(unfinished.c.id, before.c.dag_id)
            .subquery()
        )
        kept.update(_ids_at(connection, previous))
    return kept


def _ids_at(connection: Connection, dates: Any) -> Iterable[int]:
    return connection.execute(
        select(dag_run.c.id).join(dates, and_(dag_run.c.dag_id == dates.c.dag_id, dag_run.c.logical_date == dates.c.at))
    ).scalars()


def _orphan(table: Table) -> ColumnElement[bool]:
    return ~exists().where(dag_run.c.id == table.c.dag_run_id)


def _single_tables(before: datetime) -> list[tuple[Table, ColumnElement[bool], str]]:
    when = f"before {before.isoformat()}"
    return [
        (attempt_result, attempt_result.c.created_at < before, f"left {when}, and nobody took them"),
        (instance, and_(instance.c.ended_at.is_not(None), instance.c.ended_at < before), f"ended {when}"),
        (log, log.c.at < before, f"written {when}"),
    ]


def _unused_version(before: datetime) -> ColumnElement[bool]:
    return and_(
        dag_version.c.created_at < before,
        ~exists().where(dag.c.version_hash == dag_version.c.hash),
        ~exists().where(dag_run.c.version_hash == dag_version.c.hash),
    )


def _count_versions(connection: Connection, before: datetime, going: set[int]) -> int:
    """Unused versions, once the runs `going` are gone."""
    candidates = set(
        connection.execute(
            select(dag_version.c.hash).where(
                dag_version.c.created_at < before, ~exists().where(dag.c.version_hash == dag_version.c.hash)
            )
        ).scalars()
    )
    if not candidates:
        return 0
    rows = connection.execute(select(dag_run.c.id, dag_run.c.version_hash).where(dag_run.c.version_hash.is_not(None)))
    return len(candidates - {row.version_hash for row in rows if row.id not in going})


def _count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def _parts(items: Collection[Any], size: int) -> Iterable[list[Any]]:
    everything = list(items)
    return (everything[index : index + size] for index in range(0, len(everything), size))
