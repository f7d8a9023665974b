"""Assets (Airflow 2: datasets): who makes them, whom they start, their events."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore.browsing import datasets, latest
from opskit.core.metastore.browsing.datasets import Dataset
from opskit.core.metastore.browsing.window import Window
from opskit.errors import NotFound
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.pages.paging import PageNumber, Search
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 50
EVENTS = 50
_RESOURCE = "Datasets"


@router.get("/datasets")
def list_assets(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(READ, _RESOURCE))],
    search: Search = "",
    page: PageNumber = 1,
) -> HTMLResponse:
    """By URI, with the last event of each, and what waits for DAGs."""
    readable = who.readable_dags()
    with store.reading() as connection:
        found, total = datasets.datasets(
            connection,
            Window(PER_PAGE, (page - 1) * PER_PAGE, order="uri"),
            uri_pattern=search.strip() or None,
            dag_ids=readable,
        )
        last = latest.last_events(connection, [one.id for one in found])
        waiting = datasets.queued(connection, dag_ids=readable)
    return render(
        request,
        "assets.html",
        assets=[_seen(one, readable) for one in found],
        last=last,
        waiting=waiting,
        search=search,
        page=page,
        pages=max(1, -(-total // PER_PAGE)),
        total=total,
    )


@router.get("/datasets/view")
def one_asset(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(READ, _RESOURCE))],
    uri: str,
    page: PageNumber = 1,
) -> HTMLResponse:
    """One asset and its events, the newest first, with the runs that each has made."""
    readable = who.readable_dags()
    with store.reading() as connection:
        asset = _seen(datasets.dataset(connection, uri), readable)
        if readable is not None and not asset.producers and not asset.consumers:
            raise NotFound(f"there is no asset {uri!r}")
        window = Window(EVENTS, (page - 1) * EVENTS, order="timestamp", descending=True)
        events, total = datasets.events(connection, window, {"asset_id": asset.id})
        waiting = datasets.queued(connection, uri=uri, dag_ids=readable)
    return render(
        request,
        "asset.html",
        asset=asset,
        extra=json.dumps(asset.extra, indent=2, ensure_ascii=False) if asset.extra else "",
        events=[(one, json.dumps(one.extra, ensure_ascii=False) if one.extra else "") for one in events],
        readable=readable,
        waiting=waiting,
        page=page,
        pages=max(1, -(-total // EVENTS)),
        total=total,
    )


def _seen(asset: Dataset, readable: Collection[str] | None) -> Dataset:
    """Without the DAGs that this person may not see."""
    if readable is not None:
        asset.producers = [pair for pair in asset.producers if pair[0] in readable]
        asset.consumers = [dag_id for dag_id in asset.consumers if dag_id in readable]
    return asset
