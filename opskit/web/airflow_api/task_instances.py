"""…/taskInstances: list and show task instances, their tries, and why one is not running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from opskit.core.metastore import dags as stored_dags
from opskit.core.metastore import task_instances as stored
from opskit.core.metastore import task_notes
from opskit.core.metastore.browsing import dags, task_instances
from opskit.core.metastore.browsing.runs import RunFilter
from opskit.core.metastore.browsing.task_instances import TaskInstanceFilter
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.task_instances import TaskInstance as Stored
from opskit.core.metastore.xcoms import list_xcoms
from opskit.core.scheduler import explain
from opskit.errors import NotFound
from opskit.telemetry import rendered_fields
from opskit.web.airflow_api.collections import Answer, Body, Moment, listing, paged
from opskit.web.airflow_api.dag_models import ClassReference
from opskit.web.airflow_api.paths import MAP_INDEX
from opskit.web.airflow_api.run_models import (
    TaskInstance,
    TaskInstanceCollection,
    TaskInstanceHistory,
    TaskInstanceHistoryCollection,
    TaskState,
    history,
    task_instance,
)
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["TaskInstance"])
_Reader = Annotated[Who, Depends(allow(READ, "Task Instances"))]
_From = Annotated[Moment | None, Query(description="From this moment on.")]
_To = Annotated[Moment | None, Query(description="Up to this moment.")]
_Names = Annotated[list[str] | None, Query(description="One of these.")]
_INSTANCES = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
_ONE = _INSTANCES + "/{task_id}"
_MAPPED = f"{_ONE}/{MAP_INDEX}"
_ORDERS = ("map_index", "state", "duration", "start_date", "end_date")
_Index = Annotated[int, Query(ge=-1, le=2**31 - 1)]
Seconds = Annotated[float | None, Query(description="Seconds.", allow_inf_nan=False, ge=-1e12, le=1e12)]


class ListTaskInstanceForm(Body):
    """Which task instances to list."""

    page_offset: int = Field(0, ge=0, le=2**31)
    page_limit: int = Field(100, ge=1)
    dag_ids: list[str] | None = None
    dag_run_ids: list[str] | None = None
    task_ids: list[str] | None = None
    execution_date_gte: Moment | None = None
    execution_date_lte: Moment | None = None
    start_date_gte: Moment | None = None
    start_date_lte: Moment | None = None
    end_date_gte: Moment | None = None
    end_date_lte: Moment | None = None
    duration_gte: float | None = Field(None, allow_inf_nan=False, ge=-1e12, le=1e12)
    duration_lte: float | None = Field(None, allow_inf_nan=False, ge=-1e12, le=1e12)
    state: list[TaskState | None] | None = None
    pool: list[str] | None = None
    queue: list[str] | None = None
    executor: list[str] | None = None


class TaskFailedDependency(Answer):
    """A reason why a task instance does not run."""

    name: str
    reason: str


class TaskInstanceDependencyCollection(Answer):
    """All of them."""

    dependencies: list[TaskFailedDependency]


class ExtraLink(Answer):
    """A link."""

    class_ref: ClassReference
    name: str
    href: str


class ExtraLinkCollection(Answer):
    """The links of a task instance: as a list, and, as Airflow's server answers, each address under its name."""

    model_config = {"extra": "allow"}

    extra_links: list[ExtraLink]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a list's query parameters ask of its task instances."""

    logical_date: Any
    spans: dict[str, Any]
    states: Any
    pools: list[str] | None
    queues: list[str] | None
    executors: list[str] | None


