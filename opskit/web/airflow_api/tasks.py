"""/dags/{dag_id}/tasks: the tasks of a DAG's current version."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse, Response

from opskit.core.metastore import dags
from opskit.core.metastore.dags import nearest
from opskit.errors import NotFound, UsageError
from opskit.web.airflow_api.dag_models import Shapes, Task, TaskCollection
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["DAG"])
_Reader = Annotated[Who, Depends(allow(READ, "Task Instances"))]
_ORDERS = (
    "task_id",
    "task_display_name",
    "owner",
    "trigger_rule",
    "depends_on_past",
    "is_mapped",
    "wait_for_downstream",
    "retries",
    "queue",
    "pool",
    "pool_slots",
    "retry_exponential_backoff",
    "priority_weight",
    "start_date",
    "end_date",
)
_Order = Annotated[
    str,
    Query(
        description="A leading - turns the order round.",
        json_schema_extra={"enum": [sign + name for name in _ORDERS for sign in ("", "-")]},
    ),
]


@router.get("/dags/{dag_id}/tasks", operation_id="get_tasks", response_model=TaskCollection)
def get_tasks(store: TheStore, _: _Reader, dag_id: str, order_by: _Order = "task_id") -> Response:
    """List the tasks of a DAG."""
    name = order_by.removeprefix("-")
    if name not in _ORDERS:
        raise UsageError(f"order_by: {order_by!r} can't be ordered by", hint=f"it can be {', '.join(_ORDERS)}")
    with store.reading() as database:
        definition = dags.get_serialized(database, dag_id)
    shapes = Shapes(store.config)
    found = [_plain(shapes.task(task)) for task in definition.tasks]
    found.sort(key=lambda task: task["task_id"])
    there = [task for task in found if task.get(name) is not None]
    there.sort(key=lambda task: task[name], reverse=order_by.startswith("-"))
    found = there + [task for task in found if task.get(name) is None]
    return JSONResponse({"tasks": found, "total_entries": len(found)})


@router.get("/dags/{dag_id}/tasks/{task_id}", operation_id="get_task", response_model=Task)
def get_task(store: TheStore, _: _Reader, dag_id: str, task_id: str) -> Response:
    """Get a task."""
    with store.reading() as database:
        definition = dags.get_serialized(database, dag_id)
    if task_id not in definition.by_id:
        raise NotFound(f"DAG {dag_id} has no task {task_id!r}", hint=nearest(task_id, definition.by_id))
    return JSONResponse(_plain(Shapes(store.config).task(definition.by_id[task_id])))


def _plain(task: Task) -> dict[str, Any]:
    data = task.model_dump(mode="json", by_alias=True)
    if data["trigger_rule"] is None:
        del data["trigger_rule"]
    return data
