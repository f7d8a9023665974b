"""Decides which DagRuns are old enough to go, and which stay whatever their age; counts what would go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, case, exists, false, func, literal_column, or_, select, tuple_
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.history import CHILDREN
from opskit.core.metastore.tables import (
    asset,
    asset_alias,
    asset_event,
    asset_event_run,
    asset_partition_queue,
    asset_queue,
    asset_reference,
    asset_state,
    attempt_result,
    dag,
    dag_run,
    dag_version,
    instance,
    log,
    question,
    task_instance_note,
    task_state,
)

ENDED = (states.SUCCESS, states.FAILED)
_UNFINISHED = (states.QUEUED, states.RUNNING)
"""By name and not as what has not ended: so an index finds them."""
Cutoffs = Callable[[str, bool], Mapping[str, datetime]]
"""`(dag_id, is_paused)` → state of a run → runs that ended before this are old. A state that is missing never is."""
_AUTOMATED = ("scheduled", "backfill")


@dataclass(frozen=True, slots=True)
class Removal:
    """Rows of one table that would go, or have gone."""

    table: str
    rows: int
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs go, as a condition on `dag_run`, and what that was decided from."""

    old: ColumnElement[bool]
    """Ended, and older than their DAG and state may be."""
    kept: frozenset[int]
    """Ids of runs that stay though they are old."""
    kept_of: Mapping[str, frozenset[int]]
    """All ids that must stay, by DAG, old or not."""
    newest: Mapping[str, datetime]
    """The newest logical date of each DAG."""
    unfinished: frozenset[int]
    paused: Mapping[str, bool]
    backfilling: frozenset[str]
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why old runs stay → how many."""

    def going(self, after: int = 0, upto: int | None = None) -> ColumnElement[bool]:
        """The condition, for runs with `after` < id <= `upto`."""
        parts = [self.old, dag_run.c.id > after]
        if upto is not None:
            parts.append(dag_run.c.id <= upto)
        some = [number for number in self.kept if number > after and (upto is None or number <= upto)]
        if some:
            parts.append(~among(dag_run.c.id, some))
        return and_(*parts)


def among(column: ColumnElement[int], numbers: Collection[int]) -> ColumnElement[bool]:
    """`column IN (…)` for any number of integers: written out, because databases limit the number of parameters."""
    if not numbers:
        return false()
    return column.bool_op("IN")(literal_column(f"({', '.join(str(int(number)) for number in sorted(numbers))})"))


def select_runs(connection: Connection, cutoffs: Cutoffs) -> Selection:
    """Runs that are old by `cutoffs`, but never, of any DAG: the newest run, the newest successful one, the newest
    scheduled or backfill one (the timetable goes on from it), an unfinished one, and the runs just before that (it may
    depend on them); and none of a DAG with an unfinished backfill.
    """
    paused = {row.dag_id: bool(row.is_paused) for row in connection.execute(select(dag.c.dag_id, dag.c.is_paused))}
    newest = _newest(connection)
    paused = {dag_id: paused.get(dag_id, False) for dag_id in newest}
    unfinished = connection.execute(
        select(dag_run.c.id, dag_run.c.dag_id, dag_run.c.run_type).where(dag_run.c.state.in_(_UNFINISHED))
    ).all()
    backfilling = frozenset(row.dag_id for row in unfinished if row.run_type == "backfill")
    groups: dict[tuple[tuple[str, datetime], ...], list[str]] = {}
    for dag_id, is_paused in paused.items():
        limits = {} if dag_id in backfilling else cutoffs(dag_id, is_paused)
        groups.setdefault(tuple(sorted(limits.items())), []).append(dag_id)
    old = _old(groups)
    stays = _ids_at(connection, {(dag_id, date) for dag_id, dates in newest.items() for date in dates if date})
    stays += _before_unfinished(connection)
    kept_of: dict[str, set[int]] = {}
    for number, dag_id in stays:
        kept_of.setdefault(dag_id, set()).add(number)
    everything = {number for numbers in kept_of.values() for number in numbers}
    kept = frozenset(connection.execute(select(dag_run.c.id).where(among(dag_run.c.id, everything), old)).scalars())
    reasons = Counter({"the newest of their DAG, or before an unfinished one": len(kept)})
    for dag_ids, why in (
        (backfilling, "of a DAG with an unfinished backfill"),
        (
            [dag_id for dag_id, is_paused in paused.items() if is_paused and not cutoffs(dag_id, True)],
            "of a paused DAG",
        ),
    ):
        reasons[why] = _count_old(connection, dag_ids, cutoffs)
    return Selection(
        old,
        kept,
        {dag_id: frozenset(numbers) for dag_id, numbers in kept_of.items()},
        {dag_id: dates[0] for dag_id, dates in newest.items() if dates[0]},
        frozenset(row.id for row in unfinished),
        paused,
        backfilling,
        {why: count for why, count in reasons.items() if count},
    )


def _newest(connection: Connection) -> dict[str, tuple[datetime | None, ...]]:
    """dag_id → logical dates of its newest run, its newest successful one, its newest automated one."""
    date = dag_run.c.logical_date
    rows = connection.execute(
        select(
            dag_run.c.dag_id,
            func.max(date),
            func.max(case((dag_run.c.state == states.SUCCESS, date))),
            func.max(case((dag_run.c.run_type.in_(_AUTOMATED), date))),
        ).group_by(dag_run.c.dag_id)
    )
    return {row[0]: tuple(row[1:]) for row in rows}


def _before_unfinished(connection: Connection) -> list[tuple[int, str]]:
    later, before = dag_run.alias("later"), dag_run.alias("before")

    def newest(*conditions: ColumnElement[bool]) -> Any:
        same = and_(before.c.dag_id == later.c.dag_id, before.c.logical_date < later.c.logical_date, *conditions)
        return select(func.max(before.c.logical_date)).where(same).correlate(later).scalar_subquery()

    rows = connection.execute(
        select(later.c.id, later.c.dag_id, newest(), newest(before.c.run_type == "scheduled")).where(
            later.c.state.in_(_UNFINISHED)
        )
    ).all()
    dates = {(row.dag_id, date) for row in rows for date in row[2:] if date}
    return [(row.id, row.dag_id) for row in rows] + _ids_at(connection, dates)


def _ids_at(connection: Connection, dates: Collection[tuple[str, datetime]]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for part in parts_of(sorted(dates), 500):
        query = select(dag_run.c.id, dag_run.c.dag_id).where(tuple_(dag_run.c.dag_id, dag_run.c.logical_date).in_(part))
        found += [(row.id, row.dag_id) for row in connection.execute(query)]
    return found


def _old(groups: Mapping[tuple[tuple[str, datetime], ...], Sequence[str]]) -> ColumnElement[bool]:
    """One condition; the largest group of DAGs is all that are in no other one, so that the text stays short."""
    if not groups:
        return false()
    largest = max(groups, key=lambda limits: len(groups[limits]))
    parts: list[ColumnElement[bool]] = []
    for limits, dag_ids in groups.items():
        aged = [and_(dag_run.c.state == state, _ended() < before) for state, before in limits if state in ENDED]
        if not aged:
            continue
        if limits == largest:
            others = [dag_id for other, names in groups.items() if other != largest for dag_id in names]
            where = dag_run.c.dag_id.not_in(others) if others else None
        else:
            where = dag_run.c.dag_id.in_(dag_ids)
        parts.append(or_(*aged) if where is None else and_(where, or_(*aged)))
    return or_(*parts) if parts else false()


def _ended() -> ColumnElement[datetime]:
    return func.coalesce(dag_run.c.end_date, dag_run.c.queued_at)


def _count_old(connection: Connection, dag_ids: Collection[str], cutoffs: Cutoffs) -> int:
    """Runs of these DAGs that would be old, were it not for the DAG."""
    total = 0
    for dag_id in dag_ids:
        limits = tuple(sorted(cutoffs(dag_id, False).items()))
        if limits:
            condition = and_(dag_run.c.dag_id == dag_id, _old({limits: [dag_id]}))
            total += count(connection, dag_run, condition)
    return total


def lock_dags(
    connection: Connection, selection: Selection, dag_ids: Collection[str], *, skip: bool
) -> frozenset[str] | None:
    """Lock the rows of these DAGs: until the transaction ends nobody clears, marks or schedules runs of them. With
    `skip` those that somebody holds now are left out, and nobody waits. Which are locked; None when what the selection
    was made from is not so any more. (Scheduled runs that are newer than all others change nothing.)
    """
    query = select(dag.c.dag_id, dag.c.is_paused).where(dag.c.dag_id.in_(sorted(dag_ids))).order_by(dag.c.dag_id)
    locked = connection.execute(query.with_for_update(skip_locked=skip)).all()
    if any(bool(row.is_paused) != selection.paused.get(row.dag_id) for row in locked):
        return None
    free = set(dag_ids)
    if skip and len(locked) < len(free):
        # A DAG that was deleted has no row, and nobody works on it.
        known = connection.execute(select(dag.c.dag_id).where(dag.c.dag_id.in_(sorted(dag_ids)))).scalars()
        free -= set(known) - {row.dag_id for row in locked}
    return frozenset(free) if _still_holds(connection, selection, free) else None


def _still_holds(connection: Connection, selection: Selection, dag_ids: Collection[str]) -> bool:
    must_stay = {number for dag_id in dag_ids for number in selection.kept_of.get(dag_id, ())}
    if must_stay and count(connection, dag_run, among(dag_run.c.id, must_stay)) != len(must_stay):
        return False
    rows = connection.execute(
        select(dag_run.c.id, dag_run.c.dag_id, dag_run.c.run_type, dag_run.c.logical_date).where(
            dag_run.c.dag_id.in_(sorted(dag_ids)), dag_run.c.state.in_(_UNFINISHED)
        )
    )
    return all(
        row.id in selection.unfinished
        or (row.run_type != "backfill" and row.logical_date > selection.newest[row.dag_id])
        for row in rows
    )


def single_tables(before: Mapping[str, datetime]) -> list[tuple[Table, ColumnElement[bool], str]]:
    """Tables whose rows go by their own age: table, condition, why. `before`: table → older rows go."""
    found: list[tuple[Table, ColumnElement[bool], str]] = []
    for table, condition, why in (
        (attempt_result, lambda at: attempt_result.c.created_at < at, "left before {}, and nobody took them"),
        (instance, lambda at: and_(instance.c.ended_at.is_not(None), instance.c.ended_at < at), "ended before {}"),
        (log, lambda at: log.c.at < at, "written before {}"),
    ):
        at = before[table.name]
        found.append((table, condition(at), why.format(at.isoformat(timespec="seconds"))))
    at = before[asset_event.name]
    why = f"happened before {at.isoformat(timespec='seconds')}, and no DAG waits with them"
    return [*found, (asset_event, _old_event(at), why)]


def _old_event(before: datetime) -> ColumnElement[bool]:
    """Events that are old, and not the newest of their asset that a DAG still has to make a run of."""
    mine, newer = asset_queue.alias("mine"), asset_queue.alias("newer")
    same = and_(newer.c.dag_id == mine.c.dag_id, newer.c.asset_id == mine.c.asset_id, newer.c.counts.is_(True))
    newest = ~exists().where(same, newer.c.event_id > mine.c.event_id)
    needed = exists().where(mine.c.event_id == asset_event.c.id, mine.c.counts.is_(True), newest)
    collected = exists().where(asset_partition_queue.c.event_id == asset_event.c.id)
    return and_(asset_event.c.at < before, ~needed, ~collected)


def _unused_asset(before: datetime, going: ColumnElement[bool] | None = None) -> ColumnElement[bool]:
    """Assets that no DAG names and that have no events (but those that are `going`): those that tasks have made up, by
    way of an alias."""
    events = [asset_event.c.asset_id == asset.c.id] + ([] if going is None else [~going])
    named = asset_reference.c.hash.in_([asset.c.hash, asset.c.name_hash, asset.c.uri_hash])
    return and_(
        asset.c.created_at < before,
        ~exists().where(named),
        ~exists().where(*events),
        ~exists().where(asset_queue.c.asset_id == asset.c.id),
        ~exists().where(asset_state.c.asset_id == asset.c.id),
    )


def lost_links(before: Mapping[str, datetime]) -> list[tuple[Table, ColumnElement[bool], str]]:
    """What belongs to events, once these are gone: table, condition, why. In this order."""
    queued = ~exists().where(asset_event.c.id == asset_queue.c.event_id)
    linked = ~exists().where(asset_event.c.id == asset_event_run.c.event_id)
    return [
        (asset_queue, queued, "their event is gone"),
        (asset_event_run, or_(linked, orphan(asset_event_run)), "their event or their DagRun is gone"),
        (asset, _unused_asset(before[asset_event.name]), "no DAG names them, and they have no events"),
        (asset_alias, ~exists().where(asset.c.id == asset_alias.c.asset_id), "their asset is gone"),
        (task_state, _lost_state(before[asset_event.name]), "their time is over, or their DagRun is gone"),
        (task_instance_note, orphan(task_instance_note), "their DagRun is gone"),
        (question, orphan(question), "their DagRun is gone"),
    ]


def _lost_state(before: datetime) -> ColumnElement[bool]:
    return or_(task_state.c.expires_at < before, orphan(task_state))


def orphan(table: Table) -> ColumnElement[bool]:
    """Rows whose DagRun is gone."""
    return ~exists().where(dag_run.c.id == table.c.dag_run_id)


def unused_version(before: datetime) -> ColumnElement[bool]:
    return and_(
        dag_version.c.created_at < before,
        ~exists().where(dag.c.version_hash == dag_version.c.hash),
        ~exists().where(dag_run.c.version_hash == dag_version.c.hash),
    )


def plan(
    connection: Connection, runs: Selection, children: Mapping[str, Selection], before: Mapping[str, datetime]
) -> list[Removal]:
    """What would go, with reasons; tables without such rows are left out. `children`: the selection of runs whose rows
    of a child table go, where that is another one; `before`: see `single_tables`, and dag_version."""
    going = runs.going()
    found = [Removal("dag_run", count(connection, dag_run, going), "ended, and older than kept")]
    for table in CHILDREN:
        own = children.get(table.name)
        theirs = _count_children(connection, table, going)
        found.append(Removal(table.name, theirs, "of these DagRuns"))
        if own is not None:
            more = _count_children(connection, table, and_(own.going(), ~going))
            found.append(Removal(table.name, more, "of older DagRuns that stay"))
        found.append(Removal(table.name, count(connection, table, orphan(table)), "their DagRun is gone"))
    for table, condition, why in single_tables(before):
        found.append(Removal(table.name, count(connection, table, condition), why))
    old = _old_event(before[asset_event.name])
    for table, why in ((asset_queue, "of these events"), (asset_event_run, "of these events and DagRuns")):
        stays: ColumnElement[bool] = exists().where(asset_event.c.id == table.c.event_id, ~old)
        if table is asset_event_run:
            stays = and_(stays, exists().where(dag_run.c.id == table.c.dag_run_id, ~going))
        found.append(Removal(table.name, count(connection, table, ~stays), why))
    unused = _unused_asset(before[asset_event.name], old)
    found.append(Removal(asset.name, count(connection, asset, unused), "no DAG names them, and they have no events"))
    links = or_(
        ~exists().where(asset.c.id == asset_alias.c.asset_id),
        exists().where(asset.c.id == asset_alias.c.asset_id, unused),
    )
    found.append(Removal(asset_alias.name, count(connection, asset_alias, links), "of these assets"))
    kept = or_(_lost_state(before[asset_event.name]), exists().where(dag_run.c.id == task_state.c.dag_run_id, going))
    found.append(Removal(task_state.name, count(connection, task_state, kept), "of these DagRuns, or over"))
    for table in (task_instance_note, question):
        gone = or_(orphan(table), exists().where(dag_run.c.id == table.c.dag_run_id, going))
        rows = count(connection, table, gone)
        found.append(Removal(table.name, rows, "of these DagRuns, or of DagRuns that are gone"))
    held = _count_versions(connection, before["dag_version"], going)
    found.append(Removal(dag_version.name, held, "no DAG and no DagRun uses them"))
    return [removal for removal in found if removal.rows]


def _count_children(connection: Connection, table: Table, going: ColumnElement[bool]) -> int:
    joined = table.join(dag_run, dag_run.c.id == table.c.dag_run_id)
    return int(connection.execute(select(func.count()).select_from(joined).where(going)).scalar_one())


def _count_versions(connection: Connection, before: datetime, going: ColumnElement[bool]) -> int:
    """Unused versions, once the runs that go are gone."""
    unused = and_(
        dag_version.c.created_at < before,
        ~exists().where(dag.c.version_hash == dag_version.c.hash),
        ~exists().where(dag_run.c.version_hash == dag_version.c.hash, ~going),
    )
    return count(connection, dag_version, unused)


def count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def parts_of(items: Collection[Any], size: int) -> Iterable[list[Any]]:
    everything = list(items)
    return (everything[index : index + size] for index in range(0, len(everything), size))
