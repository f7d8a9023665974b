"""The source of a DAG's versions, and what changed between two of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore import dags
from opskit.core.metastore.browsing import versions
from opskit.web.identity import Who
from opskit.web.pages import of_dag, source_code
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter()
Reader = Annotated[Who, Depends(of_dag.reader("DAG Code"))]


@router.get("/dags/{dag_id}/code")
def show(
    request: Request, store: TheStore, who: Reader, dag_id: str, version: str = "", compare: str = ""
) -> HTMLResponse:
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        known = versions.list_versions(connection, dag_id)
        chosen = version or dag.version_hash
        text = versions.source_of(connection, dag_id, chosen)
        other = versions.source_of(connection, dag_id, compare) if compare else None
    names = {one.hash: f"{one.fileloc} of {one.created_at:%Y-%m-%d %H:%M:%S}" for one in known}
    return render(
        request,
        "dag/code.html",
        **of_dag.frame(who, dag, "code"),
        versions=known,
        chosen=chosen,
        compare=compare,
        source=source_code.shown(text) if text is not None and not compare else None,
        has_source=text is not None,
        difference=source_code.difference(
            other or "", text or "", (names.get(compare, compare[:12]), names.get(chosen, chosen[:12]))
        )
        if compare
        else None,
    )
