"""…/xcomEntries: what task instances have left for others."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from opskit.core.metastore.browsing import xcoms
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.browsing.xcoms import ListedXCom, XComFilter
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Answer, Listing, Moment, paged
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["XCom"])
_Reader = Annotated[Who, Depends(allow(READ, "XComs"))]
_Index = Annotated[int, Query(ge=-1, le=2**31 - 1, description="Which one of a mapped task.")]
_ENTRIES = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/xcomEntries"


class XComCollectionItem(Answer):
    """An XCom without its value."""

    key: str
    timestamp: Moment
    execution_date: Moment
    map_index: int
    task_id: str
    dag_id: str


class XCom(XComCollectionItem):
    """An XCom."""

    value: Any = None


class XComCollection(Listing):
    """Some XComs."""

    xcom_entries: list[XComCollectionItem]


@router.get(_ENTRIES, operation_id="get_xcom_entries")
def get_xcom_entries(
    store: TheStore,
    who: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    window: Annotated[Window, paged()],
    map_index: _Index | None = None,
    xcom_key: str | None = None,
) -> XComCollection:
    """List XComs; with ~ in the place of an id, those of all DAGs, runs or tasks."""
    which = XComFilter(
        dag_id=None if dag_id == "~" else dag_id,
        readable=who.readable_dags() if dag_id == "~" else None,
        run_id=None if dag_run_id == "~" else dag_run_id,
        task_id=None if task_id == "~" else task_id,
        map_index=map_index,
        key=xcom_key,
    )
    with store.reading() as database:
        found, total = xcoms.list_xcoms(database, which, window)
    return XComCollection(xcom_entries=[XComCollectionItem(**_item(one)) for one in found], total_entries=total)


@router.get(_ENTRIES + "/{xcom_key:path}", operation_id="get_xcom_entry")
def get_xcom_entry(
    store: TheStore,
    _: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    xcom_key: str,
    map_index: _Index = -1,
    deserialize: Annotated[bool, Query(description="Only false: no code of DAG files runs here.")] = False,
    stringify: Annotated[bool, Query(description="The value as a text: texts as they are, the rest as JSON.")] = True,
) -> XCom:
    """Get an XCom with its value."""
    if deserialize:
        raise UsageError("XComs are not deserialized here: that would run code of DAG files", hint="leave it false")
    with store.reading() as database:
        found, value = xcoms.get_xcom(database, dag_id, dag_run_id, task_id, map_index, xcom_key)
    if stringify and not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    return XCom(**_item(found), value=value)


def _item(one: ListedXCom) -> dict[str, Any]:
    return {
        "key": one.key,
        "timestamp": one.timestamp,
        "execution_date": one.logical_date,
        "map_index": one.map_index,
        "task_id": one.task_id,
        "dag_id": one.dag_id,
    }
