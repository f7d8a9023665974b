"""/datasets: assets by their URIs, their events, and the events that wait for a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from opskit.core.metastore.browsing import datasets
from opskit.core.metastore.browsing.window import Window
from opskit.errors import NotFound
from opskit.web.airflow_api.collections import Answer, BigNumber, Body, Listing, Moment, SmallNumber, paged, separated
from opskit.web.changes import datasets as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["Dataset"])
_Reader = Annotated[Who, Depends(allow(READ, "Datasets"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Datasets"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Datasets"))]
_Before = Annotated[Moment | None, Query(description="Only what has waited since a time before this one.")]


class TaskOutletDatasetReference(Answer):
    """A task that makes the dataset. When the reference was made is not kept: the times are the dataset's."""

    dag_id: str
    task_id: str
    created_at: Moment
    updated_at: Moment


class DagScheduleDatasetReference(Answer):
    """A DAG that waits for the dataset. The times are the dataset's."""

    dag_id: str
    created_at: Moment
    updated_at: Moment


class Dataset(Answer):
    """A dataset; `updated_at` is `created_at`: later changes are not dated."""

    id: int
    uri: str
    extra: dict[str, Any] | None
    created_at: Moment
    updated_at: Moment
    producing_tasks: list[TaskOutletDatasetReference]
    consuming_dags: list[DagScheduleDatasetReference]


class DatasetCollection(Listing):
    datasets: list[Dataset]


class BasicDAGRun(Answer):
    """A run that an event has made."""

    dag_run_id: str
    run_id: str
    dag_id: str
    logical_date: Moment
    start_date: Moment | None
    end_date: Moment | None
    state: str
    data_interval_start: Moment | None
    data_interval_end: Moment | None


class DatasetEvent(Answer):
    """An event of a dataset. Without a source, a person made it."""

    id: int
    dataset_id: int
    dataset_uri: str
    extra: dict[str, Any] | None
    source_dag_id: str | None
    source_task_id: str | None
    source_run_id: str | None
    source_map_index: int | None
    created_dagruns: list[BasicDAGRun]
    timestamp: Moment


class DatasetEventCollection(Listing):
    dataset_events: list[DatasetEvent]


class NewDatasetEvent(Body):
    """An event to be made."""

    dataset_uri: str
    extra: dict[str, Any] | None = None


class QueuedEvent(Answer):
    """Events of a dataset that no run of a DAG has been made of yet; `created_at` is the oldest's time."""

    uri: str
    dag_id: str
    created_at: Moment


class QueuedEventCollection(Listing):
    queued_events: list[QueuedEvent]


# --- datasets and events: the fixed paths stand before {uri} ---


@router.get("/datasets", operation_id="get_datasets")
def get_datasets(
    store: TheStore,
    _: _Reader,
    window: Annotated[Window, paged("id", "uri", "created_at", "updated_at")],
    uri_pattern: Annotated[str | None, Query(description="A part of the URI.")] = None,
    dag_ids: Annotated[str | None, Query(description="Made or waited for by these DAGs, separated by commas.")] = None,
) -> DatasetCollection:
    """List datasets."""
    with store.reading() as connection:
        found, total = datasets.datasets(connection, window, uri_pattern=uri_pattern, dag_ids=separated(dag_ids))
    return DatasetCollection(datasets=[_dataset(one) for one in found], total_entries=total)


@router.get("/datasets/events", operation_id="get_dataset_events")
def get_dataset_events(
    store: TheStore,
    _: _Reader,
    window: Annotated[
        Window, paged("timestamp", "source_dag_id", "source_task_id", "source_run_id", "source_map_index")
    ],
    dataset_id: BigNumber | None = None,
    source_dag_id: str | None = None,
    source_task_id: str | None = None,
    source_run_id: str | None = None,
    source_map_index: SmallNumber | None = None,
) -> DatasetEventCollection:
    """List events of datasets."""
    wanted = {
        "asset_id": dataset_id,
        "source_dag_id": source_dag_id,
        "source_task_id": source_task_id,
        "source_run_id": source_run_id,
        "source_map_index": source_map_index,
    }
    with store.reading() as connection:
        found, total = datasets.events(connection, window, wanted)
    return event_collection(found, total)


@router.post("/datasets/events", operation_id="create_dataset_event")
def create_dataset_event(store: TheStore, who: _Creator, body: NewDatasetEvent) -> DatasetEvent:
    """Make an event of a dataset; the DAGs that wait for it see it."""
    extra = {**(body.extra or {}), "from_rest_api": True}
    return _event(changes.create_event(store, who, body.dataset_uri, extra))


@router.get("/datasets/queuedEvent/{uri:path}", operation_id="get_dataset_queued_events")
def get_dataset_queued_events(store: TheStore, who: _Reader, uri: str, before: _Before = None) -> QueuedEventCollection:
    """List what waits of a dataset, for the DAGs that may be seen."""
    with store.reading() as connection:
        found = datasets.queued(connection, uri=uri, dag_ids=who.readable_dags(), before=before)
    return _waiting(found, f"no event of the dataset {uri!r} waits for a run")


