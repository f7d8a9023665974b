"""Lists of DagRuns."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Select, and_, func, select
from sqlalchemy.engine import Connection

from opskit.core.metastore.browsing import totals
from opskit.core.metastore.browsing.window import Window, cut
from opskit.core.metastore.runs import Run
from opskit.core.metastore.tables import dag_run

_KEPT = 4_096
Span = tuple[datetime | None, datetime | None]
"""From and to, both included; None: without a bound."""
ANY: Span = (None, None)

updated_at = func.coalesce(dag_run.c.end_date, dag_run.c.start_date, dag_run.c.queued_at)
"""The last that is known to have happened to a run."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """None: any. `readable`: the DAGs that may be seen."""

    dag_ids: Collection[str] | None = None
    readable: Collection[str] | None = None
    run_ids: Collection[str] | None = None
    states: Collection[str] | None = None
    logical_date: Span = ANY
    start_date: Span = ANY
    end_date: Span = ANY
    updated_at: Span = ANY

    @property
    def is_open(self) -> bool:
        """It leaves all runs."""
        chosen = (self.dag_ids, self.readable, self.run_ids, self.states)
        spans = (self.logical_date, self.start_date, self.end_date, self.updated_at)
        return all(one is None for one in chosen) and all(span == ANY for span in spans)

    @property
    def is_one(self) -> bool:
        """It names one run."""
        return all(one is not None and len(one) == 1 for one in (self.dag_ids, self.run_ids))


ORDERS: dict[str, Any] = {
    "id": dag_run.c.id,
    "state": dag_run.c.state,
    "dag_id": dag_run.c.dag_id,
    "execution_date": dag_run.c.logical_date,
    "logical_date": dag_run.c.logical_date,
    "dag_run_id": dag_run.c.run_id,
    "start_date": dag_run.c.start_date,
    "end_date": dag_run.c.end_date,
    "updated_at": updated_at,
    "external_trigger": dag_run.c.run_type,
    "conf": dag_run.c.conf,
}


def list_runs(database: Connection, which: RunFilter, window: Window) -> tuple[list[Run], int]:
    """Orders: those of ORDERS."""
    query = filtered(select(dag_run), which)
    found = list(map(_run, database.execute(cut(query, window, ORDERS, dag_run.c.id)).all()))

    def counted() -> int:
        return totals.total(database, filtered(select(dag_run.c.id), which), repr(which))

    return found, window.total(len(found), counted)


@lru_cache(maxsize=_KEPT)
def _run(row: Row[Any]) -> Run:
    """By the row: runs that have ended hardly ever change."""
    return Run(**{**row._mapping, "conf": json.loads(row.conf)})


def filtered(query: Select[Any], which: RunFilter) -> Select[Any]:
    """A query over dag_run, of these runs only."""
    chosen: tuple[tuple[Any, Collection[str] | None], ...] = (
        (dag_run.c.dag_id, which.dag_ids),
        (dag_run.c.dag_id, which.readable),
        (dag_run.c.run_id, which.run_ids),
        (dag_run.c.state, which.states),
    )
    for column, values in chosen:
        if values is not None:
            query = query.where(column.in_(sorted(set(values))))
    spans: tuple[tuple[Any, Span], ...] = (
        (dag_run.c.logical_date, which.logical_date),
        (dag_run.c.start_date, which.start_date),
        (dag_run.c.end_date, which.end_date),
        (updated_at, which.updated_at),
    )
    for column, span in spans:
        query = query.where(within(column, span)) if span != ANY else query
    return query


def within(column: Any, span: tuple[Any, Any]) -> Any:
    """A condition: the column lies within the bounds that there are."""
    lower, upper = span
    return and_(*([column >= lower] if lower is not None else []), *([column <= upper] if upper is not None else []))
