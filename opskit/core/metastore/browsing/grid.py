"""What the grid of a DAG shows: a page of its runs, and how many task instances of each task are in which state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.tables import dag_run, task_instance

MOST_RUNS = 100
"""On one page."""
_COLUMNS = [dag_run.c[name] for name in ("id", "dag_id", "run_id", "run_type", "state", "logical_date")] + [
    dag_run.c[name] for name in ("queued_at", "start_date", "end_date", "version_hash", "note")
]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as lists show it."""

    id: int
    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime
    queued_at: datetime
    start_date: datetime | None
    end_date: datetime | None
    version_hash: str | None
    note: str | None

    def seconds(self, now: datetime) -> float | None:
        """How long it has run; until now, while it does. None: it has not begun."""
        return None if self.start_date is None else max(0.0, ((self.end_date or now) - self.start_date).total_seconds())


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs; empty: all. `start` and `end` bound the logical date, both included."""

    states: Collection[str] = ()
    run_types: Collection[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    before: datetime | None = None
    """The page of runs older than this logical date."""
    after: datetime | None = None
    """The page of runs newer than this one."""


@dataclass(frozen=True, slots=True)
class RunsPage:
    """Runs, the newest first; whether there are others beside them."""

    runs: list[RunRow] = field(default_factory=list)
    has_older: bool = False
    has_newer: bool = False


class StateCount(NamedTuple):
    """So many instances of one task in one run are in this state."""

    dag_run_id: int
    task_id: str
    state: str | None
    number: int


def _matching(dag_id: str, wanted: RunFilter) -> list[ColumnElement[bool]]:
    conditions = [dag_run.c.dag_id == dag_id]
    if wanted.states:
        conditions.append(dag_run.c.state.in_(sorted(wanted.states)))
    if wanted.run_types:
        conditions.append(dag_run.c.run_type.in_(sorted(wanted.run_types)))
    if wanted.start is not None:
        conditions.append(dag_run.c.logical_date >= wanted.start)
    if wanted.end is not None:
        conditions.append(dag_run.c.logical_date <= wanted.end)
    return conditions


_NEWEST = (
    select(*_COLUMNS)
    .where(dag_run.c.dag_id == bindparam("of_dag"))
    .order_by(dag_run.c.logical_date.desc())
    .limit(bindparam("many", type_=Integer))
)


def page_of_runs(connection: Connection, dag_id: str, wanted: RunFilter, limit: int) -> RunsPage:
    """At most `limit` runs of a DAG by logical date: two statements at most, each a walk along an index."""
    limit = max(1, min(limit, MOST_RUNS))
    if not (wanted.states or wanted.run_types or wanted.start or wanted.end or wanted.before or wanted.after):
        found = connection.execute(_NEWEST, {"of_dag": dag_id, "many": limit + 1}).all()
        return RunsPage([RunRow(*row) for row in found[:limit]], has_older=len(found) > limit)
    query = select(*_COLUMNS).where(*_matching(dag_id, wanted))
    if wanted.after is not None:
        rows = _read(connection, query.where(dag_run.c.logical_date > wanted.after), limit + 1, newest_first=False)
        runs = rows[:limit][::-1]
        return RunsPage(
            runs, has_older=_exists(connection, dag_id, wanted, runs, older=True), has_newer=len(rows) > limit
        )
    if wanted.before is not None:
        query = query.where(dag_run.c.logical_date < wanted.before)
    rows = _read(connection, query, limit + 1, newest_first=True)
    runs = rows[:limit]
    newer = wanted.before is not None and _exists(connection, dag_id, wanted, runs, older=False)
    return RunsPage(runs, has_older=len(rows) > limit, has_newer=newer)


def _read(connection: Connection, query: Select[Any], limit: int, *, newest_first: bool) -> list[RunRow]:
    by_date = dag_run.c.logical_date.desc() if newest_first else dag_run.c.logical_date
    return [RunRow(*row) for row in connection.execute(query.order_by(by_date).limit(limit)).all()]


def _exists(connection: Connection, dag_id: str, wanted: RunFilter, runs: Sequence[RunRow], *, older: bool) -> bool:
    """Whether there are such runs beyond the ends of this page."""
    if older:
        edge = runs[-1].logical_date if runs else wanted.after
        beyond = dag_run.c.logical_date < edge if runs else dag_run.c.logical_date <= edge
    else:
        edge = runs[0].logical_date if runs else wanted.before
        beyond = dag_run.c.logical_date > edge if runs else dag_run.c.logical_date >= edge
    query = select(dag_run.c.id).where(*_matching(dag_id, wanted), beyond).limit(1)
    return connection.execute(query).first() is not None


def runs_of_numbers(connection: Connection, dag_id: str, numbers: Collection[int]) -> list[RunRow]:
    """Those runs of a DAG that have these `dag_run.id`, the newest first."""
    query = select(*_COLUMNS).where(dag_run.c.dag_id == dag_id, dag_run.c.id.in_(sorted(set(numbers))))
    return [RunRow(*row) for row in connection.execute(query.order_by(dag_run.c.logical_date.desc()))]


def newest_run(connection: Connection, dag_id: str) -> RunRow | None:
    """The run of the latest logical date."""
    query = select(*_COLUMNS).where(dag_run.c.dag_id == dag_id).order_by(dag_run.c.logical_date.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else RunRow(*row)


# Made once: every grid and graph asks these.
_COUNTS = (
    select(task_instance.c.dag_run_id, task_instance.c.task_id, task_instance.c.state, func.count())
    .where(task_instance.c.dag_run_id.in_(bindparam("runs", expanding=True)))
    .group_by(task_instance.c.dag_run_id, task_instance.c.task_id, task_instance.c.state)
)


def count_states(
    connection: Connection, run_numbers: Collection[int], task_ids: Collection[str] | None = None
) -> list[StateCount]:
    """Per run (`dag_run.id`), task and state, how many task instances there are: mapped ones are counted, not read."""
    if not run_numbers or (task_ids is not None and not task_ids):
        return []
    query = _COUNTS
    if task_ids is not None:
        query = query.where(task_instance.c.task_id.in_(sorted(task_ids)))
    return list(map(StateCount._make, connection.execute(query, {"runs": sorted(run_numbers)}).all()))