async def _wanted(
    execution_date_gte: _From = None,
    execution_date_lte: _To = None,
    start_date_gte: _From = None,
    start_date_lte: _To = None,
    end_date_gte: _From = None,
    end_date_lte: _To = None,
    updated_at_gte: _From = None,
    updated_at_lte: _To = None,
    duration_gte: Seconds = None,
    duration_lte: Seconds = None,
    state: Annotated[list[TaskState] | None, Query(description="In one of these; none: without a state.")] = None,
    pool: _Names = None,
    queue: _Names = None,
    executor: _Names = None,
) -> _Wanted:
    spans = {
        "start_date": (start_date_gte, start_date_lte),
        "end_date": (end_date_gte, end_date_lte),
        "updated_at": (updated_at_gte, updated_at_lte),
        "duration": (duration_gte, duration_lte),
    }
    return _Wanted((execution_date_gte, execution_date_lte), spans, _states(state), pool, queue, executor)


@router.post(
    "/dags/~/dagRuns/~/taskInstances/list",
    operation_id="get_task_instances_batch",
    response_model=TaskInstanceCollection,
)
def get_task_instances_batch(store: TheStore, who: _Reader, body: ListTaskInstanceForm) -> Response:
    """List task instances of the DAGs that one may see. 403 when one is named that one may not see."""
    for dag_id in body.dag_ids or ():
        who.require(READ, "Task Instances", dag_id)
    most = int(store.config.get("api", "maximum_page_limit"))
    which = TaskInstanceFilter(
        RunFilter(
            dag_ids=body.dag_ids or None,
            readable=None if body.dag_ids else who.readable_dags(),
            run_ids=body.dag_run_ids or None,
            logical_date=(body.execution_date_gte, body.execution_date_lte),
        ),
        task_ids=body.task_ids or None,
        in_states=_states(body.state),
        pools=body.pool or None,
        queues=body.queue or None,
        start_date=(body.start_date_gte, body.start_date_lte),
        end_date=(body.end_date_gte, body.end_date_lte),
        duration=(body.duration_gte, body.duration_lte),
    )
    window = Window(min(body.page_limit, most), body.page_offset)
    return listing("task_instances", *_texts(store, which, window, body.executor or None))


@router.get(_INSTANCES, operation_id="get_task_instances", response_model=TaskInstanceCollection)
def get_task_instances(
    store: TheStore,
    who: _Reader,
    dag_id: str,
    dag_run_id: str,
    window: Annotated[Window, paged()],
    wanted: Annotated[_Wanted, Depends(_wanted)],
) -> Response:
    """List the task instances of a run; with ~ in the place of an id, those of all DAGs or of all runs."""
    which = TaskInstanceFilter(
        RunFilter(
            dag_ids=None if dag_id == "~" else [dag_id],
            readable=who.readable_dags() if dag_id == "~" else None,
            run_ids=None if dag_run_id == "~" else [dag_run_id],
            logical_date=wanted.logical_date,
        ),
        in_states=wanted.states,
        pools=wanted.pools,
        queues=wanted.queues,
        **wanted.spans,
    )
    return listing("task_instances", *_texts(store, which, window, wanted.executors))


@router.get(_ONE, operation_id="get_task_instance")
def get_task_instance(store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str) -> TaskInstance:
    """Get a task instance that is not mapped."""
    return answer(store, dag_id, dag_run_id, task_id)


@router.get(_ONE + "/listMapped", operation_id="get_mapped_task_instances", response_model=TaskInstanceCollection)
def get_mapped_task_instances(
    store: TheStore,
    _: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    window: Annotated[Window, paged(*_ORDERS)],
    wanted: Annotated[_Wanted, Depends(_wanted)],
) -> Response:
    """List the instances of a mapped task in a run."""
    which = TaskInstanceFilter(
        RunFilter(dag_ids=[dag_id], run_ids=[dag_run_id], logical_date=wanted.logical_date),
        task_ids=[task_id],
        mapped=True,
        in_states=wanted.states,
        pools=wanted.pools,
        queues=wanted.queues,
        **wanted.spans,
    )
    texts, total = _texts(store, which, window, wanted.executors)
    if not total:
        with store.reading() as database:
            definition = stored_dags.get_serialized(database, dag_id)
        if task_id not in definition.by_id:
            raise NotFound(f"DAG {dag_id} has no task {task_id!r}", hint=stored_dags.nearest(task_id, definition.by_id))
        if definition.by_id[task_id].expand is None:
            raise NotFound(f"task {task_id} of DAG {dag_id} is not mapped")
    return listing("task_instances", texts, total)


