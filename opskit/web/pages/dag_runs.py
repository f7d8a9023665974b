"""The runs of a DAG as a list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid
from opskit.web.identity import Who
from opskit.web.links import run_url
from opskit.web.pages import of_dag, run_batch
from opskit.web.pages.dag_grid import run_filter
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter()
_RUNS = 50
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs"))]
Strings = Annotated[tuple[str, ...], Query()]


@router.get("/dags/{dag_id}/runs")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    state: Strings = (),
    run_type: Strings = (),
    start: str = "",
    end: str = "",
    before: str = "",
    after: str = "",
) -> HTMLResponse:
    wanted = run_filter(state, run_type, start, end, before, after)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        page = grid.page_of_runs(connection, dag_id, wanted, _RUNS)
    now = datetime.now(UTC)
    return render(
        request,
        "dag/runs.html",
        **of_dag.frame(who, dag, "runs"),
        page=page,
        filters={"state": state, "run_type": run_type, "start": start, "end": end},
        is_filtered=bool(wanted.states or wanted.run_types or start or end),
        run_states=of_dag.RUN_STATES,
        run_types=of_dag.RUN_TYPES,
        link=lambda run: run_url(dag_id, run.run_id, number=run.id),
        seconds=lambda run: run.seconds(now),
        actions=run_batch.allowed(who, dag_id),
    )
