"""How long the runs of a DAG took, and each of its tasks in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.dag import states
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import durations, grid
from opskit.core.metastore.browsing.durations import TaskTimes
from opskit.core.metastore.browsing.grid import RunFilter, RunRow
from opskit.errors import NotFound
from opskit.web import formats
from opskit.web.identity import Who
from opskit.web.links import run_url, task_url
from opskit.web.pages import of_dag
from opskit.web.pages.time_scale import seconds_ticks
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter()
_RUNS = 50
_TASKS = 150
_LEFT, _TOP, _WIDTH, _HEIGHT = 70, 14, 900, 220
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs", "Task Instances"))]


@dataclass(frozen=True, slots=True)
class DurationBar:
    """A run: it waited (below), then it ran."""

    x: float
    width: float
    y: float
    height: float
    wait_y: float
    wait_height: float
    css: str
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class DurationChart:
    """Bars by time, the oldest on the left."""

    bars: list[DurationBar]
    ticks: list[tuple[float, str]]
    dates: list[tuple[float, str]]
    median_y: float | None
    median_text: str
    left: int = _LEFT
    top: int = _TOP
    width: int = _LEFT + _WIDTH + 10
    bottom: int = _TOP + _HEIGHT


@dataclass(frozen=True, slots=True)
class TaskDurations:
    """One task over these runs, in seconds."""

    task_id: str
    median: float
    longest: float
    last: float
    share: float
    """Of the longest median, 0 to 1."""
    count: int


@router.get("/dags/{dag_id}/durations")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    task: str = "",
    runs: Annotated[int, Query(ge=1, le=grid.MOST_RUNS)] = _RUNS,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        rows = grid.page_of_runs(connection, dag_id, RunFilter(), runs).runs[::-1]
        times = durations.task_times(connection, [run.id for run in rows])
    by_run: dict[int, dict[str, TaskTimes]] = {}
    for one in times:
        by_run.setdefault(one.dag_run_id, {})[one.task_id] = one
    tasks = _tasks(rows, by_run)
    if task and task not in {one.task_id for one in tasks}:
        raise NotFound(f"task {task[:250]!r} has not ended in the last {len(rows)} runs of DAG {dag_id}")
    return render(
        request,
        "dag/durations.html",
        **of_dag.frame(who, dag, "durations"),
        chart=_of_task(dag_id, rows, by_run, task) if task else _of_runs(rows, now),
        tasks=tasks[:_TASKS],
        more=max(0, len(tasks) - _TASKS),
        task=task,
        runs=len(rows),
        run_limits=(25, 50, 100),
        limit=runs,
    )


def _of_runs(rows: Sequence[RunRow], now: datetime) -> DurationChart:
    entries = []
    for run in rows:
        seconds = run.seconds(now)
        waited = max(0.0, (run.start_date - run.queued_at).total_seconds()) if run.start_date else 0.0
        entries.append((run, seconds or 0.0, waited, run.state, run_url(run.dag_id, run.run_id, number=run.id)))
    ended = [seconds for run, seconds, *_ in entries if run.state == states.SUCCESS]
    return _chart(entries, median(ended) if ended else None)


def _of_task(
    dag_id: str, rows: Sequence[RunRow], by_run: Mapping[int, Mapping[str, TaskTimes]], task_id: str
) -> DurationChart:
    entries = []
    for run in rows:
        one = by_run.get(run.id, {}).get(task_id)
        if one is None or one.start_date is None or one.end_date is None:
            continue
        waited = max(0.0, (one.start_date - one.queued_at).total_seconds()) if one.queued_at else 0.0
        url = task_url(dag_id, run.run_id, task_id, number=run.id)
        took = max(0.0, (one.end_date - one.start_date).total_seconds())
        entries.append((run, took, waited, run.state, url))
    return _chart(entries, median([took for _, took, *_ in entries]) if entries else None)


def _chart(entries: Sequence[tuple[RunRow, float, float, str, str]], middle: float | None) -> DurationChart:
    longest = max((took + waited for _, took, waited, _, _ in entries), default=0.0) or 1.0
    step = _WIDTH / max(len(entries), 12)
    bottom = _TOP + _HEIGHT
    bars, dates = [], []
    for number, (run, took, waited, state, url) in enumerate(entries):
        x = _LEFT + number * step
        high, low = took / longest * _HEIGHT, waited / longest * _HEIGHT
        words = f"{formats.stamp(run.logical_date)}: {formats.state_name(state)}, {formats.duration(took)}"
        words += f", waited {formats.duration(waited)}" if waited >= 1 else ""
        bars.append(
            DurationBar(
                round(x + step * 0.12, 1),
                round(step * 0.76, 1),
                round(bottom - low - max(high, 1.0), 1),
                round(max(high, 1.0), 1),
                round(bottom - low, 1),
                round(low, 1),
                formats.state_class(state),
                words,
                url,
            )
        )
        if number % max(1, -(-len(entries) // 8)) == 0:
            dates.append((round(x + step / 2, 1), run.logical_date.strftime("%m-%d %H:%M")))
    return DurationChart(
        bars,
        seconds_ticks(longest, _HEIGHT, bottom),
        dates,
        None if middle is None else round(bottom - middle / longest * _HEIGHT, 1),
        formats.duration(middle),
    )


def _tasks(rows: Sequence[RunRow], by_run: Mapping[int, Mapping[str, TaskTimes]]) -> list[TaskDurations]:
    """The slowest first; of attempts that have ended."""
    seconds: dict[str, list[float]] = {}
    for run in rows:
        for task_id, one in by_run.get(run.id, {}).items():
            if one.start_date is not None and one.end_date is not None:
                seconds.setdefault(task_id, []).append(max(0.0, (one.end_date - one.start_date).total_seconds()))
    medians = {task_id: median(values) for task_id, values in seconds.items()}
    most = max(medians.values(), default=0.0) or 1.0
    found = [
        TaskDurations(task_id, medians[task_id], max(values), values[-1], medians[task_id] / most, len(values))
        for task_id, values in seconds.items()
    ]
    return sorted(found, key=lambda one: (-one.median, one.task_id))