@router.get(_ONE + "/dependencies", operation_id="get_task_instance_dependencies")
def get_task_instance_dependencies(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str
) -> TaskInstanceDependencyCollection:
    """Why a task instance is not running: each condition that is not met."""
    return _dependencies(store, dag_id, dag_run_id, task_id, -1)


@router.get(_MAPPED + "/dependencies", operation_id="get_mapped_task_instance_dependencies")
def get_mapped_task_instance_dependencies(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, map_index: int
) -> TaskInstanceDependencyCollection:
    """Why an instance of a mapped task is not running."""
    return _dependencies(store, dag_id, dag_run_id, task_id, map_index)


@router.get(_ONE + "/links", operation_id="get_extra_links")
def get_extra_links(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, map_index: _Index = -1
) -> ExtraLinkCollection:
    """The links that a task's operator gives, as far as the task instance has left their addresses."""
    with store.reading() as database:
        definition = stored_dags.get_serialized(database, dag_id)
        if task_id not in definition.by_id:
            raise NotFound(f"DAG {dag_id} has no task {task_id!r}", hint=stored_dags.nearest(task_id, definition.by_id))
        find(database, dag_id, dag_run_id, task_id, map_index)
        links: dict[str, str] = definition.by_id[task_id].ui.get("links", {})
        left = list_xcoms(database, dag_id, dag_run_id, task_id, map_index) if links else {}
    reference = ClassReference(class_name=definition.by_id[task_id].operator)
    found = {name: left[key] for name, key in sorted(links.items()) if isinstance(left.get(key), str) and left[key]}
    listed = [ExtraLink(class_ref=reference, name=name, href=href) for name, href in found.items()]
    return ExtraLinkCollection(extra_links=listed, **found)


@router.get(_ONE + "/tries", operation_id="get_task_instance_tries")
def get_task_instance_tries(
    store: TheStore,
    _: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    window: Annotated[Window, paged("try_number", "start_date", "end_date")],
) -> TaskInstanceHistoryCollection:
    """List the tries of a task instance."""
    return _tries(store, dag_id, dag_run_id, task_id, -1, window)


@router.get(_MAPPED + "/tries", operation_id="get_mapped_task_instance_tries")
def get_mapped_task_instance_tries(
    store: TheStore,
    _: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: int,
    window: Annotated[Window, paged("try_number", "start_date", "end_date")],
) -> TaskInstanceHistoryCollection:
    """List the tries of an instance of a mapped task."""
    return _tries(store, dag_id, dag_run_id, task_id, map_index, window)


@router.get(_ONE + "/tries/{task_try_number}", operation_id="get_task_instance_try_details")
def get_task_instance_try_details(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, task_try_number: int
) -> TaskInstanceHistory:
    """Get one try of a task instance."""
    return _try(store, dag_id, dag_run_id, task_id, -1, task_try_number)


@router.get(_MAPPED + "/tries/{task_try_number}", operation_id="get_mapped_task_instance_try_details")
def get_mapped_task_instance_try_details(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, map_index: int, task_try_number: int
) -> TaskInstanceHistory:
    """Get one try of an instance of a mapped task."""
    return _try(store, dag_id, dag_run_id, task_id, map_index, task_try_number)


@router.get(_MAPPED, operation_id="get_mapped_task_instance")
def get_mapped_task_instance(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, map_index: int
) -> TaskInstance:
    """Get an instance of a mapped task."""
    return answer(store, dag_id, dag_run_id, task_id, map_index)


