"""The grid of a DAG: its runs by its tasks, and beside it what failed in the newest run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from opskit.core.dag import states
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid
from opskit.core.metastore.browsing.grid import RunFilter, RunRow
from opskit.errors import NotFound
from opskit.web.definitions import Definition, definition
from opskit.web.identity import Who
from opskit.web.links import run_url, task_url
from opskit.web.pages import of_dag
from opskit.web.pages.grid_rows import Folds, Row, cells, cells_html, column_html, folds, rows
from opskit.web.render import render
from opskit.web.store import TheStore
from opskit.web.summaries import Summary, merged

router = APIRouter()
RUNS = 25
_MOST_CELLS = 4_000
_MOST_OTHERS = 50
"""Tasks that only older versions of the DAG have."""
_BAR_HEIGHT = 56
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs", "Task Instances"))]
Strings = Annotated[tuple[str, ...], Query()]


@router.get("/dags/{dag_id}")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    state: Strings = (),
    run_type: Strings = (),
    open: Strings = (),
    fold: Strings = (),
    start: str = "",
    end: str = "",
    before: str = "",
    after: str = "",
    runs: Annotated[int, Query(ge=1, le=grid.MOST_RUNS)] = RUNS,
    rows_page: Annotated[int, Query(ge=1)] = 1,
) -> HTMLResponse:
    wanted = run_filter(state, run_type, start, end, before, after)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        version = _definition(connection, dag)
        page = grid.page_of_runs(connection, dag_id, wanted, runs)
        groups = folds(version, open, fold) if version else Folds()
        lines = rows(version, groups) if version else []
        per_page = max(40, _MOST_CELLS // max(1, len(page.runs)))
        pages = max(1, -(-len(lines) // per_page))
        lines = lines[(min(rows_page, pages) - 1) * per_page :][:per_page]
        all_tasks = pages == 1
        shown = None if all_tasks else {task_id for line in lines for task_id in line.tasks}
        found = cells(grid.count_states(connection, [run.id for run in page.runs], shown))
    if all_tasks:
        known = set(version.dag.by_id) if version else set()
        others = sorted({task_id for of_run in found.values() for task_id in of_run} - known)
        lines += [Row(name, name, 0, (name,), is_gone=True) for name in others[:_MOST_OTHERS]]
    now = datetime.now(UTC)
    scale = max((run.seconds(now) or 0 for run in page.runs), default=0)
    per_run = [found.get(run.id, {}) for run in page.runs[::-1]]
    return render(
        request,
        "dag/grid.html",
        **of_dag.frame(who, dag, "grid"),
        columns=_columns(page.runs[::-1], found, scale),
        lines=lines,
        folds=groups,
        cells_of=lambda line: cells_html(line, per_run),
        page=page,
        filters={"state": state, "run_type": run_type, "start": start, "end": end, "runs": runs},
        is_filtered=bool(wanted.states or wanted.run_types or start or end),
        rows_page=min(rows_page, pages),
        rows_pages=pages,
        newest=_newest(dag_id, page.runs, found, has_newer=page.has_newer, is_whole=all_tasks),
        scale=scale,
        run_states=of_dag.RUN_STATES,
        run_types=of_dag.RUN_TYPES,
        task_states=[one or "none" for one in states.TASK_STATES],
    )


def run_filter(
    state: Sequence[str], run_type: Sequence[str], start: str, end: str, before: str = "", after: str = ""
) -> RunFilter:
    """What the URL asks for. UsageError for what can't be read."""
    return RunFilter(
        states=of_dag.one_of(state, of_dag.RUN_STATES, "state"),
        run_types=of_dag.one_of(run_type, of_dag.RUN_TYPES, "run_type"),
        start=of_dag.moment(start, "start"),
        end=of_dag.moment(end, "end", end_of_day=True),
        before=of_dag.moment(before, "before"),
        after=of_dag.moment(after, "after"),
    )


def _definition(connection: Any, dag: dags.Dag) -> Definition | None:
    try:
        return definition(connection, dag.dag_id, dag.version_hash)
    except NotFound:
        return None  # brought from a backup without its versions: runs are there all the same


def _columns(runs: list[RunRow], found: dict[int, dict[str, Summary]], scale: float) -> list[Markup]:
    now = datetime.now(UTC)
    return [
        column_html(
            run,
            seconds := run.seconds(now),
            max(3, round((seconds or 0) / (scale or 1) * _BAR_HEIGHT)),
            _BAR_HEIGHT,
            merged(found.get(run.id, {}).values()).words(),
        )
        for run in runs
    ]


def _newest(
    dag_id: str, runs: list[RunRow], found: dict[int, dict[str, Summary]], *, has_newer: bool, is_whole: bool
) -> dict[str, Any] | None:
    """The newest run in short, with the tasks that failed in it: what one looks for first."""
    if not runs or has_newer or not is_whole:
        return None
    run = runs[0]
    of_run = found.get(run.id, {})
    failed = [task_id for task_id, summary in of_run.items() if states.FAILED in summary.counts]
    return {
        "run": run,
        "url": run_url(dag_id, run.run_id, number=run.id),
        "summary": merged(of_run.values()),
        "failed": [
            {
                "task_id": task_id,
                "count": of_run[task_id].counts[states.FAILED],
                "url": task_url(dag_id, run.run_id, task_id, number=run.id),
            }
            for task_id in sorted(failed)[:10]
        ],
        "more_failed": max(0, len(failed) - 10),
        "clear_url": run_url(dag_id, run.run_id, "clear", number=run.id, only_failed=True, downstream=True),
        "seconds": run.seconds(datetime.now(UTC)),
    }
