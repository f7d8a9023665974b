"""Which task instances a person means who clears or marks some: of one run or of several, with what hangs on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.engine import Connection

from opskit.core.dag import external_tasks, states
from opskit.core.dag.serialized import SerializedDag
from opskit.core.metastore import task_instances
from opskit.core.metastore.dags import get_serialized
from opskit.core.metastore.runs import Run, get_run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.errors import NotFound, UsageError

DEEPEST = 10
"""So many DAGs after one another are cleared by way of ExternalTaskMarkers; more are taken for a circle."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Task instances of one DAG. `task_ids` None: all tasks; `map_indexes`: only these of the tasks that are named.

    `past` and `future`: also those of all runs before or after `run_id`. `recursive`: also what depends on them in
    other DAGs, by ExternalTaskMarkers. `start` and `end` bound the logical dates, both included.
    """

    dag_id: str
    run_id: str | None = None
    task_ids: Collection[str] | None = None
    map_indexes: Collection[int] | None = None
    upstream: bool = False
    downstream: bool = False
    past: bool = False
    future: bool = False
    recursive: bool = False
    only_failed: bool = False
    only_running: bool = False
    start: datetime | None = None
    end: datetime | None = None


def to_clear(connection: Connection, selection: Selection) -> list[TaskInstance]:
    """What a clear would clear: those that have a state. Of several DAGs only with `recursive`.

    NotFound for a DAG, run, task or map index that is not there; UsageError for choices that exclude each other, and
    for DAGs whose markers lead too deep.
    """
    if selection.only_failed and selection.only_running:
        raise UsageError("only failed ones, and only running ones: choose one of them")
    found = _cleared_here(connection, selection)
    if not selection.recursive:
        return found
    seen = {instance.key for instance in found}
    todo = [(instance, 1) for instance in found if instance.operator == external_tasks.MARKER]
    while todo:
        marker, depth = todo.pop()
        for below in _marked_by(connection, marker, selection):
            if below.key in seen:
                continue
            if depth > DEEPEST:
                raise UsageError(
                    f"{marker.task_id} of DAG {marker.dag_id}: the ExternalTaskMarkers lead through more than "
                    f"{DEEPEST} DAGs",
                    hint="do they form a circle? Clear each DAG by itself",
                )
            seen.add(below.key)
            found.append(below)
            if below.operator == external_tasks.MARKER:
                todo.append((below, depth + 1))
    return found


def to_mark(connection: Connection, selection: Selection) -> list[TaskInstance]:
    """What a mark concerns, in whatever state it is. Raises as `to_clear`."""
    return _chosen(connection, selection, None)


def _cleared_here(connection: Connection, selection: Selection) -> list[TaskInstance]:
    wanted: Collection[str] | None = None
    if selection.only_failed:
        wanted = (states.FAILED, states.UPSTREAM_FAILED)
    elif selection.only_running:
        wanted = sorted(states.IN_FLIGHT)
    return [instance for instance in _chosen(connection, selection, wanted) if instance.state is not None]


def _chosen(connection: Connection, selection: Selection, in_states: Collection[str] | None) -> list[TaskInstance]:
    dag = get_serialized(connection, selection.dag_id)
    named = task_instances.chosen_tasks(dag, selection.task_ids)
    family = task_instances.related(dag, named, upstream=selection.upstream, downstream=selection.downstream)
    run = get_run(connection, dag.dag_id, selection.run_id) if selection.run_id is not None else None
    start, end = _dates(selection, run)
    found = task_instances.list_task_instances(
        connection,
        dag.dag_id,
        run_ids=[run.run_id] if run is not None and not (selection.past or selection.future) else None,
        task_ids=None if selection.task_ids is None else family,
        start=start,
        end=end,
        in_states=in_states,
    )
    if selection.map_indexes is None:
        return found
    return _of_indexes(dag, found, named, frozenset(selection.map_indexes), selection)


def _dates(selection: Selection, run: Run | None) -> tuple[datetime | None, datetime | None]:
    if run is None:
        if selection.past or selection.future:
            raise UsageError("past and future are meant from a run on", hint="name a run")
        return selection.start, selection.end
    if selection.start is not None or selection.end is not None:
        raise UsageError("a run, and dates: choose one of them", hint="past and future extend the choice of a run")
    start = None if selection.past else run.logical_date
    return start, None if selection.future else run.logical_date


def _of_indexes(
    dag: SerializedDag,
    found: Sequence[TaskInstance],
    named: Iterable[str],
    indexes: frozenset[int],
    selection: Selection,
) -> list[TaskInstance]:
    """Of the named tasks, and of those in the same mapped groups, only these map indexes."""
    groups = {dag.by_id[task_id].mapped_group for task_id in named if task_id in dag.by_id} - {None}
    same = set(named) | {task.task_id for task in dag.tasks if task.mapped_group in groups}
    kept = [instance for instance in found if instance.task_id not in same or instance.map_index in indexes]
    if not any(instance.task_id in set(named) for instance in kept) and not (
        selection.only_failed or selection.only_running
    ):
        known = sorted({instance.map_index for instance in found if instance.task_id in set(named)})
        raise NotFound(
            f"{', '.join(sorted(named))} of DAG {dag.dag_id}: no instance has the map index "
            f"{' or '.join(map(str, sorted(indexes)))}",
            hint=f"there are {', '.join(map(str, known[:20]))}" if known else None,
        )
    return kept


def _marked_by(connection: Connection, marker: TaskInstance, selection: Selection) -> list[TaskInstance]:
    """What depends on an ExternalTaskMarker: the task of the other DAG that it names, and all after that one."""
    dag = get_serialized(connection, marker.dag_id)
    task = dag.by_id.get(marker.task_id)
    run = get_run(connection, marker.dag_id, marker.run_id)
    target = external_tasks.target(task, run.info()) if task is not None else None
    if target is None:
        return []
    below = Selection(
        target.dag_id,
        task_ids=[target.task_id],
        downstream=True,
        start=target.logical_date,
        end=target.logical_date,
    )
    return _cleared_here(connection, replace(below, only_failed=selection.only_failed))