def answer(store: Store, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskInstance:
    """One task instance with its note and rendered fields."""
    with store.reading() as database:
        instance = find(database, dag_id, run_id, task_id, map_index)
        notes = task_notes.notes_of(database, [instance.key])
        settings = dags.settings_of(database, [dag_id])
    rendered = rendered_fields.read(
        store.config.logs_folder, dag_id, run_id, task_id, map_index, max(1, instance.try_number)
    )
    return task_instance(instance, settings, notes.get(instance.key), rendered)


def find(database: Connection, dag_id: str, run_id: str, task_id: str, map_index: int) -> Stored:
    """NotFound, which tells of the map_index where the task is mapped."""
    try:
        return stored.get_task_instance(database, dag_id, run_id, task_id, map_index)
    except NotFound as error:
        if map_index >= 0:
            raise
        mapped = stored.list_task_instances(database, dag_id, run_ids=[run_id], task_ids=[task_id])
        if mapped:
            raise NotFound(
                f"task {task_id} of run {run_id} is mapped: add a map_index to the path",
                hint=f"…/taskInstances/{task_id}/{mapped[0].map_index}, and …/listMapped lists them",
            ) from error
        raise


def _states(named: Sequence[TaskState | None] | None) -> list[str | None] | None:
    return [None if state in (None, "none") else state for state in named] if named else None


def _texts(
    store: Store, which: TaskInstanceFilter, window: Window, executors: list[str] | None
) -> tuple[list[str], int]:
    if executors:  # no task instance names one
        return [], 0
    with store.reading() as database:
        found, total = task_instances.list_task_instances(database, which, window)
        settings = dags.settings(database, {one.version_hash for one in found if one.version_hash})
    texts = [
        store.texts.get(("task instance", one.instance.key), (one, settings.get(one.version_hash or "")), _text)
        for one in found
    ]
    return texts, total


def _text(made_of: tuple[task_instances.Listed, dags.Settings | None]) -> str:
    one, settings = made_of
    known = {one.instance.dag_id: settings} if settings is not None else {}
    return task_instance(one.instance, known, one.note).model_dump_json()


def _dependencies(
    store: Store, dag_id: str, run_id: str, task_id: str, map_index: int
) -> TaskInstanceDependencyCollection:
    with store.reading() as database:
        find(database, dag_id, run_id, task_id, map_index)
        seen = explain.observe(database, store.config, dag_id, run_id, task_id, map_index, datetime.now(UTC))
    return TaskInstanceDependencyCollection(
        dependencies=[TaskFailedDependency(name=one.name, reason=one.reason) for one in explain.unmet(seen)]
    )


def _tries(
    store: Store, dag_id: str, run_id: str, task_id: str, map_index: int, window: Window
) -> TaskInstanceHistoryCollection:
    with store.reading() as database:
        instance = find(database, dag_id, run_id, task_id, map_index)
        tries = stored.attempts(database, dag_id, run_id, task_id, map_index)
        settings = dags.settings_of(database, [dag_id])
    far = datetime.max.replace(tzinfo=UTC)
    if window.order != "try_number":
        tries.sort(key=lambda one: getattr(one, window.order) or far)
    if window.descending:
        tries.reverse()
    return TaskInstanceHistoryCollection(
        task_instances=[history(instance, one, settings) for one in window.of(tries)], total_entries=len(tries)
    )


def _try(store: Store, dag_id: str, run_id: str, task_id: str, map_index: int, number: int) -> TaskInstanceHistory:
    with store.reading() as database:
        instance = find(database, dag_id, run_id, task_id, map_index)
        tries = {one.try_number: one for one in stored.attempts(database, dag_id, run_id, task_id, map_index)}
        settings = dags.settings_of(database, [dag_id])
    if number not in tries:
        known = f"there are {', '.join(map(str, sorted(tries)))}" if tries else "it has not been tried yet"
        raise NotFound(f"{task_id} of run {run_id} has no try {number}", hint=known)
    return history(instance, tries[number], settings)
