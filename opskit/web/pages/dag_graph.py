"""The graph of a DAG, in the colours of one of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid
from opskit.core.metastore.browsing.grid import RunFilter, RunRow
from opskit.core.metastore.engine import Connection
from opskit.errors import NotFound, UsageError
from opskit.web.definitions import Definition, of_run
from opskit.web.graph_layout import Orientation
from opskit.web.identity import Who
from opskit.web.pages import of_dag
from opskit.web.pages.graph_view import default_orientation, drawing
from opskit.web.pages.grid_rows import cells, folds
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter()
_CHOICES = 25
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs", "Task Instances"))]
Strings = Annotated[tuple[str, ...], Query()]


@router.get("/dags/{dag_id}/graph")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    open: Strings = (),
    fold: Strings = (),
    run: str = "",
    arrange: str = "",
) -> HTMLResponse:
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        choices = grid.page_of_runs(connection, dag_id, RunFilter(), _CHOICES).runs
        chosen = _chosen(choices, run, dag_id)
        version = of_run(connection, dag_id, chosen.version_hash if chosen else None, dag.version_hash)
        parts = graph_parts(connection, version, chosen.id if chosen else None, open, fold, arrange)
    return render(request, "dag/graph.html", **of_dag.frame(who, dag, "graph"), **parts, chosen=chosen, choices=choices)


def graph_parts(
    connection: Connection,
    version: Definition,
    run_number: int | None,
    opened: Iterable[str],
    folded: Iterable[str],
    arrange: str,
) -> dict[str, Any]:
    """What dag/graph_part.html needs."""
    orientation: Orientation
    if arrange == "LR":
        orientation = "LR"
    elif arrange == "TB":
        orientation = "TB"
    elif not arrange:
        orientation = default_orientation(version)
    else:
        raise UsageError(
            f"arrange: there is no {arrange[:20]!r}", hint="choose LR (left to right) or TB (top to bottom)"
        )
    groups = folds(version, opened, folded)
    states = None
    if run_number is not None:
        states = cells(grid.count_states(connection, [run_number])).get(run_number, {})
    return {"graph": drawing(version, groups, orientation, states, run_number), "folds": groups}


def _chosen(choices: list[RunRow], run_id: str, dag_id: str) -> RunRow | None:
    if not run_id:
        return choices[0] if choices else None
    found = next((run for run in choices if run.run_id == run_id), None)
    if found is None:
        raise NotFound(
            f"run {run_id!r} is not among the last {_CHOICES} runs of DAG {dag_id}",
            hint="the page of the run has its graph, too",
        )
    return found
