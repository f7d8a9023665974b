"""/dags: list, show, pause and delete DAGs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from opskit.core.metastore import dags as stored
from opskit.core.metastore.browsing import dags
from opskit.core.metastore.browsing.dags import DagFilter, ListedDag
from opskit.core.metastore.browsing.window import Window
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Body, Fields, UpdateMask, listing, narrowed, paged
from opskit.web.airflow_api.dag_models import DAG, DAGCollection, DAGDetail, Shapes
from opskit.web.changes import dags as changes
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import EDIT, READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["DAG"])
_Reader = Annotated[Who, Depends(allow(READ, "DAGs"))]
_Tags = Annotated[list[str] | None, Query(description="DAGs with one of these tags.")]
_Pattern = Annotated[str, Query(description="A part of the dag_id; % and _ stand for anything; ~ for all.")]


class DagPatch(Body):
    """What can be changed of a DAG; a client may send what else it has read, which is ignored."""

    model_config = {"extra": "ignore"}

    is_paused: bool | None = None


@router.get("/dags", operation_id="get_dags", response_model=DAGCollection)
def get_dags(
    store: TheStore,
    who: SignedIn,
    window: Annotated[Window, paged("dag_id")],
    fields: Fields,
    tags: _Tags = None,
    dag_id_pattern: Annotated[str | None, Query(description="A part of the dag_id.")] = None,
    only_active: Annotated[bool, Query(description="Only DAGs that a file defines.")] = True,
    paused: Annotated[bool | None, Query(description="Only paused DAGs, or only those that are not.")] = None,
) -> Response:
    """List the DAGs that one may see."""
    which = DagFilter(_seen(who, READ), dag_id_pattern, tags, True if only_active else None, paused)
    with store.reading() as database:
        found, total = dags.list_dags(database, which, window)
    if fields is None:
        return listing("dags", _texts(store, found), total)
    shapes = Shapes(store.config)
    return narrowed(DAGCollection(dags=[shapes.dag(one) for one in found], total_entries=total), fields, "dags")


@router.patch("/dags", operation_id="patch_dags")
def patch_dags(
    store: TheStore,
    who: SignedIn,
    body: DagPatch,
    window: Annotated[Window, paged()],
    dag_id_pattern: _Pattern,
    mask: UpdateMask,
    tags: _Tags = None,
    only_active: Annotated[bool, Query(description="Only DAGs that a file defines.")] = True,
) -> DAGCollection:
    """Pause or unpause all DAGs that match and that one may change; `limit` and `offset` choose among them."""
    paused = _wanted(body, mask)
    pattern = "" if dag_id_pattern == "~" else dag_id_pattern
    which = DagFilter(_seen(who, EDIT), pattern, tags, True if only_active else None)
    with store.reading() as database:
        found, total = dags.dag_ids(database, which, window)
    changes.set_paused(store, who, found, paused)
    with store.reading() as database:
        shapes = Shapes(store.config)
        listed, _ = dags.list_dags(database, DagFilter(dag_ids=found), Window(limit=len(found)))
        return DAGCollection(dags=[shapes.dag(one) for one in listed], total_entries=total)


@router.get("/dags/{dag_id}", operation_id="get_dag", response_model=DAG)
def get_dag(store: TheStore, _: _Reader, dag_id: str, fields: Fields) -> Response:
    """Get a DAG."""
    with store.reading() as database:
        found = dags.get_dag(database, dag_id)
    if fields is None:
        return Response(_texts(store, [found])[0], media_type="application/json")
    return narrowed(Shapes(store.config).dag(found), fields)


@router.get("/dags/{dag_id}/details", operation_id="get_dag_details", response_model=DAGDetail)
def get_dag_details(store: TheStore, _: _Reader, dag_id: str, fields: Fields) -> Response:
    """Get a DAG with its settings and params."""
    with store.reading() as database:
        found = dags.get_dag(database, dag_id)
        definition = stored.get_serialized(database, dag_id)
    return narrowed(Shapes(store.config).details(found, definition), fields)


@router.patch("/dags/{dag_id}", operation_id="patch_dag")
def patch_dag(store: TheStore, who: SignedIn, dag_id: str, body: DagPatch, mask: UpdateMask) -> DAG:
    """Pause or unpause a DAG."""
    changes.set_paused(store, who, [dag_id], _wanted(body, mask))
    return _dag(store, dag_id)


@router.delete("/dags/{dag_id}", operation_id="delete_dag", status_code=204)
def delete_dag(store: TheStore, who: SignedIn, dag_id: str) -> None:
    """Forget a DAG with its runs and their history. A DAG whose file is still there comes back as a new one."""
    changes.delete(store, who, dag_id)


def _wanted(body: DagPatch, mask: tuple[str, ...] | None) -> bool:
    if mask is not None and mask != ("is_paused",):
        raise UsageError("update_mask: only is_paused can be changed of a DAG")
    if body.is_paused is None:
        raise UsageError("is_paused is missing: it is what can be changed of a DAG")
    return body.is_paused


def _seen(who: Who, action: str) -> list[str] | None:
    """The DAGs for which somebody may do this; None: all."""
    if who.can(action, "DAGs"):
        return None
    prefix = "DAG:"
    own = [resource.removeprefix(prefix) for did, resource in who.permissions if did == action]
    found = [dag_id for dag_id in own if who.can(action, "DAGs", dag_id)]
    if not found:
        who.require(action, "DAGs")
    return found


def _texts(store: Store, found: Iterable[ListedDag]) -> list[str]:
    shapes = Shapes(store.config)

    def text(made_of: tuple[ListedDag, str]) -> str:
        return shapes.dag(made_of[0]).model_dump_json(by_alias=True)

    # With another key, the tokens of files are others.
    return [store.texts.get(("dag", one.dag.dag_id), (one, shapes.key), text) for one in found]


def _dag(store: TheStore, dag_id: str) -> DAG:
    with store.reading() as database:
        found = dags.get_dag(database, dag_id)
    return Shapes(store.config).dag(found)
