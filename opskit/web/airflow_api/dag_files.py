"""/dagSources and /parseDagFile: DAG files, by the token that their DAGs carry."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from opskit.core.metastore.browsing import dags
from opskit.errors import NotFound
from opskit.web.airflow_api.accepting import best_type
from opskit.web.airflow_api.collections import Answer
from opskit.web.airflow_api.dag_models import Shapes
from opskit.web.changes import dags as changes
from opskit.web.faults import NotAcceptable
from opskit.web.gate import SignedIn
from opskit.web.identity import READ
from opskit.web.store import TheStore

router = APIRouter(tags=["DAG"])
_BOTH: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class DagSource(Answer):
    """The text of a DAG file."""

    content: str


@router.get("/dagSources/{file_token}", operation_id="get_dag_source", response_model=DagSource, responses=_BOTH)
def get_dag_source(
    store: TheStore, who: SignedIn, file_token: str, accept: Annotated[str | None, Header()] = None
) -> Response:
    """The text of a DAG file, as it was when its DAGs were loaded. All DAGs in it must be readable."""
    path = Shapes(store.config).path_of(file_token)
    with store.reading() as database:
        dag_ids = dags.dags_of_file(database, path)
        for dag_id in dag_ids:
            who.require(READ, "DAG Code", dag_id)
        source = dags.source_of_file(database, path) if dag_ids else None
    if source is None:
        raise NotFound(f"the source of {path} is not known: no DAG of it is")
    wanted = best_type(accept, ("text/plain", "application/json"))
    if wanted is None:
        raise NotAcceptable("the source of a DAG file comes as text/plain or application/json")
    return PlainTextResponse(source) if wanted == "text/plain" else JSONResponse({"content": source})


@router.put("/parseDagFile/{file_token}", operation_id="reparse_dag_file", status_code=201)
def reparse_dag_file(store: TheStore, who: SignedIn, file_token: str) -> Response:
    """Let the DAG processor load a DAG file anew. All DAGs in it must be changeable."""
    path = Shapes(store.config).path_of(file_token)
    with store.reading() as database:
        dag_ids = dags.dags_of_file(database, path)
    if not dag_ids:
        raise NotFound(f"no DAG of {path} is known")
    changes.load_again(store, who, path, dag_ids)
    return Response(status_code=201)
