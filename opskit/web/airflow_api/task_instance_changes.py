"""Clear task instances, mark them, write notes on them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field, model_validator

from opskit.core.metastore import runs, task_instances
from opskit.errors import NotFound
from opskit.web.airflow_api.collections import Body, Moment
from opskit.web.airflow_api.paths import MAP_INDEX
from opskit.web.airflow_api.run_models import (
    TaskInstance,
    TaskInstanceReference,
    TaskInstanceReferenceCollection,
)
from opskit.web.airflow_api.task_instances import answer, find
from opskit.web.changes import task_instances as changes
from opskit.web.changes.task_instances import LONGEST_NOTE, Selection
from opskit.web.gate import SignedIn
from opskit.web.identity import EDIT
from opskit.web.store import Store, TheStore

router = APIRouter()
_ONE = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}"
_MAPPED = f"{_ONE}/{MAP_INDEX}"
_NewState = Literal["success", "failed", "skipped"]
_TaskIds = Annotated[list[str], Field(min_length=1)]


class ClearTaskInstances(Body):
    """What to clear. By itself it is only said what would be, and of failed task instances only."""

    dry_run: bool = True
    task_ids: _TaskIds | None = None
    start_date: Moment | None = Field(None, description="Logical dates from here on.")
    end_date: Moment | None = Field(None, description="Logical dates up to here.")
    only_failed: bool = True
    only_running: bool = False
    include_subdags: bool = Field(False, description="Without a meaning: there are no sub-DAGs.")
    include_parentdag: bool = Field(False, description="Without a meaning: there are no sub-DAGs.")
    reset_dag_runs: bool = Field(False, description="Whether runs that had ended go on.")
    dag_run_id: str | None = None
    include_upstream: bool = False
    include_downstream: bool = False
    include_future: bool = False
    include_past: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ClearTaskInstances:
        if self.only_failed and self.only_running:
            raise ValueError("only_failed and only_running exclude each other (only_failed is true by itself)")
        if self.dag_run_id is not None and (self.start_date or self.end_date):
            raise ValueError("dag_run_id and dates exclude each other")
        if self.start_date and self.end_date and self.start_date > self.end_date:
            raise ValueError("end_date is earlier than start_date")
        return self


class UpdateTaskInstancesState(Body):
    """A task to mark, in a run that is named by its id or its logical date, and what to mark with it."""

    dry_run: bool = True
    task_id: str
    execution_date: Moment | None = None
    dag_run_id: str | None = None
    include_upstream: bool = False
    include_downstream: bool = False
    include_future: bool = False
    include_past: bool = False
    new_state: _NewState

    @model_validator(mode="after")
    def _names_a_run(self) -> UpdateTaskInstancesState:
        if (self.execution_date is None) == (self.dag_run_id is None):
            raise ValueError("exactly one of execution_date and dag_run_id is needed")
        return self


class UpdateTaskInstance(Body):
    """The state to mark a task instance with."""

    dry_run: bool = True
    new_state: _NewState


class SetTaskInstanceNote(Body):
    """A note; empty: none."""

    note: str = Field(max_length=LONGEST_NOTE)


@router.post("/dags/{dag_id}/clearTaskInstances", operation_id="post_clear_task_instances", tags=["DAG"])
def post_clear_task_instances(
    store: TheStore, who: SignedIn, dag_id: str, body: ClearTaskInstances
) -> TaskInstanceReferenceCollection:
    """Let task instances run again; which ones."""
    who.require(EDIT, "Task Instances", dag_id)
    past, future = body.include_past, body.include_future
    without_run = body.dag_run_id is None
    selection = Selection(
        dag_id,
        body.dag_run_id,
        task_ids=body.task_ids,
        upstream=body.include_upstream,
        downstream=body.include_downstream,
        past=past and not without_run,
        future=future and not without_run,
        only_failed=body.only_failed,
        only_running=body.only_running,
        # As in Airflow: without a run, past and future take the dates away.
        start=None if past else body.start_date,
        end=None if future else body.end_date,
    )
    if body.dry_run:
        return TaskInstanceReferenceCollection.of(changes.preview_clear(store, who, selection))
    cleared = changes.clear(store, who, selection, resume_runs=body.reset_dag_runs)
    return TaskInstanceReferenceCollection.of(cleared)


@router.post("/dags/{dag_id}/updateTaskInstancesState", operation_id="post_set_task_instances_state", tags=["DAG"])
def post_set_task_instances_state(
    store: TheStore, who: SignedIn, dag_id: str, body: UpdateTaskInstancesState
) -> TaskInstanceReferenceCollection:
    """Mark a task of a run, and others with it; which task instances were changed."""
    who.require(EDIT, "Task Instances", dag_id)
    with store.reading() as database:
        run = runs.get_run(database, dag_id, body.dag_run_id, body.execution_date)
        if not task_instances.list_task_instances(database, dag_id, run_ids=[run.run_id], task_ids=[body.task_id]):
            raise NotFound(f"run {run.run_id} of DAG {dag_id} has no task {body.task_id!r}")
    selection = Selection(
        dag_id,
        run.run_id,
        task_ids=[body.task_id],
        upstream=body.include_upstream,
        downstream=body.include_downstream,
        past=body.include_past,
        future=body.include_future,
    )
    change = changes.preview_mark if body.dry_run else changes.mark
    return TaskInstanceReferenceCollection.of(change(store, who, selection, body.new_state))


@router.patch(_ONE, operation_id="patch_task_instance", tags=["TaskInstance"])
def patch_task_instance(
    store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str, task_id: str, body: UpdateTaskInstance
) -> TaskInstanceReference:
    """Mark a task instance that is not mapped."""
    return _mark(store, who, dag_id, dag_run_id, task_id, -1, body)


@router.patch(_ONE + "/setNote", operation_id="set_task_instance_note", tags=["TaskInstance"])
def set_task_instance_note(
    store: TheStore, who: SignedIn, dag_id: str, dag_run_id: str, task_id: str, body: SetTaskInstanceNote
) -> TaskInstance:
    """Write a note on a task instance."""
    return _note(store, who, dag_id, dag_run_id, task_id, -1, body)


@router.patch(_MAPPED, operation_id="patch_mapped_task_instance", tags=["TaskInstance"])
def patch_mapped_task_instance(
    store: TheStore,
    who: SignedIn,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: int,
    body: UpdateTaskInstance,
) -> TaskInstanceReference:
    """Mark an instance of a mapped task."""
    return _mark(store, who, dag_id, dag_run_id, task_id, map_index, body)


@router.patch(_MAPPED + "/setNote", operation_id="set_mapped_task_instance_note", tags=["TaskInstance"])
def set_mapped_task_instance_note(
    store: TheStore,
    who: SignedIn,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: int,
    body: SetTaskInstanceNote,
) -> TaskInstance:
    """Write a note on an instance of a mapped task."""
    return _note(store, who, dag_id, dag_run_id, task_id, map_index, body)


def _mark(
    store: Store, who: SignedIn, dag_id: str, run_id: str, task_id: str, map_index: int, body: UpdateTaskInstance
) -> TaskInstanceReference:
    who.require(EDIT, "Task Instances", dag_id)
    with store.reading() as database:
        instance = find(database, dag_id, run_id, task_id, map_index)
    selection = Selection(dag_id, run_id, task_ids=[task_id], map_indexes=[map_index])
    change = changes.preview_mark if body.dry_run else changes.mark
    change(store, who, selection, body.new_state)
    return TaskInstanceReference.of(instance)


def _note(
    store: Store, who: SignedIn, dag_id: str, run_id: str, task_id: str, map_index: int, body: SetTaskInstanceNote
) -> TaskInstance:
    who.require(EDIT, "Task Instances", dag_id)
    with store.reading() as database:
        find(database, dag_id, run_id, task_id, map_index)
    changes.set_note(store, who, dag_id, run_id, task_id, map_index, body.note)
    return answer(store, dag_id, run_id, task_id, map_index)
