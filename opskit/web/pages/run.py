"""One run: its tasks, graph, gantt and details; and the way from a place in a grid to a task instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from opskit.core.dag import states
from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid, run_page, task_page
from opskit.core.metastore.runs import Run
from opskit.errors import NotFound
from opskit.web import formats
from opskit.web.definitions import of_run as version_of
from opskit.web.identity import READ, Who
from opskit.web.links import dag_url, run_url, task_url
from opskit.web.pages import of_dag, of_run
from opskit.web.pages.dag_graph import graph_parts
from opskit.web.pages.gantt_view import gantt
from opskit.web.pages.run_tasks import TaskLine, task_lines
from opskit.web.render import render
from opskit.web.store import TheStore
from opskit.web.summaries import Summary, merged

router = APIRouter()
_ROWS = 150
_FAILURES = 12
MAY_READ = of_dag.reader("DAG Runs", "Task Instances")
Reader = Annotated[Who, Depends(MAY_READ)]
Strings = Annotated[tuple[str, ...], Query()]
Page = Annotated[int, Query(ge=1)]


@router.get("/dags/{dag_id}/runs/{run_id}")
def tasks(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    run_id: str,
    state: Strings = (),
    q: str = "",
    page: Page = 1,
) -> HTMLResponse:
    now = datetime.now(UTC)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        version = version_of(connection, dag_id, run.version_hash, dag.version_hash)
        lines = task_lines(version, run_page.tasks_of_run(connection, run.id))
        before, after = run_page.neighbours(connection, dag_id, run.logical_date)
    wanted = {None if one == "none" else one for one in state}
    shown = [
        line
        for line in lines
        if (not wanted or wanted & line.summary.counts.keys()) and q.lower() in line.task_id.lower()
    ]
    pages = max(1, -(-len(shown) // _ROWS))
    page = min(page, pages)
    failed = [line for line in lines if states.FAILED in line.summary.counts]
    return render(
        request,
        "run/tasks.html",
        **of_run.frame(who, dag, run, "tasks"),
        **_facts(run, now),
        lines=shown[(page - 1) * _ROWS :][:_ROWS],
        shown=len(shown),
        total=len(lines),
        page=page,
        pages=pages,
        summary=merged(line.summary for line in lines),
        chosen=sorted(state),
        q=q,
        failed=failed[:_FAILURES],
        more_failed=len(failed) - _FAILURES,
        before=before and run_url(dag_id, before[0], number=before[1]),
        after=after and run_url(dag_id, after[0], number=after[1]),
        link=lambda line, **query: _task_link(run, line, **query),
        seconds=lambda line: line.seconds(now),
    )


def _facts(run: Run, now: datetime) -> dict[str, Any]:
    took = None if run.start_date is None else ((run.end_date or now) - run.start_date).total_seconds()
    return {"took": took}


def _task_link(run: Run, line: TaskLine, **query: object) -> str:
    return task_url(run.dag_id, run.run_id, line.task_id, -1, "", number=run.id, **query)


@router.get("/dags/{dag_id}/runs/{run_id}/graph")
def graph(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    run_id: str,
    open: Strings = (),
    fold: Strings = (),
    arrange: str = "",
) -> HTMLResponse:
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        version = version_of(connection, dag_id, run.version_hash, dag.version_hash)
        parts = graph_parts(connection, version, run.id, open, fold, arrange)
    facts = _facts(run, datetime.now(UTC))
    return render(request, "run/graph.html", **of_run.frame(who, dag, run, "graph"), **facts, **parts)


@router.get("/dags/{dag_id}/runs/{run_id}/gantt")
def show_gantt(
    request: Request, store: TheStore, who: Reader, dag_id: str, run_id: str, page: Page = 1
) -> HTMLResponse:
    now = datetime.now(UTC)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        version = version_of(connection, dag_id, run.version_hash, dag.version_hash)
        earlier = run_page.earlier_tries(connection, run.id)
        lines = task_lines(version, run_page.tasks_of_run(connection, run.id), earlier)
    drawn = gantt(run, lines, now, page)
    facts = _facts(run, now)
    return render(request, "run/gantt.html", **of_run.frame(who, dag, run, "gantt"), **facts, gantt=drawn)


@router.get("/dags/{dag_id}/gantt", dependencies=[Depends(MAY_READ)])
def newest_gantt(store: TheStore, dag_id: str) -> RedirectResponse:
    """To the gantt of the newest run; without a run to the grid."""
    with store.reading() as connection:
        dags.get_dag(connection, dag_id)
        newest = grid.newest_run(connection, dag_id)
    if newest is None:
        return RedirectResponse(dag_url(dag_id), 303)
    return RedirectResponse(run_url(dag_id, newest.run_id, "gantt", number=newest.id), 303)


@router.get("/dags/{dag_id}/runs/{run_id}/details")
def details(request: Request, store: TheStore, who: Reader, dag_id: str, run_id: str) -> HTMLResponse:
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        version = version_of(connection, dag_id, run.version_hash, dag.version_hash)
    params = {**version.dag.params, **run.conf}
    return render(
        request,
        "run/details.html",
        **of_run.frame(who, dag, run, "details"),
        **_facts(run, datetime.now(UTC)),
        conf=shown_json(run.conf),
        params=shown_json(params),
        may_read_code=who.can(READ, "DAG Code", dag_id),
    )


_SHOWN = 20_000


def shown_json(value: object) -> str:
    """For people, secrets hidden by their names, cut off after 20,000 characters."""
    text = json.dumps(hidden(value), indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n… ({len(text) - _SHOWN:,} more characters)"


def hidden(value: object) -> object:
    """The value without what its names tell to be a secret."""
    if isinstance(value, dict):
        return {
            key: "***" if is_secret_name(str(key)) and item not in (None, "") else hidden(item)
            for key, item in value.items()
        }
    return [hidden(item) for item in value] if isinstance(value, (list, tuple)) else value


@router.get("/dags/{dag_id}/at/{run_number}/{task_id}", dependencies=[Depends(MAY_READ)])
def at(store: TheStore, dag_id: str, run_number: int, task_id: str, brief: bool = False) -> Response:
    """To the task instance of this `dag_run.id`; `brief`: what a tooltip says of it, as a JSON list of texts."""
    now = datetime.now(UTC)
    with store.reading() as connection:
        run_id = run_page.run_id_of(connection, dag_id, run_number)
        if run_id is None:
            raise NotFound(f"DAG {dag_id} has no run with the number {run_number}")
        if not brief:
            return RedirectResponse(task_url(dag_id, run_id, task_id, number=run_number), 303)
        rows = run_page.tasks_of_run(connection, run_number, task_id)
        indexes = task_page.map_indexes(connection, run_number, task_id)
    if not indexes:
        raise NotFound(f"run {run_id} of DAG {dag_id} has no task {task_id!r}")
    summary, begun, ended = Summary(), [], []
    for row in rows:
        summary.add(row.state, row.count)
        begun += [row.start_date] if row.start_date else []
        ended += [row.end_date] if row.end_date else []
    lines = []
    if begun:
        lines.append(f"started {formats.stamp(min(begun))}")
        over = not any(state in states.HELD for state in summary.counts) and ended
        took = ((max(ended) if over else now) - min(begun)).total_seconds()
        lines.append(f"{'took' if over else 'for'} {formats.duration(took)}")
    tries = max((row.try_number for row in rows), default=0)
    if tries > 1:
        lines.append(f"try {tries}")
    lines += [row.reason[:200] for row in rows if row.reason][:1]
    return JSONResponse(lines)
