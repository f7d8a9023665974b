"""/dags/{dag_id}/dagRuns: list, start, mark, clear and delete runs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import Field

from opskit.core.metastore import runs as stored
from opskit.core.metastore.browsing import datasets, runs
from opskit.core.metastore.browsing.runs import ORDERS, RunFilter
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.runs import Run
from opskit.errors import NotFound, UsageError
from opskit.web.airflow_api.collections import Body, Fields, Moment, listing, narrowed, paged
from opskit.web.airflow_api.datasets import DatasetEventCollection, event_collection
from opskit.web.airflow_api.run_models import (
    DAGRun,
    DAGRunCollection,
    RunState,
    TaskInstanceReferenceCollection,
)
from opskit.web.changes import dags as dag_changes
from opskit.web.changes import runs as changes
from opskit.web.changes.task_instances import LONGEST_NOTE
from opskit.web.faults import Conflict
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["DAGRun"])
_Reader = Annotated[Who, Depends(allow(READ, "DAG Runs"))]
_From = Annotated[Moment | None, Query(description="From this moment on.")]
_To = Annotated[Moment | None, Query(description="Up to this moment.")]


class NewDAGRun(Body):
    """A run to be started. What else a client sends of a run is ignored where it is null."""

    dag_run_id: str | None = Field(None, max_length=250)
    logical_date: Moment | None = None
    execution_date: Moment | None = None
    data_interval_start: Moment | None = None
    data_interval_end: Moment | None = None
    conf: dict[str, Any] | None = None
    note: str | None = Field(None, max_length=LONGEST_NOTE)


class UpdateDagRunState(Body):
    """The state that a run is set to; queued: a run that had ended goes on."""

    state: Literal["success", "failed", "queued"]


class ClearDagRun(Body):
    """Whether to only say what would be cleared."""

    dry_run: bool = True


class SetDagRunNote(Body):
    """A note; empty or null: none."""

    note: str | None = Field(max_length=LONGEST_NOTE)


class ListDagRunsForm(Body):
    """Which runs to list."""

    order_by: str = Field("id", json_schema_extra={"enum": [sign + name for name in ORDERS for sign in ("", "-")]})
    page_offset: int = Field(0, ge=0, le=2**31)
    page_limit: int = Field(100, ge=1)
    dag_ids: list[str] | None = None
    states: list[RunState] | None = None
    execution_date_gte: Moment | None = None
    execution_date_lte: Moment | None = None
    start_date_gte: Moment | None = None
    start_date_lte: Moment | None = None
    end_date_gte: Moment | None = None
    end_date_lte: Moment | None = None


@router.post("/dags/~/dagRuns/list", operation_id="get_dag_runs_batch")
def get_dag_runs_batch(store: TheStore, who: _Reader, body: ListDagRunsForm) -> DAGRunCollection:
    """List runs of the DAGs that one may see; DAGs that one may not see are left out."""
    name = body.order_by.removeprefix("-")
    if name not in ORDERS:
        raise UsageError(f"order_by: {body.order_by!r} can't be ordered by", hint=f"it can be {', '.join(ORDERS)}")
    most = int(store.config.get("api", "maximum_page_limit"))
    window = Window(min(body.page_limit, most), body.page_offset, name, body.order_by.startswith("-"))
    which = RunFilter(
        dag_ids=body.dag_ids or None,
        readable=who.readable_dags(),
        states=body.states or None,
        logical_date=(body.execution_date_gte, body.execution_date_lte),
        start_date=(body.start_date_gte, body.start_date_lte),
        end_date=(body.end_date_gte, body.end_date_lte),
    )
    return _collection(store, which, window)


@router.get("/dags/{dag_id}/dagRuns", operation_id="get_dag_runs", response_model=DAGRunCollection)
def get_dag_runs(
    store: TheStore,
    who: _Reader,
    dag_id: str,
    window: Annotated[Window, paged(*ORDERS)],
    fields: Fields,
    state: Annotated[list[RunState] | None, Query(description="Runs in one of these states.")] = None,
    execution_date_gte: _From = None,
    execution_date_lte: _To = None,
    start_date_gte: _From = None,
    start_date_lte: _To = None,
    end_date_gte: _From = None,
    end_date_lte: _To = None,
    updated_at_gte: _From = None,
    updated_at_lte: _To = None,
) -> Response:
    """List the runs of a DAG, or with ~ those of all DAGs that one may see."""
    which = RunFilter(
        dag_ids=None if dag_id == "~" else [dag_id],
        readable=who.readable_dags() if dag_id == "~" else None,
        states=state,
        logical_date=(execution_date_gte, execution_date_lte),
        start_date=(start_date_gte, start_date_lte),
        end_date=(end_date_gte, end_date_lte),
        updated_at=(updated_at_gte, updated_at_lte),
    )
    with store.reading() as database:
        found, total = runs.list_runs(database, which, window)
    if fields is None:
        return listing("dag_runs", [store.texts.get(("run", one.id), one, _text) for one in found], total)
    return narrowed(
        DAGRunCollection(dag_runs=[DAGRun.of(one) for one in found], total_entries=total), fields, "dag_runs"
    )


@router.post("/dags/{dag_id}/dagRuns", operation_id="post_dag_run")
def post_dag_run(store: TheStore, who: SignedIn, dag_id: str, body: NewDAGRun) -> DAGRun:
    """Start a run. Without a logical date it is the present moment."""
    if body.logical_date and body.execution_date and body.logical_date != body.execution_date:
        raise UsageError("logical_date and execution_date mean the same, and differ here", hint="send one of them")
    logical_date = body.logical_date or body.execution_date
    if (body.data_interval_start is None) != (body.data_interval_end is None):
        raise UsageError("data_interval_start and data_interval_end must be sent together")
    interval: tuple[datetime, datetime] | None = None
    if body.data_interval_start is not None and body.data_interval_end is not None:
        interval = (body.data_interval_start, body.data_interval_end)
        if interval[0] > interval[1]:
            raise UsageError("data_interval_start is later than data_interval_end")
    run_id = body.dag_run_id or None
    try:
        run = dag_changes.trigger(
            store,
            who,
            dag_id,
            conf=body.conf,
            run_id=run_id,
            logical_date=logical_date,
            note=(body.note or "").strip() or None,
            data_interval=interval,
        )
    except NotFound:
        raise
    except UsageError as error:
        raise _conflict(store, dag_id, run_id, logical_date, error) from error
    return DAGRun.of(run)


@router.get("/dags/{dag_id}/dagRuns/{dag_run_id}", operation_id="get_dag_run", response_model=DAGRun)
def get_dag_run(store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, fields: Fields) -> Response:
    """Get a run."""
    with store.reading() as database:
        run = stored.get_run(database, dag_id, dag_run_id)
    return narrowed(DAGRun.of(run), fields)


@router.patch("/dags/{dag_id}/dagRuns/{dag_run_id}", operation_id="update_dag_run_state")
def update_dag_run_state(
    store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str, body: UpdateDagRunState
) -> DAGRun:
    """End a run as successful or failed, or let it go on."""
    return DAGRun.of(changes.mark(store, who, dag_id, dag_run_id, body.state))


@router.delete("/dags/{dag_id}/dagRuns/{dag_run_id}", operation_id="delete_dag_run", status_code=204)
def delete_dag_run(store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str) -> None:
    """Delete a run with its history. 409 while an attempt of it is in flight."""
    changes.delete(store, who, dag_id, dag_run_id)


@router.post("/dags/{dag_id}/dagRuns/{dag_run_id}/clear", operation_id="clear_dag_run")
def clear_dag_run(
    store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str, body: ClearDagRun
) -> DAGRun | TaskInstanceReferenceCollection:
    """Let all tasks of a run run again; with `dry_run` (as by itself) only say which."""
    cleared = changes.clear(store, who, dag_id, dag_run_id, dry_run=body.dry_run)
    if body.dry_run:
        return TaskInstanceReferenceCollection.of(cleared)
    with store.reading() as database:
        return DAGRun.of(stored.get_run(database, dag_id, dag_run_id))


@router.patch("/dags/{dag_id}/dagRuns/{dag_run_id}/setNote", operation_id="set_dag_run_note")
def set_dag_run_note(store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str, body: SetDagRunNote) -> DAGRun:
    """Write a note on a run."""
    return DAGRun.of(changes.set_note(store, who, dag_id, dag_run_id, body.note))


@router.get(
    "/dags/{dag_id}/dagRuns/{dag_run_id}/upstreamDatasetEvents",
    operation_id="get_upstream_dataset_events",
    tags=["Dataset"],
)
def get_upstream_dataset_events(store: TheStore, who: _Reader, dag_id: str, dag_run_id: str) -> DatasetEventCollection:
    """List the events of datasets that a run was made of."""
    who.require(READ, "Datasets")
    with store.reading() as database:
        found = datasets.events_of_run(database, dag_id, dag_run_id)
    return event_collection(found, len(found))


def _text(run: Run) -> str:
    return DAGRun.of(run).model_dump_json()


def _collection(store: TheStore, which: RunFilter, window: Window) -> DAGRunCollection:
    with store.reading() as database:
        found, total = runs.list_runs(database, which, window)
    return DAGRunCollection(dag_runs=[DAGRun.of(run) for run in found], total_entries=total)


def _conflict(
    store: TheStore, dag_id: str, run_id: str | None, logical_date: datetime | None, error: UsageError
) -> UsageError:
    """409 where the run is there already."""
    with store.reading() as database:
        taken = (run_id is not None and stored.find_run(database, dag_id, run_id) is not None) or (
            logical_date is not None and stored.find_run(database, dag_id, logical_date=logical_date) is not None
        )
    return Conflict(error.message, hint=error.hint) if taken else error
