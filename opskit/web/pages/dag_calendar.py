"""A year of a DAG: each day with the state of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore import dags
from opskit.core.metastore.browsing import calendar
from opskit.web import formats
from opskit.web.identity import Who
from opskit.web.links import dag_url
from opskit.web.pages import of_dag
from opskit.web.pages.grid_rows import short
from opskit.web.render import render
from opskit.web.store import TheStore
from opskit.web.summaries import counted

router = APIRouter()
_CELL = 17
_LEFT, _TOP = 36, 20
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs"))]


@dataclass(frozen=True, slots=True)
class Day:
    """One square."""

    x: int
    y: int
    css: str
    text: str
    title: str
    url: str


@router.get("/dags/{dag_id}/calendar")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    year: Annotated[int | None, Query(ge=1970, le=9998)] = None,
) -> HTMLResponse:
    today = datetime.now(UTC).date()
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        first, last = calendar.logical_bounds(connection, dag_id)
        chosen = year or (last.year if last is not None and last.date() < today else today.year)
        start, end = datetime(chosen, 1, 1, tzinfo=UTC), datetime(chosen + 1, 1, 1, tzinfo=UTC)
        days = calendar.runs_by_day(connection, dag_id, start, end)
    totals: dict[str | None, int] = {}
    for counts in days.values():
        for state, count in counts.items():
            totals[state] = totals.get(state, 0) + count
    return render(
        request,
        "dag/calendar.html",
        **of_dag.frame(who, dag, "calendar"),
        year=chosen,
        before=chosen - 1 if first is not None and first.year < chosen else None,
        after=chosen + 1 if last is not None and last.year > chosen else None,
        days=[
            _day(dag_id, date(chosen, 1, 1) + timedelta(days=number), days, today) for number in range(_length(chosen))
        ],
        months=[(_x(date(chosen, month, 1)), date(chosen, month, 1).strftime("%b")) for month in range(1, 13)],
        weekdays=[
            (_TOP + _CELL * number + 12, name) for number, name in ((0, "Mon"), (2, "Wed"), (4, "Fri"), (6, "Sun"))
        ],
        totals=counted(totals),
        cell=_CELL - 2,
        width=_LEFT + 54 * _CELL,
        height=_TOP + 7 * _CELL + 4,
    )


def _length(year: int) -> int:
    return (date(year + 1, 1, 1) - date(year, 1, 1)).days


def _x(day: date) -> int:
    first = date(day.year, 1, 1)
    return _LEFT + ((day - first).days + first.weekday()) // 7 * _CELL


def _day(dag_id: str, day: date, days: dict[date, dict[str, int]], today: date) -> Day:
    x, y = _x(day), _TOP + day.weekday() * _CELL
    counts = days.get(day)
    if not counts:
        return Day(x, y, "future" if day > today else "no-runs", "", f"{day}: no runs", "")
    summary = counted(dict(counts.items()))
    url = dag_url(dag_id, "runs", start=day, end=day)
    shown = summary.counts[summary.state]
    text = short(shown) if summary.total > 1 else formats.state_sign(summary.state)
    return Day(x, y, formats.state_class(summary.state), text, f"{day}: {summary.words()}", url)