@router.delete("/datasets/queuedEvent/{uri:path}", operation_id="delete_dataset_queued_events", status_code=204)
def delete_dataset_queued_events(store: TheStore, who: _Deleter, uri: str, before: _Before = None) -> None:
    """Take the events of a dataset that wait for runs out of the queue."""
    if not changes.forget_queued(store, who, uri=uri, dag_ids=who.readable_dags(), before=before):
        raise NotFound(f"no event of the dataset {uri!r} waits for a run")


@router.get("/datasets/{uri:path}", operation_id="get_dataset")
def get_dataset(store: TheStore, _: _Reader, uri: str) -> Dataset:
    """Get a dataset by its URI."""
    with store.reading() as connection:
        return _dataset(datasets.dataset(connection, uri))


# --- what waits for one DAG ---


@router.get("/dags/{dag_id}/datasets/queuedEvent", operation_id="get_dag_dataset_queued_events")
def get_dag_dataset_queued_events(
    store: TheStore, who: _Reader, dag_id: str, before: _Before = None
) -> QueuedEventCollection:
    """List what waits for a run of a DAG."""
    who.require(READ, "DAGs", dag_id)
    with store.reading() as connection:
        found = datasets.queued(connection, dag_ids=[dag_id], before=before)
    return _waiting(found, f"no event waits for a run of DAG {dag_id}")


@router.delete("/dags/{dag_id}/datasets/queuedEvent", operation_id="delete_dag_dataset_queued_events", status_code=204)
def delete_dag_dataset_queued_events(store: TheStore, who: _Deleter, dag_id: str, before: _Before = None) -> None:
    """Take all events that wait for a run of a DAG out of the queue."""
    who.require(READ, "DAGs", dag_id)
    if not changes.forget_queued(store, who, dag_ids=[dag_id], before=before):
        raise NotFound(f"no event waits for a run of DAG {dag_id}")


@router.get("/dags/{dag_id}/datasets/queuedEvent/{uri:path}", operation_id="get_dag_dataset_queued_event")
def get_dag_dataset_queued_event(
    store: TheStore, who: _Reader, dag_id: str, uri: str, before: _Before = None
) -> QueuedEvent:
    """Get what waits of a dataset for a run of a DAG."""
    who.require(READ, "DAGs", dag_id)
    with store.reading() as connection:
        found = datasets.queued(connection, uri=uri, dag_ids=[dag_id], before=before)
    return _waiting(found, f"no event of the dataset {uri!r} waits for a run of DAG {dag_id}").queued_events[0]


@router.delete(
    "/dags/{dag_id}/datasets/queuedEvent/{uri:path}",
    operation_id="delete_dag_dataset_queued_event",
    status_code=204,
)
def delete_dag_dataset_queued_event(
    store: TheStore, who: _Deleter, dag_id: str, uri: str, before: _Before = None
) -> None:
    """Take the events of a dataset that wait for a run of a DAG out of the queue."""
    who.require(READ, "DAGs", dag_id)
    if not changes.forget_queued(store, who, uri=uri, dag_ids=[dag_id], before=before):
        raise NotFound(f"no event of the dataset {uri!r} waits for a run of DAG {dag_id}")


# --- answers ---


def event_collection(found: Iterable[datasets.Event], total: int) -> DatasetEventCollection:
    """Events as an answer; also for the events that a run was made of."""
    return DatasetEventCollection(dataset_events=[_event(one) for one in found], total_entries=total)


def _dataset(one: datasets.Dataset) -> Dataset:
    times = {"created_at": one.created_at, "updated_at": one.created_at}
    return Dataset(
        id=one.id,
        uri=one.uri,
        extra=one.extra,
        producing_tasks=[
            TaskOutletDatasetReference(dag_id=dag_id, task_id=task_id, **times) for dag_id, task_id in one.producers
        ],
        consuming_dags=[DagScheduleDatasetReference(dag_id=dag_id, **times) for dag_id in one.consumers],
        **times,
    )


def _event(one: datasets.Event) -> DatasetEvent:
    return DatasetEvent(
        id=one.id,
        dataset_id=one.asset_id,
        dataset_uri=one.uri,
        extra=one.extra,
        source_dag_id=one.source_dag_id,
        source_task_id=one.source_task_id,
        source_run_id=one.source_run_id,
        source_map_index=one.source_map_index,
        created_dagruns=[
            BasicDAGRun(
                dag_run_id=run.run_id,
                **{name: getattr(run, name) for name in BasicDAGRun.model_fields if name != "dag_run_id"},
            )
            for run in one.created_runs
        ],
        timestamp=one.at,
    )


def _waiting(found: list[datasets.Queued], otherwise: str) -> QueuedEventCollection:
    if not found:
        raise NotFound(otherwise)
    items = [QueuedEvent(uri=one.uri, dag_id=one.dag_id, created_at=one.since) for one in found]
    return QueuedEventCollection(queued_events=items, total_entries=len(items))
